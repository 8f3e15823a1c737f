"""Closed months become few files, and nobody who reads can tell but by the number of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from audit_storage.lake.compaction import compact_closed_months, months_to_compact
from audit_storage.lake.delta_log import OvertakenError
from audit_storage.lake.lake import Lake
from audit_storage.lake.part import LakePart
from audit_storage.lake.transaction import LakeTransaction
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import Settings
from cold_trail import archive, purge, stored, verified

EntryMaker = Callable[..., AuditEntry]
NOW = datetime(2025, 11, 20, 3, tzinfo=UTC)
"""September and October are closed, November is open."""

FIRST = datetime(2025, 9, 21, 12, tzinfo=UTC)
DAYS = 55


@pytest.fixture
def trail(make_entry: EntryMaker) -> list[AuditEntry]:
    """Six entries on every fifth of fifty-five days, in three months."""
    return [
        make_entry(
            timestamp=FIRST + timedelta(days=day, minutes=at),
            agent_id=f"agent_{at % 3}",
            swarm_id=["red", "blue"][day % 2],
            content=f"{day}-{at}",
        )
        for day in range(0, DAYS, 5)
        for at in range(6)
    ]


@pytest.fixture
def lake(settings: Settings, trail: list[AuditEntry]) -> Lake:
    lake = Lake(settings)
    archive(lake, trail)
    return lake


def rows_of(lake: Lake) -> pl.DataFrame:
    return pl.concat(lake.scan(Query()))


def files_per_month(lake: Lake) -> dict[str, int]:
    months = [file.month for file in lake.view().files]
    return {month: months.count(month) for month in sorted(set(months))}


def test_closed_months_become_one_file_each_with_the_same_rows(lake: Lake) -> None:
    before = rows_of(lake)
    assert files_per_month(lake) == {"2025-09": 2, "2025-10": 7, "2025-11": 2}
    report = compact_closed_months(lake, NOW)
    assert files_per_month(lake) == {"2025-09": 1, "2025-10": 1, "2025-11": 2}
    assert rows_of(lake).equals(before)
    assert [(m.month, m.rows, m.files_before, m.files_after) for m in report.months] == [
        ("2025-09", 12, 2, 1),
        ("2025-10", 42, 7, 1),
    ]
    assert report.rows == 54
    assert all(0 < m.bytes_after < m.bytes_before for m in report.months)
    assert report.months[-1].version == lake.version()
    assert verified(lake).whole


def test_doing_so_again_changes_nothing(lake: Lake) -> None:
    compact_closed_months(lake, NOW)
    version = lake.version()
    assert months_to_compact(lake, NOW) == []
    again = compact_closed_months(lake, NOW)
    assert (again.months, again.skipped, lake.version()) == ((), (), version)


def test_an_empty_lake_has_nothing_to_compact(settings: Settings) -> None:
    report = compact_closed_months(Lake(settings), NOW)
    assert (report.months, report.deleted) == ((), 0)
    assert not Path(settings.lake_uri).exists()


@pytest.mark.parametrize(
    ("now", "months"),
    [
        (datetime(2025, 10, 2, 23, 59, tzinfo=UTC), []),
        (datetime(2025, 10, 3, tzinfo=UTC), ["2025-09"]),
        (datetime(2025, 11, 3, tzinfo=UTC), ["2025-09", "2025-10"]),
        (datetime(2026, 1, 3, tzinfo=UTC), ["2025-09", "2025-10", "2025-11"]),
    ],
)
def test_a_month_is_closed_two_days_after_its_end(
    lake: Lake, now: datetime, months: list[str]
) -> None:
    assert months_to_compact(lake, now) == months


def test_a_late_entry_joins_its_compacted_month(lake: Lake, make_entry: EntryMaker) -> None:
    compact_closed_months(lake, NOW)
    late = make_entry(timestamp=FIRST + timedelta(days=12))
    archive(lake, [late])
    before = rows_of(lake)
    assert files_per_month(lake)["2025-10"] == 2
    compact_closed_months(lake, NOW)
    assert files_per_month(lake)["2025-10"] == 1
    assert rows_of(lake).equals(before)
    assert late.entry_id in stored(lake)
    assert verified(lake).whole


def test_whoever_reads_meanwhile_reads_on(lake: Lake, trail: list[AuditEntry]) -> None:
    old_view, scan = lake.view(), lake.scan(Query())
    ids = {*next(scan).get_column("entry_id")}
    compact_closed_months(lake, NOW)
    compact_closed_months(lake, NOW)  # its vacuum leaves what was replaced a moment ago
    ids.update(one for frame in scan for one in frame.get_column("entry_id"))
    assert ids == {entry.entry_id for entry in trail}
    query = parse_query({"swarm_id": "red", "agent_id": "agent_1"})
    assert old_view.page(query, 100, 0) == lake.page(query, 100, 0)


def test_what_was_replaced_a_day_ago_is_deleted(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = {file.path for file in lake.view().files if file.month < "2025-11"}
    assert compact_closed_months(lake, NOW).deleted == 0
    monkeypatch.setattr("audit_storage.lake.compaction.KEEP_HOURS", 0)
    assert compact_closed_months(lake, NOW).deleted == len(replaced)
    assert not any(Path(lake.uri, path).exists() for path in replaced)
    assert verified(lake).whole


def test_large_files_are_left_alone(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit_storage.lake.plan.FULL_ROWS", 12)
    monkeypatch.setattr("audit_storage.lake.transaction.PART_ROWS", 12)
    compact_closed_months(lake, NOW)
    october = [file for file in lake.view().files if file.month == "2025-10"]
    assert sorted(file.rows for file in october) == [42]  # one run is never split
    paths = {file.path for file in october}
    compact_closed_months(lake, NOW)
    assert {file.path for file in lake.view().files if file.month == "2025-10"} == paths


def test_new_files_that_differ_are_never_published(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = rows_of(lake), lake.version()
    write = LakePart.write_run

    def change_one(self: LakePart, rows: pa.Table) -> None:
        at = rows.schema.get_field_index("content")
        write(self, rows.set_column(at, "content", pa.array(["x"] * rows.num_rows)))

    with monkeypatch.context() as patched:
        patched.setattr(LakePart, "write_run", change_one)
        with pytest.raises(LakeUnavailableError, match="differ from those written"):
            compact_closed_months(lake, NOW)
    assert lake.version() == version
    assert rows_of(lake).equals(before)
    assert verified(lake).whole


def test_a_file_that_gives_fewer_rows_is_never_replaced(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = lake.version()
    read = LakeTransaction.read_rows

    def lose_one(self: LakeTransaction, file: Any) -> Iterator[pa.Table]:
        for rows in read(self, file):
            yield rows.slice(1)

    with monkeypatch.context() as patched:
        patched.setattr(LakeTransaction, "read_rows", lose_one)
        with pytest.raises(LakeUnavailableError, match="10 rows were read of the 12"):
            compact_closed_months(lake, NOW)
    assert lake.version() == version
    assert verified(lake).whole


def in_the_middle(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], object], times: int = 1
) -> None:
    """Let something else happen between a compaction's reading and its commit."""
    prove = LakeTransaction.prove
    left = [times]

    def after(self: LakeTransaction) -> None:
        prove(self)
        if left[0]:
            left[0] -= 1
            action()

    monkeypatch.setattr(LakeTransaction, "prove", after)


