"""Other programs read the lake without our code, and find the same rows.

They have to go by the table's log: after a compaction the folder holds replaced files as well.
Each test is what docs/scaling.md tells a user to type.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry
from claude_max_audit.settings import Settings
from cold_trail import archive
from hot_trail import varied_entries

ENTRIES = varied_entries(150, seed=9, days=4, first=datetime(2018, 9, 29, tzinfo=UTC))
COLUMNS = (
    "entry_id", "timestamp", "entry_type", "agent_id", "swarm_ids", "content", "content_hash",
    "severity", "retention", "writer_seq", "entry_hash",
)  # fmt: skip
MISSING_SPARK = [
    *(["Java"] if shutil.which("java") is None else []),
    *(["pyspark"] if importlib.util.find_spec("pyspark") is None else []),
]
SPARK_PROGRAM = Path(__file__).with_name("spark_program.py")


def as_told(rows: Iterable[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Rows in a form that all readers share."""
    return {
        tuple(_plain(row[column]) for column in COLUMNS)
        for row in rows
    }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return tuple(value) if isinstance(value, list) else value


def model(entries: Iterable[AuditEntry]) -> set[tuple[Any, ...]]:
    """What each reader should find."""
    rows = (
        {column: getattr(entry, column) for column in COLUMNS} for entry in entries
    )
    return as_told({**row, "swarm_ids": list(row["swarm_ids"])} for row in rows)


@pytest.fixture(params=["folder", "bucket"])
def lake(request: pytest.FixtureRequest, settings: Settings) -> Lake:
    """A lake of two months, one of them compacted, whose old files are still there."""
    if request.param == "bucket":
        settings = request.getfixturevalue("s3_settings")
    lake = Lake(settings)
    archive(lake, ENTRIES)
    assert lake.compact_month("2018-09") is not None
    return lake


def table_of(lake: Lake) -> DeltaTable:
    return DeltaTable(lake.uri, storage_options=dict(lake.settings.lake_options) or None)


def test_replaced_files_are_still_there(lake: Lake, settings: Settings) -> None:
    if lake.settings == settings:
        there = list(Path(lake.uri).glob("month=*/*.parquet"))
        assert len(there) > len(table_of(lake).file_uris()) == 3


def test_delta_rs_finds_the_same_rows(lake: Lake) -> None:
    rows = table_of(lake).to_pyarrow_table()
    assert rows.num_rows == len(ENTRIES)
    assert as_told(rows.to_pylist()) == model(ENTRIES)
    months = table_of(lake).to_pyarrow_table(filters=[("month", "=", "2018-10")])
    assert as_told(months.to_pylist()) == model(e for e in ENTRIES if e.timestamp.month == 10)


def test_polars_finds_the_same_rows(lake: Lake) -> None:
    entries = pl.scan_delta(lake.uri, storage_options=dict(lake.settings.lake_options) or None)
    assert as_told(entries.collect().to_dicts()) == model(ENTRIES)
    mayor = entries.filter(pl.col("agent_id") == "mayor").select(pl.len()).collect().item()
    assert mayor == sum(entry.agent_id == "mayor" for entry in ENTRIES) > 0


def test_any_reader_of_delta_may_read_it(lake: Lake) -> None:
    protocol = table_of(lake).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_duckdb_finds_the_same_rows_through_an_arrow_dataset(lake: Lake) -> None:
    entries = table_of(lake).to_pyarrow_dataset()
    with duckdb.connect() as database:
        database.register("entries", entries)
        rows = database.sql(f"SELECT {', '.join(COLUMNS)} FROM entries").arrow().read_all()
        assert rows.num_rows == len(ENTRIES)
        assert as_told(rows.to_pylist()) == model(ENTRIES)
        told = database.sql(
            "SELECT month, severity, count(*) FROM entries WHERE severity IS NOT NULL GROUP BY ALL"
        ).fetchall()
    counts: dict[tuple[str, str], int] = {}
    for entry in ENTRIES:
        if entry.severity is not None:
            key = (f"{entry.timestamp:%Y-%m}", str(entry.severity))
            counts[key] = counts.get(key, 0) + 1
    assert {(month, severity): number for month, severity, number in told} == counts


@pytest.mark.parametrize("lake", ["folder"], indirect=True)
def test_duckdb_finds_the_same_rows_in_the_files_of_the_log(lake: Lake) -> None:
    with duckdb.connect() as database:
        files = database.read_parquet(table_of(lake).file_uris(), hive_partitioning=True)
        assert as_told(files.arrow().read_all().to_pylist()) == model(ENTRIES)
        agents = files.filter("month = '2018-09'").aggregate("count(*) AS rows").fetchall()
    assert agents == [(sum(entry.timestamp.month == 9 for entry in ENTRIES),)]


@pytest.mark.parametrize("lake", ["folder"], indirect=True)
def test_duckdb_s_own_extension_finds_the_same_rows(lake: Lake) -> None:
    with duckdb.connect() as database:
        try:
            database.load_extension("delta")
        except duckdb.Error:
            pytest.skip("DuckDB's extension delta is not installed (INSTALL delta needs a network)")
        rows = database.sql(f"SELECT * FROM delta_scan('file://{lake.uri}')").arrow().read_all()
    assert as_told(rows.to_pylist()) == model(ENTRIES)


@pytest.mark.skipif(bool(MISSING_SPARK), reason=f"not on this machine: {MISSING_SPARK}")
@pytest.mark.parametrize("lake", ["folder"], indirect=True)
@pytest.mark.parametrize("road", ["parquet", "delta"])
def test_spark_finds_the_same_rows(lake: Lake, road: str, tmp_path: Path) -> None:
    """`parquet`: the files that the log names. `delta`: the table, with Delta's jars."""
    answer = tmp_path / "rows.json"
    files = tmp_path / "files"
    files.write_text("\n".join(table_of(lake).file_uris()))
    done = subprocess.run(
        [sys.executable, str(SPARK_PROGRAM), road, lake.uri, str(files), str(answer)],
        capture_output=True,
        text=True,
        timeout=170,
    )
    if done.returncode == 3:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in answer.read_text().splitlines()]
    for row in rows:
        row["timestamp"] = datetime.fromisoformat(row["timestamp"])
    assert len(rows) == len(ENTRIES)
    assert as_told(rows) == model(ENTRIES)
