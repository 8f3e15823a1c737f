"""The job `data-quality`: Great Expectations checks what is archived: days, months, all years.

Without parameters it takes every day that was not yet found whole with as many rows as it has now,
so a day that failed is checked again every night until it is mended. A failed check fails the run
and names the rows, copies of which go to quarantine; a warning (a late entry, an index that is
behind, an unusual volume) is told and fails nothing. What Redis, lake and index hold of the days
that were not checked is compared as well. What was found stands in the Data Docs, to which the
run links. Changes no entry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
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
from audit_flows.links import Links
from audit_flows.parameters import LAST_MONTH, CheckedMonth, Day
from audit_flows.stores import Stores, open_stores
from audit_quality.data_docs.address import address_of, page_of, path_of
from audit_quality.data_docs.site import DataDocs
from audit_quality.day_quality import check_day
from audit_quality.month_quality import check_month
from audit_quality.report import QualityFailedError, QualityReport
from audit_quality.surroundings import Surroundings
from audit_quality.years_quality import check_years
from audit_storage.archive.quarantine import OF_LAKE, Rejected
from audit_storage.jobs import JobTable
from audit_storage.layout import day_is_closed, month_of
from audit_storage.verify.commit_records import CommitRecords
from claude_max_audit.errors import RedisRefusedError, RedisUnavailableError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import Settings, load_settings

JOB = "data-quality"

ALL_RECORDS = 1_000_000
"""Rows of the job table that are looked through for days already checked: all of them."""

REPORT_ARTIFACT = f"{JOB}-report"
"""Key of the artifact that links a run to its pages."""

_HEAD = ["", "| checked | result | entries | page |", "|---|---|---:|---|"]


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def data_quality(
    day: Day | None = None, month: CheckedMonth | None = None, all_years: bool = False
) -> tuple[QualityReport, ...]:
    """Check one archived UTC day, one month or all years, or every day not found whole yet.

    Raises `ValueError` for a day or month that the lake does not hold, `QualityFailedError` with
    every failed check and its rows, and what the lake raises.
    """
    settings = load_settings()
    with job_run(JOB, settings) as run, open_stores(settings) as stores:
        around, remarks = _surroundings(stores)
        reports = tuple(_checked(stores, around, day, month, all_years))
        for report in reports:
            _record(run, report)
        if not reports:
            run.record(details={"found": "nothing to check"})
            print("nothing to check: every archived day was found whole")
        nightly = day is None and month is None and not all_years
        if nightly and (differing := compare_stores(around)):
            run.record(details={"stores_differ": list(differing)})
        for remark in remarks:
            print(remark)
        publish(reports, settings)
        failed = tuple(report for report in reports if not report.passed)
        name_run(_name(reports, failed))
    if failed:
        # Past the run's record: each failed day has its own row already.
        raise QualityFailedError(failed)
    return reports


def _checked(
    stores: Stores, around: Surroundings, day: date | None, month: str | None, all_years: bool
) -> Iterator[QualityReport]:
    """Check what is asked for; with nothing asked, the days that were not found whole."""
    if day is not None or (month is None and not all_years):
        for one in _days_to_check(stores, day):
            yield check_archived_day(stores, around, one)
    if month is not None:
        yield check_archived_month(stores, around, _month_to_check(stores, month))
    if all_years:
        yield check_all_years(stores)


@job_step
def check_archived_day(stores: Stores, around: Surroundings, day: date) -> QualityReport:
    """Check one day from the lake's own bytes."""
    return _kept(stores, check_day(stores.lake, day, around))


@job_step
def check_archived_month(stores: Stores, around: Surroundings, month: str) -> QualityReport:
    """Check what only shows across the days of a month."""
    return _kept(stores, check_month(month, around))


@job_step
def check_all_years(stores: Stores) -> QualityReport:
    """Check that every id and every hash of the lake is there once."""
    return _kept(stores, check_years(stores.lake))


def _kept(stores: Stores, report: QualityReport) -> QualityReport:
    """Tell what was found, and put copies of the rows that failed into quarantine."""
    entries, checks = counted(report.rows, "entry"), counted(len(report.checks), "check")
    print(f"{report.subject}: {entries}, {checks}, {_verdict(report)}")
    for check in report.failed_checks:
        print(f"{report.subject}: {check}")
    at = datetime.now(UTC)
    by_day: dict[date, list[Rejected]] = defaultdict(list)
    for row in report.faulty_rows:
        reason = OF_LAKE + ", ".join(row.reasons)
        by_day[row.day].append(Rejected(row.day, row.entry_id, reason, row.text, at))
    # Killed here: the next run finds the same rows, and adds those that are not kept yet.
    copied = sum(stores.quarantine.add(day, rows) for day, rows in by_day.items())
    if copied:
        print(f"{report.subject}: {counted(copied, 'row')} copied to quarantine")
    return report


