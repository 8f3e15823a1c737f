"""What a purge would take, what holds keep from it, and how much it may take. Changes nothing.

The command line shows a plan before anything happens; the purge makes its own on the version that
it removes from, by the same rule, and refuses what is more than the cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.lake.delta_log import answering
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.view import LakeView
from audit_storage.purge.due import DueRule
from audit_storage.purge.holds import HoldBook, LegalHold, protects
from audit_storage.purge.policy import RetentionPolicy, Term, terms_sha256
from audit_storage.purge.rejected import rejected_due
from audit_storage.purge.retention import check_cutoff
from claude_max_audit.errors import TerminalError

MOST_SHARE = 0.05
"""Share of the lake that one purge may remove without being told. A night's purge takes a
2,557th, a month without one a hundredth; more than a twentieth is rather a clock that is wrong
or a policy that was mistyped, and nothing brings the entries back."""

ALWAYS_ALLOWED = 10_000
"""Entries that one purge may remove whatever their share: days of a small or young lake."""


class PurgeTooLargeError(TerminalError):
    """A purge would remove more than it may unless told; nothing was removed."""

    def __init__(self, rows: int, at_most: int, entries: int) -> None:
        self.rows = rows
        self.at_most = at_most
        self.entries = entries
        super().__init__(
            f"the purge would remove {rows:,} of {entries:,} entries, and one run may remove "
            f"{at_most:,} unless it is told; nothing was removed. Look at the plan, the clock and "
            f"the policy, and if this is meant give at_most={rows}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRows:
    """What one hold keeps from a purge: entries whose time is over and that are not permanent.

    `bytes` is their share of their files, compressed. An entry under two holds counts in both.
    """

    hold_id: str
    placed_by: str
    placed_at: datetime
    reason: str
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgePlan:
    """What a purge would remove now. `bytes` is the rows' share of their files, compressed.

    `cutoff` is the instant after which nothing is due, `rule` the cutoffs of each type and
    swarm, `terms` the policy as JSON text. `held` tells each active hold with what it protects,
    `held_kept` the entries that at least one protects. `rejected` is what goes of the quarantine,
    each as its day and its SHA-256. `at_most` is what one run may remove.
    """

    policy: str
    cutoff: datetime
    days: dict[date, int]
    rows: int
    bytes: int
    permanent_kept: int
    lake_version: int
    terms: str = ""
    rule: DueRule | None = None
    held: tuple[HeldRows, ...] = ()
    held_kept: int = 0
    rejected: tuple[str, ...] = ()
    at_most: int = ALWAYS_ALLOWED

    @property
    def exceeds_cap(self) -> bool:
        """Say whether the purge will refuse unless it is given `at_most`."""
        return self.total > self.at_most

    @property
    def total(self) -> int:
        """Everything that goes: rows of the lake, and what lies in quarantine."""
        return self.rows + len(self.rejected)

    @property
    def first_and_last_day(self) -> tuple[date, date]:
        """The UTC days of the oldest and the newest of what goes; raises where nothing does."""
        of_rejected = [date.fromisoformat(name.partition("/")[0]) for name in self.rejected]
        days = [*self.days, *of_rejected]
        return min(days), max(days)

    @property
    def policy_sha256(self) -> str:
        """SHA-256 (hex) of the policy's terms, as the receipt names it."""
        return terms_sha256(self.terms)

    @property
    def due_rule(self) -> DueRule:
        """The rule that the purge carries out."""
        return DueRule(self.cutoff) if self.rule is None else self.rule


@dataclass(slots=True)
class _Tally:
    """Counts over the files that may hold something due."""

    days: dict[date, int] = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    permanent: int = 0
    held: int = 0
    of_holds: dict[str, tuple[int, int]] = field(default_factory=dict)


