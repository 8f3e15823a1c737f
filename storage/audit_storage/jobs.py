"""The evidence of every run: what each archive, purge, quality check or export did, and when.

An append-only Delta table at `{lake_uri}/jobs`; one commit per run. Rows are never changed. The
flows and the command line write it; Prefect's own history is only a window that forgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import uuid4

import msgspec
import polars as pl
import pyarrow as pa

from audit_storage.lake.delta_log import DeltaLog
from audit_storage.layout import JOBS, place
from claude_max_audit.settings import Settings

_TIME = pa.timestamp("us", tz="UTC")
JOBS_SCHEMA = pa.schema(
    [
        pa.field("job", pa.string()),
        pa.field("started_at", _TIME),
        pa.field("ended_at", _TIME),
        pa.field("result", pa.string()),
        pa.field("day", pa.date32()),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("merkle_root", pa.string()),
        pa.field("details", pa.string()),
        pa.field("error", pa.string()),
        pa.field("job_id", pa.string()),
    ]
)
"""`details` is JSON text, `merkle_root` hex, `day` the UTC day that the run was about."""

_STATISTICS = {"delta.dataSkippingStatsColumns": "started_at,job"}


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One run, or one day of a run. Times are aware UTC; `result` is succeeded or failed."""

    job: str
    started_at: datetime
    ended_at: datetime
    result: str
    day: date | None = None
    rows: int = 0
    bytes: int = 0
    merkle_root: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    job_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands: its newest run, and when the last one that succeeded ended (UTC).

    The rows that a run left have the same `started_at`; one failed row makes the run failed.
    """

    job: str
    started_at: datetime
    ended_at: datetime
    succeeded: bool
    rows: int
    succeeded_at: datetime | None


class JobTable:
    """The table of runs at `{lake_uri}/jobs`."""

    def __init__(self, settings: Settings) -> None:
        self._log = DeltaLog(
            place(settings.lake_uri, JOBS),
            JOBS_SCHEMA,
            configuration=_STATISTICS,
            storage_options=settings.lake_options,
        )

    def record(self, *records: JobRecord) -> None:
        """Append what a run did, in one commit; no records, no commit. Durable on return."""
        if records:
            table = self._log.create_once()
            self._log.append(table, _table_of(records))
            self._log.tidy(table)

    def states(self) -> list[JobState]:
        """Return how every job that ever ran stands, from the few columns which tell that."""
        table = self._log.open()
        if table is None:
            return []
        return _states_of(
            self._log.read(table, ["job", "started_at", "ended_at", "result", "rows"])
        )

    def version(self) -> int:
        """Return the table's newest version, -1 while there is no table: it grows with each run."""
        table = self._log.open()
        return -1 if table is None else int(table.version())

    def history(self, job: str | None = None, limit: int = 100) -> list[JobRecord]:
        """Return the newest runs first, of one job or of all."""
        table = self._log.open()
        if table is None:
            return []
        rows = self._log.read(table, JOBS_SCHEMA.names)
        if job is not None:
            rows = rows.filter(pl.col("job") == job)
        newest = rows.sort("started_at", "day", "job_id", descending=True).head(limit)
        return [_record_of(row) for row in newest.to_dicts()]


def _states_of(rows: pl.DataFrame) -> list[JobState]:
    """Group rows into runs, and runs by their job."""
    succeeded = (pl.col("result") == "succeeded").all()
    runs = rows.group_by("job", "started_at").agg(
        pl.col("ended_at").max(), succeeded.alias("succeeded"), pl.col("rows").sum()
    )
    ended_well = pl.col("ended_at").filter("succeeded").max().alias("succeeded_at")
    newest = runs.sort("ended_at", "started_at").group_by("job", maintain_order=True)
    columns = ("started_at", "ended_at", "succeeded", "rows")
    states = newest.agg(*(pl.col(name).last() for name in columns), ended_well).sort("job")
    return [JobState(**row) for row in states.to_dicts()]


def _table_of(records: Sequence[JobRecord]) -> pa.Table:
    rows = [
        (*one[:8], msgspec.json.encode(one[8]).decode(), *one[9:])
        for one in (astuple(record) for record in records)
    ]
    columns = [
        pa.array(values, column.type)
        for values, column in zip(zip(*rows, strict=True), JOBS_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=JOBS_SCHEMA)


def _record_of(row: dict[str, Any]) -> JobRecord:
    return JobRecord(**{**row, "details": msgspec.json.decode(row["details"])})
