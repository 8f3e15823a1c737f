"""What a purge would take, and the one rule by which it takes it. Changes nothing.

The command line shows a plan before anything happens, the purge carries out the same rule. A row
is due when it is marked standard and happened before the cutoff; whatever is unclear stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from audit_storage.lake.delta_log import answering
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.view import LakeView
from audit_storage.purge.retention import check_cutoff, cutoff_by_days, cutoff_by_years
from claude_max_audit.vocabulary import Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgePlan:
    """What a purge would remove now. `bytes` is the rows' share of their files, compressed."""

    policy: str
    cutoff: datetime
    days: dict[date, int]
    rows: int
    bytes: int
    permanent_kept: int
    lake_version: int


def plan_purge(
    lake: Lake,
    now: datetime,
    *,
    years: int | None = None,
    older_than_days: int | None = None,
) -> PurgePlan:
    """Say what is due at `now`, by calendar `years` or by a number of days; changes nothing.

    Raises `ValueError` when not exactly one of the two is given, or below the floor.
    """
    if (years is None) == (older_than_days is None):
        raise ValueError("give either years or older_than_days, not both and not neither")
    if years is not None:
        policy, cutoff = f"{years} calendar years", cutoff_by_years(now, years)
    else:
        assert older_than_days is not None
        policy = f"older than {older_than_days} days"
        cutoff = cutoff_by_days(now, older_than_days)
    return plan_of(lake.view(), policy, check_cutoff(cutoff, now))


def plan_of(view: LakeView, policy: str, cutoff: datetime) -> PurgePlan:
    """Count what is due before `cutoff` in one version of the lake."""
    days: dict[date, int] = {}
    rows = size = permanent = 0
    for file in old_files(view, cutoff):
        counted = _due_days(view, file, cutoff)
        due = sum(counted.values())
        for day, number in counted.items():
            days[day] = days.get(day, 0) + number
        rows += due
        size += file.bytes * due // file.rows
        permanent += view.matching(file, pl.col("timestamp") < _instant(cutoff)) - due
    return PurgePlan(
        policy=policy,
        cutoff=cutoff,
        days=dict(sorted(days.items())),
        rows=rows,
        bytes=size,
        permanent_kept=permanent,
        lake_version=view.version,
    )


def old_files(view: LakeView, cutoff: datetime) -> list[LakeFile]:
    """Return the files in which something may be due."""
    return [file for file in view.files if file.start < cutoff]


def _instant(moment: datetime) -> pl.Expr:
    return pl.lit(moment, pl.Datetime("us", "UTC"))


def is_due(cutoff: datetime) -> pl.Expr:
    """The rule itself: only what is plainly marked standard goes; all else stays."""
    standard = pl.col("retention") == Retention.STANDARD.value
    return (standard & (pl.col("timestamp") < _instant(cutoff))).fill_null(False)


def _due_days(view: LakeView, file: LakeFile, cutoff: datetime) -> dict[date, int]:
    day = pl.col("timestamp").dt.date().alias("day")
    due = view.rows_of([file]).filter(is_due(cutoff)).select(day).group_by("day").len()
    with answering(view.uri):
        return dict(due.collect().rows())