@task(cache_policy=NO_CACHE, log_prints=True)
def compare_stores(around: Surroundings) -> tuple[str, ...]:
    """Return, in words, each closed day whose counts in Redis, lake and index differ."""
    differing = tuple(
        f"{tally.day}: {finding}"
        for tally in around.tally.values()
        if day_is_closed(tally.day, around.now)
        for finding in tally.findings
    )
    for line in differing:
        print(line)
    return differing


def publish(reports: tuple[QualityReport, ...], settings: Settings) -> None:
    """Write the pages of the reports, and link them to the run."""
    folder, links = settings.quality_docs, Links(settings)
    DataDocs(folder).publish(reports)

    def address(subject: str | None = None) -> str:
        """Where a browser finds a page: served by `claude-audit up`, else on the disk."""
        return links.address_of(path_of(folder, subject)) or address_of(folder, subject)

    lines = [
        f"| [{report.subject}]({address(report.subject)}) | {report.verdict} "
        f"| {report.rows:,} | `{path_of(folder, report.subject)}` |"
        for report in reports
    ]
    create_markdown_artifact(
        key=REPORT_ARTIFACT,
        markdown="\n".join(
            [
                f"[Every day at a glance]({address()}), `{path_of(folder)}`",
                *(
                    ["", "| checked | result | entries | page |", "|---|---|---:|---|"]
                    if lines
                    else []
                ),
                *lines,
                "",
                "Without `claude-audit up`, a browser may refuse to follow these: open the path.",
            ]
        ),
        description="What the last run of `data-quality` found, and where its pages are.",
    )


def _surroundings(stores: Stores) -> tuple[Surroundings, tuple[str, ...]]:
    """Gather what days are held against; returns it, and what has to be said of it."""
    hot, remarks = _redis(stores)
    around = Surroundings(
        stores.lake,
        datetime.now(UTC),
        commits=CommitRecords(stores.settings).read(),
        receipts=stores.receipts,
        rejected=stores.quarantine.list(),
        checked=stores.jobs.history(JOB, ALL_RECORDS),
        hot=hot,
        index=stores.index,
        hot_days=stores.settings.hot_storage_days,
    )
    return around, remarks


def _redis(stores: Stores) -> tuple[HotStore | None, tuple[str, ...]]:
    """Return Redis, or None where it is away: the checks of the lake do not depend on it."""
    try:
        stores.hot.ping()
    except (RedisUnavailableError, RedisRefusedError) as away:
        return None, (f"Redis was not compared: {away}",)
    return stores.hot, ()


def _days_to_check(stores: Stores, day: date | None) -> list[date]:
    held = stores.lake.days()
    if day is None:
        whole = _whole_days(stores.jobs)
        return [one for one, rows in held.items() if whole.get(one) != rows]
    if day not in held:
        raise ValueError(f"the lake holds no entries of {day}")
    return [day]


def _month_to_check(stores: Stores, month: str) -> str:
    if month == LAST_MONTH:
        return month_of(datetime.now(UTC).date().replace(day=1) - timedelta(days=1))
    if all(month_of(day) != month for day in stores.lake.days()):
        raise ValueError(f"the lake holds no entries of {month}")
    return month


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
    about = {} if report.day else {"subject": report.subject}
    watched = {"duplicated_contents": report.duplicated_contents} if report.day else {}
    run.record(
        day=report.day,
        rows=report.rows,
        details={
            **about,
            "checks": len(report.checks),
            **watched,
            "repeated": report.measures.get("repeated"),
            "failed_checks": [check.name for check in report.failed_checks],
            "warnings": [check.name for check in report.warnings],
            "report": page_of(report.subject),
        },
        error="\n".join(errors) or None,
    )


def _verdict(report: QualityReport) -> str:
    failed, warned = len(report.failed_checks), len(report.warnings)
    told = f", {counted(warned, 'warning')}" if warned else ""
    return f"{failed} FAILED{told}" if failed else f"all passed{told}"


def _name(reports: tuple[QualityReport, ...], failed: tuple[QualityReport, ...]) -> str:
    if not reports:
        return "nothing to check"
    named = [report.day for report in reports if report.day]
    span = days(named[0], named[-1]) if named else ", ".join(one.subject for one in reports)
    rows = sum(report.rows for report in reports)
    what = "day" if named else "report"
    verdict = f"{counted(len(failed), what)} FAILED" if failed else "all whole"
    return f"{span}: {counted(rows, 'entry')}, {verdict}"
