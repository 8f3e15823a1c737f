"""The archive: closed UTC days go from the hot store into the lake, one commit a day.

Run at night by a flow, by hand and by `archive_old_entries`; safe to kill at any instruction, to
run twice and to run twice at once. Nothing in Redis may expire before this module has read its
row back from the lake, or its bytes back from quarantine. It never changes an entry.

What does not pass inspection is kept byte for byte in quarantine. Because those bytes are safe
there, the day counts as archived all the same, and its bad hot copies expire with the good ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from time import monotonic
from typing import Protocol

import polars as pl

from audit_storage.archive.gaps import gaps_of_day
from audit_storage.archive.intake import Intake
from audit_storage.archive.page import CheckedPage, check_page
from audit_storage.archive.quarantine import Quarantine
from audit_storage.archive.report import ArchiveReport, DayReport, LakeDamagedError
from audit_storage.archive.trail_root import UnorderedError
from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.delta_log import OvertakenError
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import entries_of
from audit_storage.lake.transaction import LakeTransaction, Snapshot
from audit_storage.lake.view import LakeView
from audit_storage.layout import archive_app, day_is_closed, month_of, span_of_day
from audit_storage.read_ahead import read_ahead, work_ahead
from claude_max_audit.entry import AuditEntry, entry_hash_of
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query

__all__ = [
    "ArchiveReport",
    "DayReport",
    "LakeDamagedError",
    "archive_closed_days",
    "archive_day",
    "pending_days",
]

ATTEMPTS = 5
"""Times that a day is read again because another archive committed to it first."""

CHECKS_AT_ONCE = 4
"""Pages checked side by side, if there are so many processors: more would wait for Redis, and
each takes some 30 MB."""

INDEX_ROWS = 5_000
"""Entries handed to the index at once: half a minute of embedding."""

Progress = Callable[[date, int, int], None]
"""Told after each chunk: the day, the entries read of it so far, the entries it has."""


class Index(Protocol):
    """What the archive asks of the semantic index: entries may come again, and replace."""

    def add(self, entries: list[AuditEntry]) -> object:
        """Make entries findable by meaning and by words."""


def archive_closed_days(
    lake: Lake,
    hot: HotStore,
    quarantine: Quarantine,
    now: datetime,
    *,
    older_than: datetime | None = None,
    days: Collection[date] | None = None,
    index: Index | None = None,
    progress: Progress | None = None,
    on_day: Callable[[DayReport], None] | None = None,
) -> ArchiveReport:
    """Archive each closed UTC day that Redis holds and the lake lacks in part, oldest first.

    A day is closed when it ended before `now` and before `older_than`; `days` narrows the
    choice. `on_day` is told each finished day at once, so that a later failure does not hide
    it. The index is updated last, and its failure is only reported. Raises
    `LakeUnavailableError`, the hot store's errors and `LakeDamagedError`; what was archived
    before stays archived, and the next run goes on from there.
    """
    hot.prune(now)
    reports = []
    for day in pending_days(lake, hot, quarantine, now, older_than=older_than, days=days):
        reports.append(archive_day(lake, hot, quarantine, day, now, progress=progress))
        if on_day is not None:
            on_day(reports[-1])
    if index is not None:
        reports = [_indexed(lake, index, report) for report in reports]
    return ArchiveReport(tuple(reports))


def pending_days(
    lake: Lake,
    hot: HotStore,
    quarantine: Quarantine,
    now: datetime,
    *,
    older_than: datetime | None = None,
    days: Collection[date] | None = None,
) -> list[date]:
    """Return the closed days that Redis holds and that are not known to be all archived.

    A day is passed over only when its marker says so and Redis holds exactly as many entries
    as lake and quarantine together; anything else is worth reading the day again.
    """
    limit = now if older_than is None else min(now, older_than)
    held = {
        day: entries
        for day, entries in hot.days().items()
        if day_is_closed(day, limit) and (days is None or day in days)
    }
    if not held:
        return []
    counts = lake.days(held)
    complete = hot.complete_days(counts, now)
    bad = quarantine.counts() if complete else {}
    return sorted(
        day
        for day, entries in held.items()
        if day not in complete or entries != counts.get(day, 0) + bad.get(day, 0)
    )


def archive_day(
    lake: Lake,
    hot: HotStore,
    quarantine: Quarantine,
    day: date,
    now: datetime,
    *,
    progress: Progress | None = None,
) -> DayReport:
    """Archive one closed UTC day; see `archive_closed_days`. Doing so again changes nothing."""
    started = monotonic()
    sorts = False
    last: Exception
    for _ in range(ATTEMPTS):
        try:
            report = _archive_once(lake, hot, quarantine, day, now, progress, sorts=sorts)
        except UnorderedError as unordered:
            # Somebody changed a time in Redis; nothing was written yet. Sorting needs more memory.
            sorts, last = True, unordered
            continue
        except OvertakenError as overtaken:
            # Another archive committed first and nothing of ours was published: read the day
            # again; what it brought is now among the known, and often nothing is left.
            last = overtaken
            continue
        return replace(report, seconds=monotonic() - started)
    raise last


def _archive_once(
    lake: Lake,
    hot: HotStore,
    quarantine: Quarantine,
    day: date,
    now: datetime,
    progress: Progress | None,
    *,
    sorts: bool,
) -> DayReport:
    with lake.begin(archive_app(day)) as transaction:
        intake = Intake(day, now, transaction.view.day_hashes(day), sorts=sorts)
        listed = hot.count_day(day)
        with closing(_checked(hot, day, transaction.snapshot)) as pages:
            for page in pages:
                transaction.add_rows(month_of(day), intake.take(page))
                if progress is not None:
                    progress(day, intake.read, max(intake.read, listed))
        # Killed up to here: Redis has everything, the lake nothing new, the next run starts over.
        quarantine.add(day, intake.rejected)
        # Killed here: the rejected are kept; the next run keeps them once and goes on.
        report = DayReport(
            day,
            archived=transaction.rows,
            already=intake.already,
            quarantined=len(intake.rejected),
        )
        if transaction.rows:
            report = _publish(lake, transaction, intake, report)
    held = lake.fresh_view()
    if intake.already:
        # A run that was killed between commit and check leaves rows that nobody has read back.
        _check_rows(held, day, other_than=report.snapshot)
    # Killed here: all is in the lake and checked; the next run finds every entry `already`
    # there, writes nothing and only releases.
    return replace(
        report,
        released=_release(hot, intake, held.days().get(day, 0), now),
        gaps=gaps_of_day(held, day) if report.snapshot is not None else (),
    )


def _checked(hot: HotStore, day: date, snapshot: str) -> Generator[CheckedPage, None, None]:
    """Give the day's pages in order: while some are checked, Redis answers for the next."""
    with closing(read_ahead(hot.read_day(day))) as pages:
        check = partial(check_page, day=day, snapshot=snapshot)
        yield from work_ahead(check, pages, min(CHECKS_AT_ONCE, os.cpu_count() or 1))


