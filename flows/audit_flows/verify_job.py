"""The job `verify`: every claim of the lake is computed anew from its stored bytes.

Weekly, and by hand for some days. It reads the lake only and changes nothing; a finding fails
the run and is named (see `audit_storage.verify.verify`).
"""

from __future__ import annotations

from datetime import date

from prefect import flow

from audit_flows.amounts import counted
from audit_flows.job_run import JobRun, begun, job_run, job_step, name_run
from audit_flows.lake_not_whole import PRINTED_FINDINGS, LakeNotWholeError, line_of
from audit_flows.parameters import Day
from audit_flows.stores import open_stores
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.findings import VerifyReport
from audit_storage.verify.verify import verify
from claude_max_audit.settings import load_settings

JOB = "verify"

@flow(name=JOB, flow_run_name=begun, log_prints=True)
def verify_job(day: Day | None = None) -> VerifyReport:
    """Verify the whole lake, or one UTC day of it.

    Raises `LakeNotWholeError` with the findings, and what the lake raises.
    """
    with job_run(JOB, load_settings()) as run:
        report = verify_lake(day)
        _record(run, report, day)
        verdict = "whole" if report.whole else counted(report.total_findings, "finding").upper()
        name_run(f"{day or 'all days'}: {counted(report.entries, 'entry')}, {verdict}")
    if not report.whole:
        # Past the run's record: the findings have their row already.
        raise LakeNotWholeError(report)
    return report


@job_step
def verify_lake(day: date | None) -> VerifyReport:
    """Verify from the stored bytes; a lake that does not answer is asked again."""
    with open_stores() as stores:
        records = CommitRecords(stores.settings)
        days = None if day is None else [day]
        report = verify(stores.lake, records, stores.receipts, days=days)
    entries, files = counted(report.entries, "entry"), counted(report.files, "file")
    print(f"{entries} in {files} and {counted(report.commits, 'commit')}")
    for line in (*report.notes, *map(line_of, report.findings[:PRINTED_FINDINGS])):
        print(line)
    return report


def _record(run: JobRun, report: VerifyReport, day: date | None) -> None:
    told = ", ".join(f"{kind}: {number}" for kind, number in report.counts.items())
    run.record(
        day=day,
        rows=report.entries,
        details={
            "files": report.files,
            "commits": report.commits,
            "purged": report.purged,
            "lake_version": report.lake_version,
            "findings": report.total_findings,
        },
        error=None if report.whole else f"{counted(report.total_findings, 'finding')} ({told})",
    )
