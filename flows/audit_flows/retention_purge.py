"""The job `retention-purge`: what is past its retention leaves every store, with a receipt.

`dry_run` only says what would go. What goes when is for the home's policy to say; permanent
entries, entries under a hold and whatever is younger than the floor stay (see
`audit_storage.purge.purge`). It may be killed and run again.
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
from audit_storage.purge.policy_file import policy_of
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
    at_most: Annotated[int, Field(ge=0)] | None = None,
    by: Annotated[str, Field(min_length=1)] | None = None,
) -> PurgeReport:
    """Remove what the retention policy lets go; days given take its default's place.

    `at_most` is the most entries that this run may remove; None: the purge's own cap. `by` is
    who wants it, for the receipt; None: the job. Raises `PurgeTooLargeError` for more, before
    anything is removed, `PolicyFileError` for a policy with a mistake, and what the stores raise.
    """
    with job_run(JOB, load_settings()) as run:
        report = purge_due(dry_run, older_than_days, at_most, by or JOB)
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
def purge_due(
    dry_run: bool, older_than_days: int | None, at_most: int | None, by: str
) -> PurgeReport:
    """Plan, and unless it is a dry run carry out what is planned."""
    now = datetime.now(UTC)
    with open_stores() as stores:
        policy = policy_of(stores.settings, older_than_days)
        plan = plan_purge(stores.lake, now, policy=policy, at_most=at_most)
        _tell(plan)
        if dry_run or not plan.total:
            return PurgeReport(plan, None, dry_run)
        receipt = execute_purge(
            stores.lake, stores.receipts, stores.hot, stores.index, plan, now, by=by
        )
        return PurgeReport(plan, receipt, dry_run)


def _tell(plan: PurgePlan) -> None:
    for day, rows in plan.days.items():
        print(f"{day}: due are {counted(rows, 'entry')}")
    for hold in plan.held:
        print(
            f"hold {hold.hold_id} of {hold.placed_by} ({hold.reason}) keeps "
            f"{counted(hold.rows, 'entry')} that would be due"
        )
    if plan.exceeds_cap:
        print(f"that is more than the {counted(plan.at_most, 'entry')} that one run may remove")


def _details(report: PurgeReport) -> dict[str, Any]:
    plan, receipt = report.plan, report.receipt
    return {
        "dry_run": report.dry_run,
        "due": plan.rows,
        "at_most": plan.at_most,
        "policy": plan.policy,
        "policy_sha256": plan.policy_sha256,
        "cutoff": plan.cutoff.isoformat(timespec="seconds"),
        "permanent_kept": plan.permanent_kept,
        "held_kept": plan.held_kept,
        "of_quarantine": len(plan.rejected),
        "holds": [hold.hold_id for hold in plan.held],
        "receipt": None if receipt is None else receipt.receipt_id,
    }


def _name(report: PurgeReport) -> str:
    plan, receipt = report.plan, report.receipt
    if report.dry_run and plan.total:
        return f"dry run: due are {counted(plan.total, 'entry')}, {size(plan.bytes)}"
    if receipt is None:
        return "nothing is due"
    span = days(receipt.first_day, receipt.last_day)
    return f"{span}: {counted(receipt.rows + len(receipt.rejected), 'entry')} removed"
