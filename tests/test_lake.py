"""The lake answers as `Query.matches` says, commits whole or not at all, and hides no damage."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_storage.lake import transaction as lake_transaction
from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.delta_log import DeltaLog, OvertakenError
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import entries_of
from audit_storage.lake.transaction import LakeTransaction
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.query import Query, Span, parse_query, parse_span
from claude_max_audit.settings import Settings, load_settings

MakeEntry = Callable[..., AuditEntry]
START = datetime(2025, 1, 30, tzinfo=UTC)
KINDS = ["message", "context_access", "decision", "security_event", "performance_metric"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({}, home=tmp_path / "home")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def trail(make_entry: MakeEntry) -> list[AuditEntry]:
    """Four days over the end of a month, with every kind, hostile names and equal times."""
    chance = random.Random(7)
    agents = ["agent_a", "agent_b", "*", "ünï", "z'\"\\"]
    made = []
    for number in range(400):
        moment = START + timedelta(minutes=15 * (number - number % 3))
        swarms = chance.choice([("red",), ("blue",), ("red", "blue"), ("green", "red")])
        kind = KINDS[number % 5]
        fields: dict[str, Any] = {
            "entry_type": kind,
            "timestamp": moment,
            "agent_id": chance.choice(agents),
            "swarm_id": swarms[-1],
            "swarm_ids": swarms,
            "to_agent": chance.choice([None, *agents]),
            "session_id": chance.choice([None, "s1", "s2"]),
            "retention": chance.choice(["standard", "permanent"]),
        }
        if kind == "security_event":
            fields["severity"] = chance.choice(["low", "critical"])
            fields["metadata"] = {"event_type": chance.choice(["auth_failure", "other", 5, None])}
        if kind == "decision":
            fields["metadata"] = {"decision_type": chance.choice(["approval", "refusal"])}
        if kind == "message":
            fields["content"] = chance.choice(["ok", "ok", "no"])
            fields["message_type"] = chance.choice(["inform", "request"])
            fields["metadata"] = {"event_type": "auth_failure"} if number % 2 else {}
        made.append(make_entry(**fields))
    return made


def store(lake: Lake, entries: Sequence[AuditEntry], app: str = "test") -> int:
    with lake.begin(app) as transaction:
        transaction.add(entries)
        snapshot = transaction.commit()
        transaction.verify(lake.fresh_view())
    return snapshot.version


def store_days(lake: Lake, trail: Sequence[AuditEntry]) -> None:
    for day in sorted({entry.day for entry in trail}):
        store(lake, [entry for entry in trail if entry.day == day], f"archive/{day}")


def newest_first(trail: Sequence[AuditEntry], query: Query) -> list[AuditEntry]:
    found = [entry for entry in trail if query.matches(entry)]
    return sorted(found, key=lambda e: (e.timestamp, e.entry_id), reverse=True)


def held(lake: Lake, query: Query | None = None, chunk: int = 50_000) -> list[AuditEntry]:
    frames = lake.scan(query or Query(), chunk)
    return [entry for frame in frames for entry in entries_of(frame)]


def queries(trail: Sequence[AuditEntry]) -> list[dict[str, Any]]:
    one = trail[100]
    return [
        {},
        {"agent_id": "agent_a"},
        {"agent_id": ["*", "ünï"]},
        {"agent_id": "z'\"\\"},
        {"agent_id": "nobody"},
        {"to_agent": "agent_b"},
        {"participant": "agent_b"},
        {"participant": ["*", "nobody"]},
        {"swarm_id": "red"},
        {"swarm_id": ["green", "nowhere"]},
        {"entry_type": "decision"},
        {"entry_type": ["message", "security_event"], "agent_id": "agent_b"},
        {"message_type": "request"},
        {"operation": "read"},
        {"severity": "critical"},
        {"severity": ["low", "critical"], "event_type": "auth_failure"},
        {"event_type": "auth_failure"},
        {"event_type": "5"},
        {"decision_type": ["approval", "refusal"]},
        {"session_id": "s2"},
        {"retention": "permanent"},
        {"content_hash": one.content_hash},
        {"entry_id": [one.entry_id, trail[7].entry_id, "unknown"]},
        {"citation": one.citation},
        {"citation": one.citation, "entry_id": trail[7].entry_id},
        {"cross_swarm": True},
        {"cross_swarm": False, "swarm_id": "blue"},
    ]


def test_every_query_has_the_meaning_of_matches(lake: Lake, trail: list[AuditEntry]) -> None:
    store_days(lake, trail)
    spans = [None, (trail[90].timestamp, trail[200].timestamp), (None, trail[0].timestamp)]
    for asked in queries(trail):
        for span in spans:
            query = parse_query(asked, span)
            expected = newest_first(trail, query)
            page = lake.page(query, 15, 4)
            assert page.total == len(expected), (asked, span)
            assert list(page.entries) == expected[4:19], (asked, span)
            assert lake.count_matches(query) == len(expected), (asked, span)
            assert held(lake, query) == expected[::-1], (asked, span)


def test_pages_join_without_gap_or_repeat(lake: Lake, trail: list[AuditEntry]) -> None:
    store_days(lake, trail)
    for asked in ({}, {"swarm_id": "red"}):
        query = parse_query(asked)
        pages = [list(lake.page(query, 37, at).entries) for at in range(0, 450, 37)]
        assert [e for page in pages for e in page] == newest_first(trail, query)
        assert list(lake.page(query, 0, 0).entries) == []
        assert list(lake.page(query, 10, 9999).entries) == []


def test_a_scan_in_small_pieces_is_the_whole_trail_in_order(
    lake: Lake, trail: list[AuditEntry]
) -> None:
    store_days(lake, trail)
    assert held(lake, chunk=10) == newest_first(trail, Query())[::-1]
    assert max(frame.height for frame in lake.scan(Query(), 10)) <= 12  # three share an instant


def test_a_lake_that_is_not_there_yet_is_empty(lake: Lake, settings: Settings) -> None:
    assert lake.version() == -1
    assert lake.count() == 0
    assert lake.days() == {}
    assert lake.page(Query(), 10, 0).total == 0
    assert held(lake) == []
    assert lake.existing(["x"]) == set()
    assert lake.find(["x"]) == {}
    assert lake.day_ids(date(2025, 1, 30)) == set()
    assert lake.vacuum_now() == []
    assert not Path(settings.lake_uri).exists(), "reading must not create the lake"


def test_days_and_ids(lake: Lake, trail: list[AuditEntry]) -> None:
    store(lake, trail)  # one commit: a file per month, several days in each
    days = sorted({entry.day for entry in trail})
    assert lake.days() == {day: sum(e.day == day for e in trail) for day in days}
    assert list(lake.days()) == days
    some = [days[1], date(1999, 1, 1)]
    assert lake.days(some) == {days[1]: lake.days()[days[1]]}
    assert lake.days([]) == {}
    for day in days:
        assert lake.day_ids(day) == {e.entry_id for e in trail if e.day == day}
    asked = [entry.entry_id for entry in trail[::9]]
    assert lake.existing([*asked, "unknown"]) == set(asked)
    assert lake.find([*asked, "unknown"]) == {e.entry_id: e for e in trail[::9]}
    assert lake.existing([]) == set()


def test_another_lake_object_sees_each_commit(
    lake: Lake, settings: Settings, trail: list[AuditEntry]
) -> None:
    reader = Lake(settings)
    assert reader.count() == 0
    store(lake, trail[:10])
    assert reader.count() == 10
    store(lake, trail[10:30])
    assert reader.count() == 30
    assert reader.version() == lake.version()


def test_files_that_the_log_rules_out_are_not_opened(
    lake: Lake, trail: list[AuditEntry]
) -> None:
    store_days(lake, trail)
    february = [entry for entry in trail if entry.timestamp.month == 2]
    for file in Path(lake.uri).glob("month=2025-01/*.parquet"):
        file.write_bytes(b"no parquet")
    span = (datetime(2025, 2, 1, tzinfo=UTC), None)
    assert held(lake, parse_query({}, span)) == newest_first(february, Query())[::-1]
    assert lake.find([february[0].entry_id]) == {february[0].entry_id: february[0]}
    assert lake.count() == len(trail)
    with pytest.raises(LakeUnavailableError, match="entries"):
        lake.page(parse_query({"agent_id": "agent_a"}), 10, 0)


def test_the_log_and_the_footers_hold_no_contents(lake: Lake, make_entry: MakeEntry) -> None:
    store(lake, [make_entry(content="a-very-secret-content", metadata={"k": "secret-metadata"})])
    lake.vacuum_now()  # writes a checkpoint of the log
    for file in Path(lake.uri, "_delta_log").iterdir():
        assert b"secret" not in file.read_bytes(), file
    [part] = Path(lake.uri).rglob("part-*.parquet")
    footer = pq.ParquetFile(part).metadata.row_group(0)
    columns = [footer.column(number) for number in range(footer.num_columns)]
    counted = {c.path_in_schema for c in columns if c.statistics is not None}
    assert "agent_id" in counted
    assert counted.isdisjoint({"content", "metadata"})


def test_what_is_not_committed_leaves_no_trace(lake: Lake, trail: list[AuditEntry]) -> None:
    store(lake, trail[:5])
    with lake.begin("test") as transaction:
        transaction.add(trail[5:])
        transaction.end_file("2025-01")
        assert len(list(Path(lake.uri).rglob("*.parquet"))) == 2
    assert lake.count() == 5
    assert len(list(Path(lake.uri).rglob("*.parquet"))) == 1


def test_of_two_that_read_the_same_version_one_is_overtaken(
    lake: Lake, settings: Settings, trail: list[AuditEntry]
) -> None:
    store(lake, trail[:1], "other")
    with Lake(settings).begin("archive/2025-01-30") as second:
        store(lake, trail[1:50], "archive/2025-01-30")
        second.add(trail[1:50])
        with pytest.raises(OvertakenError, match="another writer"):
            second.commit()
    assert held(lake) == trail[:50]
    assert len(list(Path(lake.uri).rglob("*.parquet"))) == 2


def test_files_of_a_commit_in_doubt_are_left_where_the_log_may_name_them(
    lake: Lake, trail: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = DeltaLog.commit

    def lose_the_answer(self: DeltaLog, *given: Any, **named: Any) -> int:
        commit(self, *given, **named)
        raise LakeUnavailableError(self.uri, "the answer was lost")

    monkeypatch.setattr(DeltaLog, "commit", lose_the_answer)
    with pytest.raises(LakeUnavailableError, match="answer was lost"):
        store(lake, trail[:20], "archive/2025-01-30")
    assert held(lake) == trail[:20]


def test_writers_of_different_days_do_not_disturb_each_other(
    lake: Lake, settings: Settings, trail: list[AuditEntry]
) -> None:
    store(lake, trail[:1], "other")
    with Lake(settings).begin("archive/2025-01-31") as second:
        store(lake, trail[1:50], "archive/2025-01-30")
        second.add(trail[50:60])
        version = second.commit().version
    assert version == lake.version() == 3
    assert lake.count() == 60


def test_large_days_are_written_in_runs_and_several_files(
    lake: Lake, trail: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_transaction, "RUN_ROWS", 20)
    monkeypatch.setattr(lake_transaction, "PART_ROWS", 60)
    with lake.begin("archive/x") as transaction:
        for start in range(0, len(trail), 7):
            transaction.add(trail[start : start + 7])
        snapshot = transaction.commit()
        transaction.verify(lake.fresh_view())
    assert snapshot.files > 4
    assert snapshot.rows == 400
    assert snapshot.bytes == sum(f.bytes for f in lake.view().files)
    assert held(lake) == newest_first(trail, Query())[::-1]


def test_reading_back_notices_one_changed_value(lake: Lake, trail: list[AuditEntry]) -> None:
    with lake.begin("archive/x") as transaction:
        transaction.add(trail[:50])
        transaction.commit()
        [file] = Path(lake.uri).rglob("*.parquet")
        rows = pl.read_parquet(file, hive_partitioning=False)
        changed = rows.with_columns(
            agent_id=pl.when(pl.int_range(pl.len()) == 3)
            .then(pl.lit("mallory"))
            .otherwise("agent_id")
        )
        changed.write_parquet(file)
        with pytest.raises(LakeUnavailableError, match="differ"):
            transaction.verify(lake.fresh_view())


def test_deleted_rows_are_gone_and_the_rest_is_untouched(
    lake: Lake, trail: list[AuditEntry]
) -> None:
    store_days(lake, trail)
    before = {e.entry_id: c for f in lake.scan(Query()) for e, c in _with_bytes(f)}
    span = parse_span((None, trail[250].timestamp))
    removal = lake.delete_rows(
        span, pl.col("retention") != "permanent", app="purge/1", metadata={"receipt": "r1"}
    )
    kept = [e for e in trail if e.retention == "permanent" or e.timestamp > span.end]
    assert removal.rows == len(trail) - len(kept)
    assert removal.version == lake.version()
    after = {e.entry_id: c for f in lake.scan(Query()) for e, c in _with_bytes(f)}
    assert after == {e.entry_id: before[e.entry_id] for e in kept}


def _with_bytes(frame: pl.DataFrame) -> list[tuple[AuditEntry, bytes]]:
    return list(zip(entries_of(frame), canonical_of(frame), strict=True))


def test_a_whole_day_leaves_without_rewriting(lake: Lake, trail: list[AuditEntry]) -> None:
    store_days(lake, trail)
    span = parse_span((trail[0].day, trail[0].day))
    removal = lake.delete_rows(span, pl.lit(True), app="purge/1")
    assert (removal.files_removed, removal.files_rewritten) == (1, 0)
    assert trail[0].day not in lake.days()


def test_deleting_nothing_commits_nothing(lake: Lake, trail: list[AuditEntry]) -> None:
    version = store(lake, trail)
    removal = lake.delete_rows(Span(), pl.col("severity") == "high", app="purge/1")
    assert (removal.rows, removal.version) == (0, None)
    assert lake.version() == version


def test_a_vacuum_takes_the_bytes(lake: Lake, make_entry: MakeEntry) -> None:
    agents = ["the-secret-agent", "another"]
    store(lake, [make_entry(agent_id=agent) for agent in agents])
    lake.delete_rows(Span(), pl.col("agent_id") == agents[0], app="purge/1")
    assert len(list(Path(lake.uri).rglob("part-*.parquet"))) == 2
    assert len(lake.vacuum_now()) == 1
    [file] = Path(lake.uri).rglob("part-*.parquet")
    assert pl.read_parquet(file).get_column("agent_id").to_list() == [agents[1]]
    assert lake.count() == 1


def test_a_vacuum_takes_orphans_only_when_they_are_old(lake: Lake, make_entry: MakeEntry) -> None:
    store(lake, [make_entry()])
    [file] = Path(lake.uri).rglob("part-*.parquet")
    young, old = file.with_name("part-young.parquet"), file.with_name("part-old.parquet")
    for orphan in (young, old):
        orphan.write_bytes(file.read_bytes())
    two_days_ago = datetime.now(UTC).timestamp() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    lake.vacuum_now()
    assert young.exists(), "it may belong to an archive at work"
    assert not old.exists()
    assert file.exists()


def test_a_reader_of_an_old_version_asks_again_after_a_vacuum(
    lake: Lake, settings: Settings, trail: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(lake, trail)
    reader = Lake(settings)
    stale = reader.view()
    lake.delete_rows(Span(), pl.col("agent_id") == "*", app="purge/1")
    lake.vacuum_now()
    fresh = reader.view
    views = iter([stale])
    monkeypatch.setattr(reader, "view", lambda: next(views, None) or fresh())
    kept = [entry for entry in trail if entry.agent_id != "*"]
    page = reader.page(parse_query({"swarm_id": "red"}), 500, 0)
    assert list(page.entries) == newest_first(kept, parse_query({"swarm_id": "red"}))


def test_compaction_joins_files_and_changes_no_entry(
    lake: Lake, trail: list[AuditEntry]
) -> None:
    store_days(lake, trail)
    before = held(lake)
    snapshots = pl.concat(lake.scan(Query())).select("entry_id", "snapshot").sort("entry_id")
    assert lake.compact_month("2025-01") is not None
    assert [file.month for file in lake.view().files].count("2025-01") == 1
    assert held(lake) == before
    after = pl.concat(lake.scan(Query())).select("entry_id", "snapshot").sort("entry_id")
    assert after.equals(snapshots)
    assert lake.days() == {d: sum(e.day == d for e in trail) for d in {e.day for e in trail}}
    assert lake.compact_month("2025-01") is None


def test_a_corrupt_log_is_named_and_never_looks_empty(
    settings: Settings, lake: Lake, trail: list[AuditEntry]
) -> None:
    store(lake, trail)
    for file in Path(lake.uri, "_delta_log").glob("*.json"):
        file.write_bytes(b"{ no json")
    with pytest.raises(LakeUnavailableError, match="entries cannot be used") as raised:
        Lake(settings).count()
    assert raised.value.uri == lake.uri


@pytest.mark.parametrize("part", ["", "entries", "entries/_delta_log"])
def test_a_file_in_the_folders_place_is_named(settings: Settings, part: str) -> None:
    place = Path(settings.lake_uri, part)
    place.parent.mkdir(parents=True)
    place.write_text("not a folder")
    with pytest.raises(LakeUnavailableError, match="entries cannot be used"):
        Lake(settings).page(Query(), 10, 0)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read every folder, so root becomes somebody else for a moment."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize("locked", ["", "_delta_log"])
def test_a_locked_folder_is_named_and_never_looks_empty(
    settings: Settings, lake: Lake, trail: list[AuditEntry], locked: str
) -> None:
    store(lake, trail)
    folder = Path(lake.uri, locked)
    folder.chmod(0)
    try:
        with unprivileged(), pytest.raises(LakeUnavailableError) as raised:
            Lake(settings).count()
    finally:
        folder.chmod(0o700)
    assert raised.value.uri == lake.uri
    assert "Permission denied" in raised.value.reason


def test_rows_of_a_day_are_sorted_by_swarm_agent_and_time(
    lake: Lake, trail: list[AuditEntry]
) -> None:
    store_days(lake, trail)
    order = ["swarm_id", "agent_id", "timestamp"]
    for file in lake.view().files:
        rows = pl.read_parquet(f"{lake.uri}/{file.path}").select(order)
        assert rows.equals(rows.sort(order))


def test_a_commit_waits_for_the_last_run(
    lake: Lake, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = Event(), Event()
    write, wait = LakeTransaction._write, LakeTransaction._await_run

    def slowly(self: LakeTransaction, month: str, run: pa.Table) -> None:
        begun.set()
        assert finish.wait(60)
        write(self, month, run)

    def let_finish(self: LakeTransaction) -> None:
        finish.set()
        wait(self)

    monkeypatch.setattr(LakeTransaction, "_write", slowly)
    monkeypatch.setattr("audit_storage.lake.transaction.RUN_ROWS", 2)
    with lake.begin("archive/2025-01-01") as transaction:
        transaction.add([make_entry(), make_entry()])  # a full run: nothing waits, none is open
        assert begun.wait(60)
        monkeypatch.setattr(LakeTransaction, "_await_run", let_finish)
        snapshot = transaction.commit()
        transaction.verify(lake.fresh_view())
    assert (snapshot.rows, snapshot.files, lake.count()) == (2, 1, 2)


def test_a_commit_that_lost_rows_on_their_way_is_refused(
    lake: Lake, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LakeTransaction, "_write", lambda *_: None)
    with lake.begin("archive/2025-01-01") as transaction:
        transaction.add([make_entry()])
        with pytest.raises(LakeUnavailableError, match="0 rows were written of 1"):
            transaction.commit()
    assert lake.count() == 0
