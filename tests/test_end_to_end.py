"""All real events on their whole way: import, Redis, lake and index, search, export.

What each entry must be is worked out here from the source files alone, by the tables of
docs/import.md, and not by the importer's code.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import chromadb
import pyarrow.parquet as pq
import pytest
from chromadb.config import Settings as ChromaSettings

from audit_flows.imports import import_path
from audit_flows.imports.report import ImportReport
from audit_storage.archive.archive import ArchiveReport, archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.export.export import export_trail
from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import entries_of
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.search.search import search_both
from audit_storage.search.text_search import search_text
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.verify import verify
from claude_max_audit import AuditEntry, ClaudeMaxAuditor
from claude_max_audit.entry import ENTRY_FIELDS
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import Settings, load_settings
from conftest import RedisServer
from plain_embedder import PlainEmbedder
from shared_model import share_model, shared_minilm

EVENTS = 7_548
UNTIMED = 36 + 1_356 + 1_099
"""Summary lines of transcripts, and all of tau-bench and of Who&When."""

TRANSCRIPT_ENTRIES = 419
START = datetime(2025, 1, 1, tzinfo=UTC)
OF_THE_RECORDING = ("recorded_at", "writer_id", "writer_seq", "entry_hash")
"""What an entry gets when it is taken down; the source says nothing of it."""

Key = tuple[str, str, int]
Fields = dict[str, Any]


def events_of(folder: Path) -> list[Fields]:
    """Every event, in the files' order."""
    return [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def expected_of(events: list[Fields], untimed_from: datetime) -> dict[Key, Fields]:
    """What the trail must say of each event, but for what the recording adds."""
    expected: dict[Key, Fields] = {}
    untimed = 0
    for event in events:
        moment = event["timestamp"]
        if moment is None:
            at = untimed_from + timedelta(milliseconds=untimed)
            untimed += 1
        else:
            at = datetime.fromisoformat(moment).astimezone(UTC)
        key = (event["source"], event["session"], event["seq"])
        assert key not in expected
        expected[key] = _expected(event, at)
    return expected


def _expected(event: Fields, at: datetime) -> Fields:
    metadata = {**event["metadata"], "source": event["source"], "seq": event["seq"]}
    if event["timestamp"] is None:
        metadata["timestamp_source"] = "order"
    swarms = [event["swarm"]]
    is_message = event["kind"] == "message"
    other = event["metadata"].get("to_swarm")
    if is_message and other and other != event["swarm"]:
        swarms.append(other)
        metadata["cross_swarm"] = True
    return {
        "timestamp": at,
        "entry_type": event["kind"],
        "agent_id": event["from_agent"],
        "swarm_id": event["swarm"],
        "swarm_ids": swarms,
        "from_agent": event["from_agent"] if is_message else None,
        "to_agent": event["to_agent"],
        "message_type": event["message_type"],
        "operation": event["operation"],
        "session_id": event["session"],
        "content": event["content"],
        "content_hash": sha256(event["content"].encode()).hexdigest(),
        "size_bytes": event["size_bytes"],
        "context_window_size": None,
        "severity": None,
        "metadata": metadata,
        "retention": "standard",
        "parent_id": None,
        "schema_version": 1,
    }


def told(fields: Fields) -> Fields:
    """The fields that come from the source; checks those that follow from the others."""
    rest = {name: value for name, value in fields.items() if name not in OF_THE_RECORDING}
    entry_id, citation = rest.pop("entry_id"), rest.pop("citation")
    assert citation == f"if://audit/{rest['entry_type']}/{entry_id}"
    version, moment = UUID(entry_id).version, rest["timestamp"]
    if "timestamp_source" in rest["metadata"]:
        assert version == 8
    else:
        assert version == 7
        assert UUID(entry_id).int >> 80 == int(moment.timestamp() * 1000 + 1e-4)
    return rest


def by_key(all_fields: list[Fields]) -> dict[Key, Fields]:
    """The entries' fields by the event that they tell of; each event once."""
    found = {
        (one["metadata"]["source"], one["session_id"], one["metadata"]["seq"]): told(one)
        for one in all_fields
    }
    assert len(found) == len(all_fields)
    return found


@dataclass
class Journey:
    """One import on its way through every store."""

    settings: Settings
    hot: HotStore
    lake: Lake
    index: EntryIndex
    imported: ImportReport
    hot_texts: dict[str, bytes]
    """The full JSON of every entry while it was in Redis, by id."""
    archived: ArchiveReport


@pytest.fixture(scope="module")
def travel(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[Callable[..., Journey]]:
    """Return what sends a path through every store, in a home and a Redis of its own."""
    open_journeys: list[Journey] = []

    def go(path: Path, untimed_from: datetime | None, now: datetime) -> Journey:
        redis_server.client().flushall()
        home = tmp_path_factory.mktemp("journey")
        settings = load_settings(environ={}, home=home, redis_url=redis_server.url)
        auditor = ClaudeMaxAuditor(redis_url=settings.redis_url, home=settings.home)
        hot = HotStore.connect(redis_server.url, hot_days=30)
        lake, index = Lake(settings), EntryIndex(settings, PlainEmbedder())
        report = import_path(auditor, path, known=hot.existing, untimed_from=untimed_from)
        auditor.sync.flush_all()
        auditor.sync.close()
        texts = {
            json.loads(text)["entry_id"]: text
            for day in hot.days()
            for chunk in hot.scan_day(day)
            for text in chunk
        }
        archived = archive_closed_days(lake, hot, Quarantine(settings), now, index=index)
        journey = Journey(settings, hot, lake, index, report, texts, archived)
        open_journeys.append(journey)
        return journey

    yield go
    for journey in open_journeys:
        journey.hot.close()
        journey.index.close()


@pytest.fixture(scope="module")
def events(realdata: Path) -> list[Fields]:
    return events_of(realdata / "events")


@pytest.fixture(scope="module")
def expected(events: list[Fields]) -> dict[Key, Fields]:
    return expected_of(events, START)


@pytest.fixture(scope="module")
def journey(realdata: Path, travel: Callable[..., Journey]) -> Journey:
    """All events, untimed ones in the files' order from `START` on."""
    return travel(realdata / "events", START, datetime.now(UTC))


@pytest.fixture(scope="module")
def transcripts(realdata: Path, travel: Callable[..., Journey]) -> Journey:
    """Claude Code's own files; their few untimed lines are of the import's day."""
    return travel(realdata / "raw" / "cclog", None, datetime.now(UTC) + timedelta(days=1))


def lake_entries(journey: Journey) -> list[AuditEntry]:
    return [entry for frame in journey.lake.scan(Query()) for entry in entries_of(frame)]


def test_the_files_hold_what_they_are_known_to_hold(events: list[Fields]) -> None:
    assert len(events) == EVENTS
    assert sum(event["timestamp"] is None for event in events) == UNTIMED


def test_the_import_counts_every_event(journey: Journey) -> None:
    report = journey.imported
    assert (report.new_entries, report.already_there) == (EVENTS, 0)
    assert report.untimed == UNTIMED
    assert report.accounted_for
    assert len(journey.hot_texts) == EVENTS


def test_redis_held_every_event_field_by_field(
    journey: Journey, expected: dict[Key, Fields]
) -> None:
    fields = [AuditEntry.from_json(text).to_dict() for text in journey.hot_texts.values()]
    assert by_key(fields) == expected


def test_the_lake_holds_every_event_field_by_field(
    journey: Journey, expected: dict[Key, Fields]
) -> None:
    assert journey.archived.archived == EVENTS
    assert journey.archived.quarantined == 0
    assert not [report.index_error for report in journey.archived.days if report.index_error]
    assert journey.lake.count() == EVENTS
    assert by_key([entry.to_dict() for entry in lake_entries(journey)]) == expected


def test_the_lake_gives_back_the_very_bytes_that_were_in_redis(journey: Journey) -> None:
    for entry in lake_entries(journey):
        assert entry.to_json().encode() == journey.hot_texts[entry.entry_id]
        assert sha256(entry.canonical_bytes()).hexdigest() == entry.entry_hash
    told_hashes = {json.loads(text)["entry_hash"] for text in journey.hot_texts.values()}
    assert len(told_hashes) == EVENTS


def test_the_writer_numbered_the_events_without_a_gap(journey: Journey) -> None:
    numbers = sorted(entry.writer_seq for entry in lake_entries(journey))
    assert numbers == list(range(1, EVENTS + 1))


def test_a_second_import_adds_nothing_from_redis_or_lake(
    journey: Journey, realdata: Path
) -> None:
    def known(ids: Any) -> set[str]:
        return journey.hot.existing(ids) | journey.lake.existing(ids)

    auditor = ClaudeMaxAuditor(redis_url=journey.settings.redis_url, home=journey.settings.home)
    again = import_path(auditor, realdata / "events", known=known)
    auditor.sync.flush_all()
    auditor.sync.close()
    assert (again.new_entries, again.already_there) == (0, EVENTS)
    assert journey.hot.count(Query()) + journey.lake.count() == EVENTS


def test_verify_finds_the_lake_whole(journey: Journey) -> None:
    settings = journey.settings
    report = verify(Lake(settings), CommitRecords(settings), ReceiptBook(settings))
    assert report.findings == ()
    assert report.entries == EVENTS
    assert report.notes == ()


def test_every_id_is_in_the_word_index_and_in_chroma(journey: Journey) -> None:
    months: dict[str, set[str]] = {}
    for entry in lake_entries(journey):
        months.setdefault(f"{entry.timestamp:%Y-%m}", set()).add(entry.entry_id)
    assert journey.index.counts() == {month: len(ids) for month, ids in sorted(months.items())}
    assert not any(journey.index.missing(month, ids) for month, ids in months.items())


def test_chroma_itself_lists_every_id_in_a_collection_of_its_month(journey: Journey) -> None:
    """Asked with Chroma's own client, past all of ours."""
    journey.index.close()
    found: dict[str, set[str]] = {}
    for folder in (journey.settings.chroma / "vectors").glob("????-??.*"):
        client = chromadb.PersistentClient(
            str(folder), ChromaSettings(anonymized_telemetry=False, is_persistent=True)
        )
        try:
            for collection in client.list_collections():
                ids = client.get_collection(collection.name).get(include=[])["ids"]
                found.setdefault(folder.name[:7], set()).update(ids)
        finally:
            close = getattr(client, "close", None)
            if close is not None:
                close()
    expected: dict[str, set[str]] = {}
    for entry in lake_entries(journey):
        expected.setdefault(f"{entry.timestamp:%Y-%m}", set()).add(entry.entry_id)
    assert found == expected


COUNTED = ("agent_id", "to_agent", "swarm_id", "session_id", "entry_type", "message_type",
           "operation")  # fmt: skip


@pytest.mark.parametrize("key", COUNTED)
def test_searches_count_what_the_files_hold(
    key: str, journey: Journey, expected: dict[Key, Fields]
) -> None:
    counts: Counter[str] = Counter()
    for one in expected.values():
        counts.update(one["swarm_ids"] if key == "swarm_id" else [one[key]] if one[key] else [])
    for value, number in counts.most_common(25):
        found = search_both(
            journey.lake, journey.hot, parse_query({key: value}), 3, 0, datetime.now(UTC)
        )
        assert (found.complete, found.total_count) == (True, number), value
        assert len(found.entries) == min(3, number)


def test_pages_follow_each_other_newest_first(
    journey: Journey, expected: dict[Key, Fields]
) -> None:
    now = datetime.now(UTC)
    paged: list[AuditEntry] = []
    for offset in range(0, EVENTS, 1_500):
        found = search_both(journey.lake, journey.hot, Query(), 1_500, offset, now)
        assert found.total_count == EVENTS
        paged += found.entries
    order = [(entry.timestamp, entry.entry_id) for entry in paged]
    assert order == sorted(order, reverse=True)
    assert by_key([entry.to_dict() for entry in paged]) == expected


def test_cross_swarm_messages_are_found_as_such(
    journey: Journey, expected: dict[Key, Fields]
) -> None:
    crossing = [one for one in expected.values() if len(one["swarm_ids"]) == 2]
    assert len(crossing) == 114
    query = parse_query({"cross_swarm": True})
    found = search_both(journey.lake, journey.hot, query, 200, 0, datetime.now(UTC))
    assert found.total_count == len(crossing)
    assert sorted(by_key([entry.to_dict() for entry in found.entries])) == sorted(
        key for key, one in expected.items() if one in crossing
    )
    asked = parse_query({"text_query": "cross_swarm"})
    words = search_text(journey.lake, journey.hot, journey.index, asked, 500, 0)
    assert words.complete
    assert {e.entry_id for e in found.entries} <= {e.entry_id for e in words.entries}


def test_an_agents_name_finds_all_of_that_agent(
    journey: Journey, expected: dict[Key, Fields]
) -> None:
    counts = Counter(one["agent_id"] for one in expected.values())
    names = [name for name, number in counts.items() if "_" in name and 1 < number < 200]
    assert len(names) > 50
    for name in names[::10]:
        asked = parse_query({"text_query": name})
        words = search_text(journey.lake, journey.hot, journey.index, asked, 3_000, 0)
        assert words.complete
        of_agent = {key for key, one in expected.items() if one["agent_id"] == name}
        assert of_agent <= set(by_key([entry.to_dict() for entry in words.entries])), name


@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "parquet"])
def test_an_export_equals_the_files_field_by_field(
    format: str, journey: Journey, expected: dict[Key, Fields], tmp_path: Path
) -> None:
    report = export_trail(
        journey.lake, journey.hot, Query(), format, tmp_path / f"all.{format}",
        exports_dir=tmp_path,
    )  # fmt: skip
    assert report.rows == EVENTS
    assert sha256(report.path.read_bytes()).hexdigest() == report.sha256
    assert by_key(READERS[format](report.path)) == expected


