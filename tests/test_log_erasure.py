"""After a purge the table's log no longer tells of what went, and all else of it stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry
from claude_max_audit.settings import Settings
from cold_trail import archive, purge, stored, verified

NOW = datetime(2025, 11, 30, 3, tzinfo=UTC)
OLD = datetime(2016, 3, 1, tzinfo=UTC)
YOUNG = datetime(2025, 11, 1, tzinfo=UTC)


def log_text(lake: Lake) -> str:
    """Everything that the log tells, its checkpoints unpacked."""
    folder = Path(lake.uri, "_delta_log")
    told = [path.read_text() for path in sorted(folder.glob("*.json"))]
    return "".join([*told, *(str(pq.read_table(p).to_pylist()) for p in folder.glob("*.parquet"))])


def test_the_log_forgets_who_was_in_the_files_that_went(
    settings: Settings, make_entry: Callable[..., AuditEntry]
) -> None:
    lake = Lake(settings)
    gone = [make_entry(timestamp=OLD + timedelta(days=n), agent_id=f"gone_{n}") for n in range(3)]
    kept = [make_entry(timestamp=YOUNG + timedelta(days=n), agent_id=f"k_{n}") for n in range(3)]
    archive(lake, gone)
    lake.vacuum_now()  # a checkpoint that tells of them
    archive(lake, kept)
    before = lake.view().files
    assert "gone_1" in log_text(lake)
    assert purge(lake, NOW) is not None
    told = log_text(lake)
    assert [one for one in gone if one.agent_id in told or one.entry_id in told] == []
    assert all(one.agent_id in told for one in kept)
    assert stored(Lake(settings)) == {one.entry_id for one in kept}
    assert {file.path for file in Lake(settings).view().files} < {file.path for file in before}
    assert verified(lake).whole
    witnesses = [one.name for one in Path(lake.uri, "_delta_log").glob("*.json")]
    archive(lake, [make_entry(timestamp=YOUNG + timedelta(days=9))])
    assert purge(lake, NOW) is None  # nothing is due, and the log of what stays is not touched
    left = {one.name for one in Path(lake.uri, "_delta_log").glob("*.json")}
    assert left > set(witnesses)
    assert verified(lake).whole


def test_a_writer_that_began_before_looks_again(
    settings: Settings, make_entry: Callable[..., AuditEntry]
) -> None:
    lake = Lake(settings)
    archive(lake, [make_entry(timestamp=OLD)])
    held_open = Lake(settings)
    assert held_open.count() == 1
    assert purge(lake, NOW) is not None
    assert held_open.count() == 0
    late = make_entry(timestamp=YOUNG)
    archive(held_open, [late])
    assert stored(lake) == {late.entry_id}
