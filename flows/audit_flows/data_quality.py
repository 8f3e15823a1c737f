"""The job `data-quality`: archived days are checked by Great Expectations, row by row.

Without a day it takes every one that was not yet found whole with as many rows as it has now, so
a day that failed is checked again every night until it is mended. A failed check fails the run
and names the rows. Then the days' counts in Redis, lake and index are compared; what differs is
told and fails nothing, since the next archive or reindex mends it. Changes no store.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from audit_flows.amounts import counted, days
from audit_flows.job_run import (
    SUCCEEDED,
    JobRun,
    begun,
    job_run,
    job_step,
    name_run,
)
from audit_flows.parameters import Day
from audit_flows.stores import Stores, open_stores
from audit_quality.day_quality import check_day
from audit_quality.reconcile import reconcile
from audit_quality.report import QualityFailedError, QualityReport
from audit_storage.jobs import JobTable
from audit_storage.layout import day_is_closed
from claude_max_audit.errors import RedisRefusedError, RedisUnavailableError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import load_settings

JOB = "data-quality"

ALL_RECORDS = 1_000_000
"""Rows of the job table that are looked through for days already checked: all of them."""


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def data_quality(day: Day | None = None) -> tuple[QualityReport, ...]:
    """Check one archived UTC day, or every one that has not been found whole yet.

    Raises `ValueError` for a day that the lake does not hold, `QualityFailedError` with every
    failed check and its rows, and what the lake raises.
    """
    with job_run(JOB, load_settings()) as run:
        reports = tuple(check_archived_day(one) for one in _days_to_check(day))
        for report in reports:
            _record(run, report)
        if not reports:
            run.record(details={"found": "nothing to check"})
            print("nothing to check: every archived day was found whole")
        if day is None and (differing := compare_stores()):
            run.record(details={"stores_differ": list(differing)})
        failed = tuple(report for report in reports if not report.passed)
        name_run(_name(reports, failed))
    if failed:
        # Past the run's record: each failed day has its own row already.
        raise QualityFailedError(failed)
    return reports


@job_step
def check_archived_day(day: date) -> QualityReport:
    """Check one day from the lake's own bytes."""
    with open_stores() as stores:
        report = check_day(stores.lake, day)
    entries, checks = counted(report.rows, "entry"), counted(len(report.checks), "check")
    print(f"{day}: {entries}, {checks}, {_verdict(report)}")
    for check in report.failed_checks:
        print(f"{day}: {check}")
    return report


@task(cache_policy=NO_CACHE, log_prints=True)
def compare_stores() -> tuple[str, ...]:
    """Return, in words, each closed day whose counts in Redis, lake and index differ."""
    now = datetime.now(UTC)
    with open_stores() as stores:
        differing = tuple(
            f"{tally.day}: {finding}"
            for tally in reconcile(
                stores.lake,
                _redis(stores),
                stores.index,
                now,
                hot_days=stores.settings.hot_storage_days,
                quarantined={one.entry_id for one in stores.quarantine.list() if one.entry_id},
            )
            if day_is_closed(tally.day, now)
            for finding in tally.findings
        )
    for line in differing:
        print(line)
    return differing


def _redis(stores: Stores) -> HotStore | None:
    """Return Redis, or None where it is away: the checks of the lake do not depend on it."""
    try:
        stores.hot.ping()
    except (RedisUnavailableError, RedisRefusedError) as away:
        print(f"Redis was not compared: {away}")
        return None
    return stores.hot


def _days_to_check(day: date | None) -> list[date]:
    with open_stores() as stores:
        held = stores.lake.days()
        if day is None:
            whole = _whole_days(stores.jobs)
            return [one for one, rows in held.items() if whole.get(one) != rows]
    if day not in held:
        raise ValueError(f"the lake holds no entries of {day}")
    return [day]


def _whole_days(jobs: JobTable) -> dict[date, int]:
    """Return the rows of each day whose newest check passed."""
    newest = {record.day: record for record in reversed(jobs.history(JOB, ALL_RECORDS))}
    return {
        day: record.rows
        for day, record in newest.items()
        if day is not None and record.result == SUCCEEDED
    }


def _record(run: JobRun, report: QualityReport) -> None:
    errors = [str(check) for check in report.failed_checks]
    run.record(
        day=report.day,
        rows=report.rows,
        details={
            "checks": len(report.checks),
            "duplicated_contents": report.duplicated_contents,
            "failed_checks": [check.name for check in report.failed_checks],
        },
        error="\n".join(errors) or None,
    )


def _verdict(report: QualityReport) -> str:
    failed = len(report.failed_checks)
    return f"{failed} FAILED" if failed else "all passed"


def _name(reports: tuple[QualityReport, ...], failed: tuple[QualityReport, ...]) -> str:
    if not reports:
        return "nothing to check"
    span = days(reports[0].day, reports[-1].day)
    rows = sum(report.rows for report in reports)
    verdict = f"{counted(len(failed), 'day')} FAILED" if failed else "all whole"
    return f"{span}: {counted(rows, 'entry')}, {verdict}"