def read_jsonl(path: Path) -> list[Fields]:
    return [_timed(json.loads(line)) for line in path.read_text("utf-8").split("\n") if line]


def read_json(path: Path) -> list[Fields]:
    return [_timed(one) for one in json.loads(path.read_text("utf-8"))]


def _timed(one: Fields) -> Fields:
    absent = dict.fromkeys(name for name in ENTRY_FIELDS if name not in one)
    return {**one, **absent, "timestamp": datetime.fromisoformat(one["timestamp"])}


def read_csv(path: Path) -> list[Fields]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = ("size_bytes", "schema_version", "writer_seq")
    return [
        {
            **{name: cell or None for name, cell in row.items()},
            # Python's reader does not tell an empty cell from "", and no event lacks content.
            "content": row["content"],
            "timestamp": datetime.fromisoformat(row["timestamp"]),
            "swarm_ids": json.loads(row["swarm_ids"]),
            "metadata": json.loads(row["metadata"]),
            **{name: int(row[name]) for name in numbers},
        }
        for row in rows
    ]


def read_parquet(path: Path) -> list[Fields]:
    rows: list[Fields] = pq.ParquetFile(path).read().to_pylist()
    return [
        {**row, "metadata": json.loads(row["metadata"]),
         "timestamp": row["timestamp"].astimezone(UTC)}
        for row in rows
    ]  # fmt: skip