def _publish(
    lake: Lake, transaction: LakeTransaction, intake: Intake, report: DayReport
) -> DayReport:
    root = intake.merkle_root().hex()
    snapshot: Snapshot = transaction.commit({"day": report.day.isoformat(), "merkle_root": root})
    # Killed here: the commit is whole; the next run finds its rows `already` there.
    transaction.verify(lake.fresh_view())
    return replace(
        report,
        bytes=snapshot.bytes,
        files=snapshot.files,
        merkle_root=root,
        version=snapshot.version,
        snapshot=snapshot.name,
    )


def _release(hot: HotStore, intake: Intake, archived: int, now: datetime) -> int:
    """Let the hot copies of what is safe expire; what came meanwhile waits for the next run."""
    day = intake.day
    released = 0
    if intake.rejected_ids:
        released = hot.release_day(day, archived, now, intake.rejected_ids)
    # Killed here: the good ones have no expiry yet and the day no marker; the next run releases.
    return released + hot.release_day(day, archived, now, intake.accepted_ids)


def _check_rows(view: LakeView, day: date, *, other_than: str | None) -> None:
    """Rebuild every row's bytes and compare with its hash; raises `LakeDamagedError`."""
    for frame in view.scan(Query(span=span_of_day(day))):
        rows = frame.filter(pl.col("snapshot") != other_than) if other_than else frame
        proofs = zip(canonical_of(rows), *rows.select("entry_hash", "entry_id"), strict=True)
        for canonical, entry_hash, entry_id in proofs:
            if entry_hash_of(canonical) != entry_hash:
                raise LakeDamagedError(view.uri, day, entry_id)


def _indexed(lake: Lake, index: Index, report: DayReport) -> DayReport:
    """Give a day's new entries to the index. Its failure never undoes the archive."""
    if report.snapshot is None:
        return report
    try:
        for frame in lake.scan(Query(span=span_of_day(report.day)), INDEX_ROWS):
            index.add(entries_of(frame.filter(pl.col("snapshot") == report.snapshot)))
    except Exception as failed:
        # Killed or failed here: the lake is whole, the index lacks entries, and a reindex
        # finds them by comparing with the lake.
        return replace(report, index_error=f"{type(failed).__name__}: {failed}")
    return report
