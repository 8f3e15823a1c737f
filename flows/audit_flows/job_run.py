"""One run of a job: its rows in the lake's job table, its name and its history in Prefect.

The job table is the evidence and is written first. Prefect's table artifact (one per job, the
key is the job's name) is made anew from it after every run, newest run first, so the UI shows
the whole history at a glance even when Prefect has forgotten the runs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from typing import Any, ParamSpec, TypeVar

from prefect import Task, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from audit_flows.amounts import size
from audit_storage.jobs import JobRecord, JobTable
from claude_max_audit.errors import TransientError, UnknownOutcomeError
from claude_max_audit.settings import Settings

RETRY_SECONDS: list[float] = [10, 60, 300]
"""Waits before a step is tried again: a restart, a failover, a short outage of the storage."""

HISTORY_ROWS = 400
"""Rows of the history in the UI: more than a year of nights."""

ROOT_CHARACTERS = 12
"""Characters of a Merkle root in the UI; all 64 would push other columns off the page."""

NOTE_CHARACTERS = 120
"""Longest note of a history row; the whole of it is in the job table and the run's log."""

_NOT_NOTED = frozenset(
    {"at_most", "checks", "files", "folder", "holds", "lake_version", "policy_sha256", "snapshot"}
)
"""Details that are for the job table only: they say nothing at a glance."""

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
                details=details or {},
                error=error,
            )
        )

    def publish(self) -> None:
        """Make the job's history in Prefect anew from the job table."""
        create_table_artifact(
            key=self.job,
            table=history_table(self._jobs.history(self.job, HISTORY_ROWS)),
            description=f"Runs of `{self.job}`, newest first (times in UTC). "
            "The evidence is the lake's `jobs` table.",
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
            run.publish()
            name_run(f"failed: {type(error).__name__}")
        except Exception as unrecorded:
            # The error itself must reach whoever runs the job, whatever its record does.
            error.add_note(f"and this run could not be recorded: {unrecorded}")
        raise
    run.publish()


def history_table(records: list[JobRecord]) -> list[dict[str, str | int]]:
    """Return the rows of the artifact; every value is short enough for a column."""
    return [
        {
            "run": f"{record.started_at:%Y-%m-%d %H:%M:%S}",
            "day": record.day.isoformat() if record.day else "",
            "result": record.result,
            "entries": record.rows,
            "size": size(record.bytes) if record.bytes else "",
            "root": (record.merkle_root or "")[:ROOT_CHARACTERS],
            "seconds": f"{(record.ended_at - record.started_at).total_seconds():.1f}",
            "note": _note(record),
        }
        for record in records
    ]


def begun() -> str:
    """Return the name of a run that is going on, and of one that was killed: Prefect's
    `flow_run_name`. A run that ends names itself by what it did."""
    return f"begun {datetime.now(UTC):%Y-%m-%d %H:%M}"


def name_run(name: str) -> None:
    """Name the flow run that is going on; outside of one, do nothing."""
    if runtime.flow_run.id is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, name=name)


def _note(record: JobRecord) -> str:
    """Return the error's first line, or the details that say something."""
    if record.error:
        text = record.error.splitlines()[0]
    else:
        text = ", ".join(
            f"{key.replace('_', ' ')}: {_plain(value)}"
            for key, value in record.details.items()
            if value and key not in _NOT_NOTED
        )
    return text if len(text) <= NOTE_CHARACTERS else text[: NOTE_CHARACTERS - 1] + "…"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
