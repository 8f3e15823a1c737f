"""The job `reindex`: the index of words and meaning gets from the lake what it lacks.

The index is a view: it may be lost, damaged or behind, and the trail loses nothing. Run after
an archive says that the index lacks a day, after a new model, or after its folder was lost. It
may be killed and run again; what is in already is not embedded anew.
"""

from __future__ import annotations

from prefect import flow

from audit_flows.amounts import counted
from audit_flows.job_run import begun, job_run, job_step, name_run
from audit_flows.parameters import Month
from audit_flows.stores import open_stores
from audit_storage.index.month import MonthDamagedError
from audit_storage.index.refill import refill_month
from audit_storage.layout import month_of
from claude_max_audit.settings import load_settings

JOB = "reindex"


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def reindex(
    month: Month | None = None, rebuild: bool = False
) -> dict[str, int]:
    """Bring what the index lacks, of one "YYYY-MM" month or of all; returns entries by month.

    `rebuild` drops the month first and makes it anew; one that the lake lacks stays away. Raises
    `ValueError` for a month that the lake does not hold, and what the stores raise.
    """
    with job_run(JOB, load_settings()) as run:
        added = {one: index_month(one, rebuild) for one in _months(month, rebuild)}
        total = sum(added.values())
        run.record(rows=total, details={one: rows for one, rows in added.items() if rows})
        name_run(f"{counted(total, 'entry')} in {counted(len(added), 'month')}")
        return added


@job_step
def index_month(month: str, rebuild: bool) -> int:
    """Bring one month up to the lake; returns the entries that were added."""
    with open_stores() as stores:
        if rebuild:
            stores.index.drop_month(month)
        try:
            added = refill_month(stores.lake, stores.index, month)
        except MonthDamagedError as damage:
            print(f"{month}: {damage}; it is built anew")
            stores.index.drop_month(month)
            added = refill_month(stores.lake, stores.index, month)
        print(f"{month}: {counted(added, 'entry')} added")
        return added


def _months(month: str | None, rebuild: bool) -> list[str]:
    """Return the months to bring up to the lake; those that it lacks only to be dropped."""
    with open_stores() as stores:
        held = {month_of(day) for day in stores.lake.days()}
        held |= set(stores.index.counts()) if rebuild else set()
    if month is None:
        return sorted(held)
    if month not in held:
        raise ValueError(f"the lake holds no entries of {month}")
    return [month]