def test_a_purge_that_comes_meanwhile_wins(
    lake: Lake, settings: Settings, trail: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    cutoff = datetime(2025, 10, 11, tzinfo=UTC)
    seven_years_on = cutoff.replace(year=2032)
    in_the_middle(monkeypatch, lambda: purge(Lake(settings), seven_years_on))
    report = compact_closed_months(lake, NOW)
    due = {entry.entry_id for entry in trail if entry.timestamp < cutoff}
    assert 0 < len(due) < len(trail)
    assert stored(lake) == {entry.entry_id for entry in trail} - due
    assert [month.month for month in report.months] == ["2025-10"]
    assert verified(lake).whole


def test_an_archive_that_comes_meanwhile_keeps_its_entries(
    lake: Lake, settings: Settings, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = make_entry(timestamp=FIRST + timedelta(hours=1))
    in_the_middle(monkeypatch, lambda: archive(Lake(settings), [late]))
    compact_closed_months(lake, NOW)
    assert late.entry_id in stored(lake)
    assert files_per_month(lake)["2025-09"] == 2
    assert verified(lake).whole


def test_two_compactions_at_once_do_it_once(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(lake)
    in_the_middle(monkeypatch, lambda: compact_closed_months(Lake(settings), NOW))
    report = compact_closed_months(lake, NOW)
    assert report.months == ()
    assert rows_of(lake).equals(before)
    assert files_per_month(lake) == {"2025-09": 1, "2025-10": 1, "2025-11": 2}
    assert verified(lake).whole


def test_a_month_that_others_keep_changing_waits_for_the_next_run(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake() -> None:
        with Lake(settings).begin("compact/2025-09") as faster:
            faster.commit()

    in_the_middle(monkeypatch, overtake, times=5)
    report = compact_closed_months(lake, NOW)
    assert report.skipped == ("2025-09",)
    assert [month.month for month in report.months] == ["2025-10"]
    assert [m.month for m in compact_closed_months(lake, NOW).months] == ["2025-09"]


def test_progress_is_told_before_each_month(lake: Lake) -> None:
    told: list[tuple[str, int, int]] = []
    compact_closed_months(lake, NOW, progress=lambda *one: told.append(one))
    assert told == [("2025-09", 0, 2), ("2025-10", 1, 2)]


def test_a_commit_that_others_overtook_publishes_nothing(lake: Lake, settings: Settings) -> None:
    with lake.begin("compact/2025-09") as slower:
        assert Lake(settings).compact_month("2025-09") is not None
        with pytest.raises(OvertakenError):
            slower.commit()
