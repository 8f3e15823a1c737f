"""What goes into the lake's columns comes out again, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_storage.archive.inspection import inspect
from audit_storage.archive.page_proof import prove_page
from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.schema import (
    FILE_SCHEMA,
    LAKE_SCHEMA,
    as_frame,
    entries_of,
    to_frame,
    to_table,
)
from audit_storage.merkle import leaf_hash
from claude_max_audit.entry import (
    ENTRY_FIELDS,
    AuditEntry,
    content_hash_of,
    decode_entry,
    entry_hash_of,
    with_entry_hash,
)
from claude_max_audit.hot.day_reader import DayPage
from claude_max_audit.recorder import Recorder
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

MakeEntry = Callable[..., AuditEntry]

texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["\x00", "null", '"', "\\u0041", "event_type", "\u2028", "😀", "\ufeffx", "a" * 3000, "*?[x]"]
)
names = texts.filter(bool)
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
whole = st.integers(0, 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
metadata = st.dictionaries(
    texts | st.sampled_from(["event_type", "decision_type"]), json_values, max_size=4
)


@st.composite
def entries(draw: st.DrawFn) -> AuditEntry:
    kind = draw(st.sampled_from(AuditEntryType))
    entry_id = str(UUID(int=draw(st.integers(0, 2**128 - 1))))
    content = draw(st.none() | texts)
    encoded = msgspec.json.Encoder(order="deterministic").encode(draw(metadata))
    entry = AuditEntry(
        entry_id=entry_id,
        timestamp=draw(times),
        entry_type=kind,
        agent_id=draw(names),
        swarm_id=draw(names),
        swarm_ids=tuple(draw(st.lists(names, max_size=3))),
        from_agent=draw(st.none() | names),
        to_agent=draw(st.none() | names),
        message_type=draw(st.none() | st.sampled_from(MessageType)),
        operation=draw(st.none() | st.sampled_from(OperationType)),
        session_id=draw(st.none() | names),
        content=content,
        content_hash=content_hash_of(content, encoded),
        size_bytes=draw(whole),
        context_window_size=draw(st.none() | whole),
        severity=draw(st.none() | st.sampled_from(SecuritySeverity)),
        metadata_json=msgspec.Raw(encoded),
        citation=f"if://audit/{kind}/{entry_id}",
        retention=draw(st.sampled_from(Retention)),
        parent_id=draw(st.none() | names),
        recorded_at=draw(times),
        writer_id=draw(names),
        writer_seq=draw(whole),
        schema_version=1,
    )
    return decode_entry(entry.canonical_bytes())


def through_parquet(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as a file gives them back."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.to_arrow().cast(FILE_SCHEMA), sink, store_schema=False)
    return pl.read_parquet(sink.getvalue().to_pybytes())


def proven(of_day: list[AuditEntry]) -> pa.Table:
    """The rows that the archive makes of a page with these entries."""
    ids = [entry.entry_id.encode() for entry in of_day]
    page = DayPage(ids, [entry.to_json().encode() for entry in of_day])
    found = prove_page(page, of_day[0].day, "x")
    assert found is not None
    rows, leaves = found
    assert leaves == [leaf_hash(entry.canonical_bytes()) for entry in of_day]
    return rows


@given(st.lists(entries(), min_size=1, max_size=4))
@settings(deadline=None)
def test_hostile_entries_come_back_byte_for_byte(given_entries: list[AuditEntry]) -> None:
    rows = through_parquet(to_frame(given_entries, "archive/2025-01-01/1"))
    assert entries_of(rows) == given_entries
    for before, after in zip(given_entries, canonical_of(rows), strict=True):
        assert after == before.canonical_bytes()
        assert entry_hash_of(after) == before.entry_hash
        assert inspect(with_entry_hash(after), before.day).entry == before
        assert proven([before]).equals(to_table([before], "x"))


@given(entries())
@settings(deadline=None)
def test_the_words_of_metadata_are_what_a_query_would_see(entry: AuditEntry) -> None:
    row = to_frame([entry], "x").row(0, named=True)
    for key in ("event_type", "decision_type"):
        word = entry.metadata.get(key)
        assert row[key] == (word if isinstance(word, str) else None)


def test_an_escaped_key_of_metadata_is_read_as_a_query_would(make_entry: MakeEntry) -> None:
    raw = msgspec.Raw(b'{"event\\u005ftype":"auth_failure"}')
    entry = make_entry(entry_type="security_event", metadata_json=raw)
    assert entry.metadata["event_type"] == "auth_failure"
    assert to_frame([entry], "x").item(0, "event_type") == "auth_failure"


def test_every_real_event_comes_back_byte_for_byte(realdata: Path) -> None:
    made = list(_real_entries(realdata))
    rows = through_parquet(to_frame(made, "archive/2025-01-01/1"))
    assert len(made) == 7548
    for before, after in zip(made, canonical_of(rows), strict=True):
        assert after == before.canonical_bytes()
        assert entry_hash_of(after) == before.entry_hash
    for day in {entry.day for entry in made}:
        of_day = [entry for entry in made if entry.day == day]
        assert proven(of_day).equals(to_table(of_day, "x"))


def _real_entries(realdata: Path) -> Iterator[AuditEntry]:
    recorder = Recorder("real-events")
    untimed = datetime(2024, 1, 1, tzinfo=UTC)
    for path in sorted((realdata / "events").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            untimed += timedelta(microseconds=1)
            yield decode_entry(
                recorder.make(
                    event["kind"],
                    event["from_agent"],
                    timestamp=datetime.fromisoformat(event["timestamp"])
                    if event["timestamp"]
                    else untimed,
                    swarm_id=event["swarm"],
                    session_id=event["session"],
                    to_agent=event["to_agent"],
                    message_type=event["message_type"],
                    operation=event["operation"],
                    content=event["content"],
                    size_bytes=event["size_bytes"],
                    metadata=event["metadata"],
                ).canonical_bytes()
            )


def test_columns_are_the_entrys_fields_then_what_queries_and_proofs_need() -> None:
    assert tuple(LAKE_SCHEMA.names[: len(ENTRY_FIELDS)]) == ENTRY_FIELDS
    assert LAKE_SCHEMA.names[len(ENTRY_FIELDS) :] == [
        "event_type",
        "decision_type",
        "snapshot",
        "month",
    ]


def test_an_unknown_word_in_the_lake_is_named(make_entry: MakeEntry) -> None:
    rows = to_frame([make_entry()], "x").with_columns(severity=pl.lit("dreadful"))
    with pytest.raises(ValueError, match="severity 'dreadful' is not one of low, medium"):
        entries_of(rows)


def test_no_entries_are_an_empty_frame_with_all_columns() -> None:
    rows = to_frame([], "x")
    assert rows.columns == FILE_SCHEMA.names
    assert entries_of(rows) == []


def test_no_rows_have_no_bytes() -> None:
    assert canonical_of(as_frame(FILE_SCHEMA.empty_table())) == []