def plan_purge(
    lake: Lake,
    now: datetime,
    *,
    years: int | None = None,
    older_than_days: int | None = None,
    policy: RetentionPolicy | None = None,
    at_most: int | None = None,
) -> PurgePlan:
    """Say what is due at `now`, by a policy, by calendar `years` or by days; changes nothing.

    Holds are read here, whoever calls. `at_most` is the most that the run may remove; None: a
    `MOST_SHARE` of the lake. Raises `ValueError` when not exactly one of the three is given, or
    below the floor.
    """
    given = [one for one in (years, older_than_days, policy) if one is not None]
    if len(given) != 1:
        raise ValueError(
            "give one of policy, years and older_than_days, not both and not neither"
        )
    if policy is None:
        policy = RetentionPolicy(Term(years=years, days=older_than_days))
    rule = policy.due_rule(now)
    check_cutoff(rule.latest, now)
    holds = HoldBook(lake.settings).active()
    rejected = rejected_due(Quarantine(lake.settings), rule, holds)
    return plan_of(lake.view(), str(policy), policy.terms, rule, holds, rejected, at_most)


def plan_of(
    view: LakeView,
    policy: str,
    terms: str,
    rule: DueRule,
    holds: Sequence[LegalHold],
    rejected: Sequence[Rejected] = (),
    at_most: int | None = None,
) -> PurgePlan:
    """Count what is due in one version of the lake, and what each hold protects; `rejected` is
    what goes of the quarantine."""
    tally = _Tally()
    for file in old_files(view, rule):
        _count(view, file, rule, holds, tally)
    return PurgePlan(
        policy=policy,
        terms=terms,
        cutoff=rule.latest,
        rule=rule,
        days=dict(sorted(tally.days.items())),
        rows=tally.rows,
        bytes=tally.bytes,
        permanent_kept=tally.permanent,
        lake_version=view.version,
        held=tuple(_held_rows(hold, tally) for hold in holds),
        held_kept=tally.held,
        rejected=tuple(f"{one.day}/{one.text_hash}" for one in rejected),
        at_most=_cap(view.count()) if at_most is None else at_most,
    )


def old_files(view: LakeView, rule: DueRule) -> list[LakeFile]:
    """Return the files in which something may be due."""
    return [file for file in view.files if file.start < rule.latest]


def _cap(entries: int) -> int:
    return max(ALWAYS_ALLOWED, int(entries * MOST_SHARE))


def _count(
    view: LakeView, file: LakeFile, rule: DueRule, holds: Sequence[LegalHold], tally: _Tally
) -> None:
    """Count one file; its columns are read once for all that is asked."""
    past, standard, due = rule.is_past(), rule.is_standard(), rule.is_due(holds)
    day = pl.col("timestamp").dt.date().alias("day")
    questions = [
        due.sum().alias("due"),
        standard.sum().alias("standard"),
        past.sum().alias("past"),
        *((standard & protects(hold)).sum().alias(hold.hold_id) for hold in holds),
    ]
    rows = view.rows_of([file]).filter(past)
    with answering(view.uri):
        answers, days = pl.collect_all(
            [rows.select(questions), rows.filter(due).group_by(day).len()]
        )
    counts: dict[str, Any] = answers.row(0, named=True)
    tally.rows += counts["due"]
    tally.bytes += file.bytes * counts["due"] // file.rows
    tally.permanent += counts["past"] - counts["standard"]
    tally.held += counts["standard"] - counts["due"]
    for moment, number in days.rows():
        tally.days[moment] = tally.days.get(moment, 0) + number
    for hold in holds:
        so_far, size = tally.of_holds.get(hold.hold_id, (0, 0))
        number = counts[hold.hold_id]
        tally.of_holds[hold.hold_id] = (so_far + number, size + file.bytes * number // file.rows)


def _held_rows(hold: LegalHold, tally: _Tally) -> HeldRows:
    rows, size = tally.of_holds.get(hold.hold_id, (0, 0))
    return HeldRows(
        hold_id=hold.hold_id,
        placed_by=hold.placed_by,
        placed_at=hold.placed_at,
        reason=hold.reason,
        rows=rows,
        bytes=size,
    )