READERS: dict[str, Callable[[Path], list[Fields]]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
}


def test_without_an_instant_untimed_events_have_the_imports_time(
    realdata: Path, travel: Callable[..., Journey]
) -> None:
    before = datetime.now(UTC)
    file = realdata / "events" / "tau_airline_trial0.jsonl"
    journey = travel(file, None, before + timedelta(days=2))
    after = datetime.now(UTC)
    entries = lake_entries(journey)
    assert journey.imported.untimed == len(entries) == 1_356
    assert all(before <= entry.timestamp <= after for entry in entries)
    assert {entry.metadata["timestamp_source"] for entry in entries} == {"import"}
    in_order = [(e["session"], e["seq"]) for e in map(json.loads, file.read_text().splitlines())]
    assert [(entry.session_id, entry.metadata["seq"]) for entry in entries] == in_order
    contents = [json.loads(line)["content"] for line in file.read_text().splitlines()]
    assert [entry.content for entry in entries] == contents


def test_transcripts_go_the_same_way(transcripts: Journey) -> None:
    report = transcripts.imported
    assert report.accounted_for
    assert report.new_entries == transcripts.archived.archived == TRANSCRIPT_ENTRIES
    entries = lake_entries(transcripts)
    assert len(entries) == TRANSCRIPT_ENTRIES
    for entry in entries:
        assert entry.to_json().encode() == transcripts.hot_texts[entry.entry_id]
        assert sha256(entry.canonical_bytes()).hexdigest() == entry.entry_hash
    assert transcripts.index.count() == TRANSCRIPT_ENTRIES
    settings = transcripts.settings
    whole = verify(Lake(settings), CommitRecords(settings), ReceiptBook(settings))
    assert (whole.findings, whole.entries) == ((), TRANSCRIPT_ENTRIES)


