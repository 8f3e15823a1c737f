"""One run of a job: its rows in the lake's job table, its name and its history in Prefect.

The job table is the evidence and is written first. Prefect's table artifact (one per job, the
key is the job's name) is made anew from it after every run, newest run first, so the UI shows
the whole history at a glance even when Prefect has forgotten the runs themselves. Beside it, the
artifact `overview` shows the last days as a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from typing import Any, ParamSpec, TypeVar

from prefect import Task, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from audit_flows.amounts import size
from audit_flows.job_note import note
from audit_flows.links import FLOW_RUN, Links, plain
from audit_flows.overview_grid import KEY, ROOT_CHARACTERS, markdown
from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.lake import Lake
from audit_storage.overview import overview
from claude_max_audit.errors import TransientError, UnknownOutcomeError
from claude_max_audit.settings import Settings

RETRY_SECONDS: list[float] = [10, 60, 300]
"""Waits before a step is tried again: a restart, a failover, a short outage of the storage."""

HISTORY_ROWS = 400
"""Rows of the history in the UI: more than a year of nights."""

OVERVIEW_DAYS = 30
"""Days of the grid in the UI: they fit one screen."""

SUCCEEDED, FAILED = "succeeded", "failed"


is_watched: ContextVar[bool] = ContextVar("is_watched", default=False)
"""Whether a person waits for this run: then a failure is told at once, and they try again."""

on_progress: ContextVar[Callable[[int, int | None], None] | None] = ContextVar(
    "on_progress", default=None
)
"""Whoever watches the run is told how much is done, and of how much; None: nobody is."""


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Say whether a failed step may succeed later: Prefect's `retry_condition_fn`."""
    if is_watched.get():
        return False
    error = state.result(raise_on_failure=False)
    return isinstance(error, TransientError | UnknownOutcomeError)


P = ParamSpec("P")
R = TypeVar("R")


def job_step(function: Callable[P, R]) -> Task[P, R]:
    """Make a step of a job: tried again after what may pass by itself, never after what stays."""
    step = task(
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=RETRY_SECONDS,
        retry_condition_fn=worth_retrying,
        cache_policy=NO_CACHE,
        log_prints=True,
    )
    return step(function)


class JobRun:
    """A run that is going on. Every `record` is durable in the job table on return."""

    def __init__(self, job: str, jobs: JobTable) -> None:
        self.job = job
        self.started_at = datetime.now(UTC)
        self._jobs = jobs

    def record(
        self,
        *,
        day: date | None = None,
        rows: int = 0,
        bytes: int = 0,
        merkle_root: str | None = None,
        details: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Add a row: what was done, in all or for one UTC day; an `error` makes it failed."""
        self._jobs.record(
            JobRecord(
                job=self.job,
                started_at=self.started_at,
                ended_at=datetime.now(UTC),
                result=SUCCEEDED if error is None else FAILED,
                day=day,
                rows=rows,
                bytes=bytes,
                merkle_root=merkle_root,
                details={**(details or {}), **_own_run()},
                error=error,
            )
        )

    def publish(self, settings: Settings) -> None:
        """Make the job's history and the overview in Prefect anew from the lake's tables."""
        create_table_artifact(
            key=self.job,
            table=history_table(self._jobs.history(self.job, HISTORY_ROWS), Links(settings)),
            description=f"Runs of `{self.job}`, newest first (times in UTC). The evidence is the "
            f"lake's `jobs` table. All jobs: [{KEY}](/artifacts/key/{KEY}).",
        )
        publish_overview(settings)


def publish_overview(settings: Settings) -> None:
    """Make the grid of the last days anew; a lake that cannot be read now fails no job."""
    try:
        days = overview(Lake(settings), JobTable(settings), datetime.now(UTC), OVERVIEW_DAYS)
    except (TransientError, UnknownOutcomeError) as away:
        print(f"the overview was not made: {away}")
        return
    create_markdown_artifact(
        key=KEY,
        markdown=markdown(days, Links(settings)),
        description=f"The last {OVERVIEW_DAYS} days of the trail.",
    )


@contextmanager
def job_run(job: str, settings: Settings) -> Iterator[JobRun]:
    """Open a run; whatever happens inside, its history is published at the end.

    An error that leaves the context is recorded as a failed row and raised on. Findings that
    have rows of their own are raised after it.
    """
    run = JobRun(job, JobTable(settings))
    try:
        yield run
    except Exception as error:
        try:
            run.record(error=f"{type(error).__name__}: {error}")
            run.publish(settings)
            name_run(f"failed: {type(error).__name__}")
        except Exception as unrecorded:
            # The error itself must reach whoever runs the job, whatever its record does.
            error.add_note(f"and this run could not be recorded: {unrecorded}")
        raise
    run.publish(settings)


def history_table(records: list[JobRecord], links: Links) -> list[dict[str, str | int]]:
    """Return the rows of the artifact; every value is short enough for a column."""
    return [
        {
            "run": links.to_run(f"{record.started_at:%Y-%m-%d %H:%M:%S}", record.details),
            "day": record.day.isoformat() if record.day else "",
            "result": record.result,
            "entries": record.rows,
            "size": size(record.bytes) if record.bytes else "",
            "root": (record.merkle_root or "")[:ROOT_CHARACTERS],
            "seconds": f"{(record.ended_at - record.started_at).total_seconds():.1f}",
            "note": _linked_note(record, links),
        }
        for record in records
    ]


def _linked_note(record: JobRecord, links: Links) -> str:
    """Return the note, led by a link to the file that the run made."""
    file = links.file_of(record.details)
    if file is None:
        return plain(note(record))
    parts = (links.to_file(file.name, file), plain(note(record, without=frozenset({"file"}))))
    return ", ".join(part for part in parts if part)


def _own_run() -> dict[str, str]:
    """Return the detail that names the run in Prefect, where there is one."""
    run = runtime.flow_run.id
    return {} if run is None else {FLOW_RUN: str(run)}


def begun() -> str:
    """Return the name of a run that is going on, and of one that was killed: Prefect's
    `flow_run_name`. A run that ends names itself by what it did."""
    return f"begun {datetime.now(UTC):%Y-%m-%d %H:%M}"


def name_run(name: str) -> None:
    """Name the flow run that is going on; outside of one, do nothing."""
    if runtime.flow_run.id is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, name=name)
