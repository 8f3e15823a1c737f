"""What became of each UTC day: archived, checked, sealed, held, purged, or missed.

Made from the lake's own tables alone, so it is as good as the record, whatever the scheduler
remembers. Read by the jobs, which publish it after every run, and by `claude-audit history`.
Changes nothing; only the files of the days that are asked for are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

import polars as pl

from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.delta_log import answering
from audit_storage.lake.lake import Lake
from audit_storage.layout import ONE_DAY, day_is_closed, span_of_day
from audit_storage.purge.holds import HoldBook, held_by
from claude_max_audit.query import Span

ARCHIVE, QUALITY, PURGE = "daily-archive", "data-quality", "retention-purge"

LATE_AFTER = timedelta(hours=26)
"""A closed day that no archive has looked at for so long counts as missed, not as waiting: the
archive runs once a day and may end two hours later than the last time."""

NARROWED = "narrowed"
"""Detail of an archive's rows when it was told to look at some days only."""

_ALL_RECORDS = 1_000_000
_SUCCEEDED = "succeeded"


class DayState(StrEnum):
    """What became of a day; `missed` and `failed` are for somebody to look at."""

    ARCHIVED = "archived"
    EMPTY = "empty"
    """An archive has looked since, and there was nothing."""
    OPEN = "open"
    """The day is not over."""
    WAITING = "waiting"
    """It is over, and the archive is not due yet or not late."""
    FAILED = "failed"
    MISSED = "missed"
    BEFORE = "before"
    """The trail had not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOverview:
    """One UTC day. Numbers are entries.

    `checked` is the result of the newest quality check, `root` the Merkle root of the newest
    commit, `purged` what purges of that calendar day removed; None: there was none. `runs` are
    the newest job records behind each cell.
    """

    day: date
    state: DayState
    entries: int = 0
    checked: str | None = None
    root: str | None = None
    held: int = 0
    purged: int | None = None
    runs: Mapping[str, JobRecord] = field(default_factory=dict)

    @property
    def stands_out(self) -> bool:
        """Say whether somebody should look at this day."""
        return self.state in (DayState.MISSED, DayState.FAILED) or self.checked == "failed"


def overview(lake: Lake, jobs: JobTable, now: datetime, days: int) -> list[DayOverview]:
    """Return the newest `days` UTC days up to now, newest first."""
    today = now.date()
    wanted = [today - timedelta(days=back) for back in range(days)]
    counts = _counts(lake, wanted[-1], today)
    records = jobs.history(limit=_ALL_RECORDS)
    begin = _begin(lake, records)
    return [_day(day, counts.get(day, (0, 0)), records, begin, now) for day in wanted]


def _counts(lake: Lake, first: date, last: date) -> dict[date, tuple[int, int]]:
    """Return each day's entries, and how many of them a hold protects."""
    span = Span(span_of_day(first).start, span_of_day(last).end)
    view = lake.view()
    files = [file for file in view.files if file.touches(span)]
    if not files:
        return {}
    holds = HoldBook(lake.settings).active()
    condition = held_by(holds)
    held = pl.lit(0, pl.UInt32) if condition is None else condition.sum()
    day = pl.col("timestamp").dt.date().alias("day")
    with answering(view.uri):
        rows = view.rows_of(files).group_by(day).agg(pl.len(), held.alias("held")).collect()
    return {one: (entries, kept) for one, entries, kept in rows.rows()}


def _begin(lake: Lake, records: Sequence[JobRecord]) -> date | None:
    """Return the first day that the trail can have had: of its oldest entry or oldest run."""
    days = [file.start.date() for file in lake.view().files]
    days += [records[-1].started_at.date()] if records else []
    return min(days, default=None)


def _day(
    day: date,
    counts: tuple[int, int],
    records: Sequence[JobRecord],
    begin: date | None,
    now: datetime,
) -> DayOverview:
    entries, held = counts
    archive = _newest(records, ARCHIVE, day)
    check = _newest(records, QUALITY, day)
    purges = [one for one in records if _is_purge_of(one, day)]
    runs = {ARCHIVE: archive, QUALITY: check, PURGE: purges[0] if purges else None}
    return DayOverview(
        day=day,
        state=_state(day, entries, records, begin, now),
        entries=entries,
        checked=None if check is None else check.result,
        root=_root(records, day),
        held=held,
        purged=sum(one.rows for one in purges) if purges else None,
        runs={job: record for job, record in runs.items() if record is not None},
    )


def _state(
    day: date,
    entries: int,
    records: Sequence[JobRecord],
    begin: date | None,
    now: datetime,
) -> DayState:
    if not day_is_closed(day, now):
        return DayState.OPEN
    if entries:
        return DayState.ARCHIVED
    if begin is None or day < begin:
        return DayState.BEFORE
    end = span_of_day(day).start + ONE_DAY
    since = [one for one in records if one.job == ARCHIVE and one.started_at >= end]
    if any(one.result == _SUCCEEDED and not one.details.get(NARROWED) for one in since):
        return DayState.EMPTY
    if since and since[0].result != _SUCCEEDED:
        return DayState.FAILED
    return DayState.WAITING if now < end + LATE_AFTER else DayState.MISSED


def _newest(records: Sequence[JobRecord], job: str, day: date) -> JobRecord | None:
    return next((one for one in records if one.job == job and one.day == day), None)


def _is_purge_of(record: JobRecord, day: date) -> bool:
    """A dry run removed nothing, and is no purge."""
    if record.job != PURGE or record.started_at.date() != day:
        return False
    return record.result == _SUCCEEDED and not record.details.get("dry_run")


def _root(records: Sequence[JobRecord], day: date) -> str | None:
    """Return the newest root: a later look that found nothing new has none of its own."""
    of_day = (one for one in records if one.job == ARCHIVE and one.day == day)
    return next((one.merkle_root for one in of_day if one.merkle_root), None)