def test_each_entry_of_a_transcript_says_what_its_line_says(
    transcripts: Journey, realdata: Path
) -> None:
    """Each names its file and line; time, session and words are looked up there."""
    lines = {
        (file.name, number): json.loads(line)
        for file in (realdata / "raw" / "cclog").rglob("*.jsonl")
        for number, line in enumerate(file.read_text("utf-8").split("\n"), 1)
        if line.strip()
    }
    compared = 0
    for entry in lake_entries(transcripts):
        told_of = entry.metadata
        line = lines[told_of["file"], told_of["line"]]
        assert told_of.get("uuid") == line.get("uuid")
        if line.get("timestamp"):
            assert entry.timestamp == datetime.fromisoformat(line["timestamp"])
        else:
            assert told_of["timestamp_source"] == "import"
        if line.get("sessionId"):
            assert entry.session_id == line["sessionId"]
        if entry.entry_type == "message" and (texts := plain_texts(line)):
            assert entry.content in texts
            compared += 1
    assert compared > 100


def plain_texts(line: Fields) -> list[str]:
    """The texts that a line speaks, where it holds nothing but one spoken text."""
    message = line.get("message") or {}
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list) or len(content) != 1:
        return []
    [block] = content
    return [block[block["type"]]] if block["type"] in ("text", "thinking") else []


def test_real_events_are_found_by_what_they_mean(
    realdata: Path, settings: Settings, make_entry: Callable[..., AuditEntry]
) -> None:
    """The real model on a part of one file: words of the question are not those of the text."""
    share_model(settings.home)
    file = realdata / "events" / "tau_airline_trial0.jsonl"
    events = [json.loads(line) for line in file.read_text().splitlines()[:250]]
    entries = [
        make_entry(
            agent_id=event["from_agent"], to_agent=event["to_agent"], content=event["content"],
            entry_type=event["kind"], message_type=event["message_type"] or "inform",
        )
        for event in events
        if event["kind"] == "message"
    ]  # fmt: skip
    index = EntryIndex(settings, shared_minilm())
    try:
        assert index.add(entries) == len(entries)
        texts = {entry.entry_id: (entry.content or "").lower() for entry in entries}
        for asked, word in (
            ("passenger wants his money back", "refund"),
            ("luggage allowance", "bag"),
            ("method of paying", "card"),
        ):
            best = [texts[hit.entry_id] for hit in list(index.search(asked))[:10]]
            assert sum(word in text for text in best) >= 3, asked
    finally:
        index.close()
