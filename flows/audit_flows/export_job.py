"""The job `export`: everything that fits a query, hot and cold, in one file with its manifest.

It has no schedule: `prefect deployment run export/adhoc` with parameters, or `claude-audit
export`. The file is whole or not there, and is never written over another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from audit_flows.amounts import counted, size
from audit_flows.job_run import (
    begun,
    job_run,
    job_step,
    name_run,
    on_progress,
)
from audit_flows.parameters import ExportQuery, Moment
from audit_flows.stores import open_stores
from audit_storage.export.export import ExportReport, expected_rows, export_trail
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import load_settings

JOB = "export"


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def export_job(
    swarm_id: Annotated[str, Field(min_length=1)] | None = None,
    query: ExportQuery | None = None,
    format: Literal[
        "jsonl", "json", "csv", "parquet", "jsonl.zst", "json.zst", "csv.zst"
    ] = "jsonl",
    start_date: Moment | None = None,
    end_date: Moment | None = None,
    output_path: Path | None = None,
) -> ExportReport:
    """Export a swarm, or what a query of `search_logs` keys finds, between two moments.

    A date is its whole UTC day, a naive time is UTC, both ends are included. Without a path the
    file gets a new name in the exports' folder. Raises `ValueError` for a span that runs
    backwards, `FileExistsError`, and what the stores raise.
    """
    with job_run(JOB, load_settings()) as run:
        asked = parse_query(_keys(swarm_id, query), (start_date, end_date))
        report = write_export(asked, format, output_path)
        run.record(
            rows=report.rows,
            bytes=report.size_bytes,
            details={
                "file": report.path.name,
                "folder": str(report.path.parent),
                "sha256": report.sha256,
                "query": asked.as_dict(),
            },
        )
        entries = counted(report.rows, "entry")
        name_run(f"{report.path.name}: {entries}")
        print(f"{report.path}: {entries}, {size(report.size_bytes)}")
        return report


def _keys(swarm_id: str | None, query: ExportQuery | None) -> ExportQuery:
    keys = dict(query or {})
    if swarm_id is not None and keys.setdefault("swarm_id", swarm_id) != swarm_id:
        raise ValueError("swarm_id and query['swarm_id'] name different swarms; give one of them")
    return keys


@job_step
def write_export(query: Query, format: str, output_path: Path | None) -> ExportReport:
    """Write the file; a try that fails leaves none, so trying again is safe."""
    with open_stores() as stores:
        told = on_progress.get()
        total = expected_rows(stores.lake, stores.hot, query) if told is not None else None
        return export_trail(
            stores.lake,
            stores.hot,
            query,
            format,
            output_path,
            exports_dir=stores.settings.exports,
            progress=None if told is None else lambda rows: told(rows, total),
        )
