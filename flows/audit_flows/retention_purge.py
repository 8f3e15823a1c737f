"""The job `retention-purge`: what is past its retention leaves every store, with a receipt.

`dry_run` only says what would go. Permanent entries, entries under a hold and whatever is
younger than the floor stay (see `audit_storage.purge.purge`); it may be killed and run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from audit_flows.amounts import counted, days, size
from audit_flows.job_run import (
    begun,
    job_run,
    job_step,
    name_run,
)
from audit_flows.stores import open_stores
from audit_storage.purge.plan import PurgePlan
from audit_storage.purge.purge import execute_purge, plan_purge
from audit_storage.purge.receipts import PurgeReceipt
from claude_max_audit.settings import MIN_RETENTION_DAYS, load_settings

JOB = "retention-purge"


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What was due, and the receipt of what went: None for a dry run or where nothing was due."""

    plan: PurgePlan
    receipt: PurgeReceipt | None
    dry_run: bool


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def retention_purge(
    dry_run: bool = False,
    older_than_days: Annotated[int, Field(ge=MIN_RETENTION_DAYS)] | None = None,
) -> PurgeReport:
    """Remove what is older than `cold_storage_years` calendar years, or than the days given."""
    with job_run(JOB, load_settings()) as run:
        report = purge_due(dry_run, older_than_days)
        plan, receipt = report.plan, report.receipt
        run.record(
            rows=0 if receipt is None else receipt.rows,
            bytes=0 if receipt is None else plan.bytes,
            merkle_root=None if receipt is None else receipt.root,
            details=_details(report),
        )
        name_run(_name(report))
        print(_name(report) + f" ({plan.policy}, before {plan.cutoff:%Y-%m-%d %H:%M} UTC)")
        return report


@job_step
def purge_due(dry_run: bool, older_than_days: int | None) -> PurgeReport:
    """Plan, and unless it is a dry run carry out what is planned."""
    now = datetime.now(UTC)
    with open_stores() as stores:
        years = stores.settings.cold_storage_years if older_than_days is None else None
        plan = plan_purge(stores.lake, now, years=years, older_than_days=older_than_days)
        for day, rows in plan.days.items():
            print(f"{day}: due are {counted(rows, 'entry')}")
        if dry_run or not plan.rows:
            return PurgeReport(plan, None, dry_run)
        receipt = execute_purge(
            stores.lake, stores.receipts, stores.hot, stores.index, plan, now, by=JOB
        )
        return PurgeReport(plan, receipt, dry_run)


def _details(report: PurgeReport) -> dict[str, Any]:
    plan, receipt = report.plan, report.receipt
    return {
        "dry_run": report.dry_run,
        "due": plan.rows,
        "policy": plan.policy,
        "cutoff": plan.cutoff.isoformat(timespec="seconds"),
        "permanent_kept": plan.permanent_kept,
        "receipt": None if receipt is None else receipt.receipt_id,
    }


def _name(report: PurgeReport) -> str:
    plan, receipt = report.plan, report.receipt
    if report.dry_run:
        return f"dry run: due are {counted(plan.rows, 'entry')}, {size(plan.bytes)}"
    if receipt is None:
        return "nothing is due"
    span = days(receipt.first_day, receipt.last_day)
    return f"{span}: {counted(receipt.rows, 'entry')} removed"
