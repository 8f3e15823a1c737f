"""The job `daily-archive`: every closed UTC day that the lake lacks goes there, oldest first.

The days come from what is missing, never from the clock alone, so the first run after an outage
catches up. It may be killed, retried or run twice at once (see `audit_storage.archive.archive`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Annotated

from prefect import flow
from pydantic import Field

from audit_flows.amounts import counted, days, size
from audit_flows.job_run import (
    JobRun,
    begun,
    job_run,
    job_step,
    name_run,
)
from audit_flows.overview_grid import ROOT_CHARACTERS
from audit_flows.parameters import ClosedDay
from audit_flows.stores import Stores, open_stores
from audit_storage.archive.archive import ArchiveReport, DayReport, archive_closed_days
from audit_storage.archive.gaps import gaps_told
from audit_storage.overview import NARROWED
from claude_max_audit.entry import AuditEntry
from claude_max_audit.settings import load_settings

JOB = "daily-archive"

TELL_SECONDS = 5.0
"""Least time between two lines of the log about the index."""


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def daily_archive(
    day: ClosedDay | None = None, older_than_days: Annotated[int, Field(ge=0)] = 0
) -> ArchiveReport:
    """Archive one closed UTC day, or every one that the lake lacks.

    `older_than_days` leaves the newest days in Redis alone. Raises `ValueError` for a day that
    is not over, and what the stores raise.
    """
    with job_run(JOB, load_settings()) as run:
        narrowed = day is not None or older_than_days > 0
        report = archive_days(day, older_than_days)
        if not report.days:
            run.record(details={"found": "nothing to archive", NARROWED: narrowed})
            print("nothing to archive: the lake holds every closed day that Redis has")
        if report.index_behind:
            lacking = [missed.isoformat() for missed in report.index_behind]
            run.record(details={"index_lacks": lacking, NARROWED: narrowed})
            reason = next(one.index_error for one in report.days if one.index_error)
            print(f"the index lacks {', '.join(lacking)} until the job reindex ran: {reason}")
        name_run(_name(report))
        return report


@job_step
def archive_days(day: date | None, older_than_days: int) -> ArchiveReport:
    """Archive the days; each has its row in the job table before the next one begins."""
    now = datetime.now(UTC)
    narrowed = day is not None or older_than_days > 0
    with open_stores() as stores:
        run = JobRun(JOB, stores.jobs)
        hot = stores.hot
        if stores.carried:
            print(f"{counted(stores.carried, 'entry')} of processes that ended came from the spool")
        return archive_closed_days(
            stores.lake,
            hot,
            stores.quarantine,
            now,
            older_than=now - timedelta(days=older_than_days),
            days=None if day is None else [day],
            index=_LateIndex(stores),
            on_day=lambda report: _record(run, report, narrowed),
        )


class _LateIndex:
    """The index, opened when the first entries come: a broken one must not stop the archive."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._indexed = 0
        self._told_at = monotonic()

    def add(self, entries: list[AuditEntry]) -> object:
        added = self._stores.index.add(entries, self._tell)
        self._indexed += len(entries)
        return added

    def _tell(self, done: int, _: int) -> None:
        """Print how far the index is; it is the slowest part of an archive."""
        if monotonic() - self._told_at >= TELL_SECONDS:
            self._told_at = monotonic()
            print(f"index: {counted(self._indexed + done, 'entry')} by words and by meaning")


def _record(run: JobRun, report: DayReport, narrowed: bool) -> None:
    run.record(
        day=report.day,
        rows=report.archived,
        bytes=report.bytes,
        merkle_root=report.merkle_root,
        details={
            "already": report.already,
            "quarantined": report.quarantined,
            "released": report.released,
            "files": report.files,
            "lake_version": report.version,
            "snapshot": report.snapshot,
            "gaps": [gap._asdict() for gap in report.gaps],
            NARROWED: narrowed,
        },
    )
    root = f", root {report.merkle_root[:ROOT_CHARACTERS]}" if report.merkle_root else ""
    bad = f", {report.quarantined:,} in quarantine" if report.quarantined else ""
    known = f", {report.already:,} were there" if report.already else ""
    entries = counted(report.archived, "entry")
    print(f"{report.day}: {entries}, {size(report.bytes)}{known}{bad}{root}")
    if report.gaps:
        print(f"{report.day}: the lake lacks numbers {gaps_told(report.gaps)}")


def _name(report: ArchiveReport) -> str:
    if not report.days:
        return "nothing to archive"
    span = days(report.days[0].day, report.days[-1].day)
    return f"{span}: {counted(report.archived, 'entry')}"
