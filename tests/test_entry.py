"""The entry: immutable, exact through JSON, and its canonical bytes prove it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_max_audit import AuditEntry, AuditEntryType, CitationGenerator, MessageType
from claude_max_audit.entry import decode_entry, epoch_us, with_entry_hash
from claude_max_audit.recorder import Recorder, encode_canonical

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def recorded(**fields: object) -> AuditEntry:
    entry = Recorder("0123456789abcdef").make(AuditEntryType.MESSAGE, "agent", **fields)  # type: ignore[arg-type]
    return decode_entry(encode_canonical(entry))


@given(content=text, metadata=st.dictionaries(text, json_values, max_size=5))
@settings(max_examples=150, deadline=None)
def test_an_entry_comes_back_exactly_from_json_and_from_its_dict(
    content: str, metadata: dict[str, object]
) -> None:
    metadata.pop("retention", None)
    entry = recorded(content=content, metadata=metadata)
    assert AuditEntry.from_json(entry.to_json()) == entry
    assert AuditEntry.from_dict(entry.to_dict()) == entry
    assert entry.metadata == metadata
    assert entry.content == content


def test_the_entry_hash_is_of_the_json_without_it() -> None:
    entry = recorded(content="Grüße ☃", metadata={"b": 1, "a": [1, None]})
    fields = json.loads(entry.to_json())
    claimed = fields.pop("entry_hash")
    rebuilt = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    assert rebuilt == entry.canonical_bytes()
    assert claimed == entry.entry_hash == sha256(rebuilt).hexdigest()


def test_metadata_is_written_with_sorted_keys_and_kept_verbatim() -> None:
    entry = recorded(content="x", metadata={"z": 1, "a": {"d": 1, "c": 2}})
    assert bytes(entry.metadata_json) == b'{"a":{"c":2,"d":1},"z":1}'
    unsorted = with_entry_hash(
        entry.canonical_bytes().replace(b'{"a":{"c":2,"d":1},"z":1}', b'{"z": 1,"a":{}}')
    )
    assert bytes(decode_entry(unsorted).metadata_json) == b'{"z": 1,"a":{}}'


def test_an_entry_cannot_be_changed() -> None:
    entry = recorded(content="x", metadata={"a": 1})
    with pytest.raises(AttributeError):
        entry.content = "y"  # type: ignore[misc]
    entry.metadata["a"] = 2
    assert entry.metadata == {"a": 1}


def test_without_content_the_content_hash_is_of_the_metadata() -> None:
    entry = recorded(metadata={"b": 1, "a": 2})
    assert entry.content is None
    assert entry.content_hash == sha256(b'{"a":2,"b":1}').hexdigest()


def test_times_are_utc_and_exact_to_the_microsecond() -> None:
    moment = datetime(2025, 1, 1, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=5)))
    entry = recorded(content="x", timestamp=moment)
    assert entry.timestamp == moment
    assert entry.timestamp.tzinfo is UTC
    naive = datetime(2025, 1, 1, 0, 0, 0, 1)
    assert recorded(content="x", timestamp=naive).timestamp == naive.replace(tzinfo=UTC)
    assert epoch_us(datetime(1970, 1, 2, 0, 0, 0, 7, tzinfo=UTC)) == 86_400_000_007


def test_ids_are_uuids_of_version_7_and_citations_are_theirs() -> None:
    entry = recorded(content="x")
    assert UUID(entry.entry_id).version == 7
    assert entry.citation == f"if://audit/message/{entry.entry_id}"
    assert CitationGenerator.parse(entry.citation) == (AuditEntryType.MESSAGE, entry.entry_id)


def test_a_message_between_swarms_says_so_whatever_the_caller_gave() -> None:
    entry = recorded(
        content="x", from_swarm="a", to_swarm="b", metadata={"cross_swarm": False, "k": 1}
    )
    assert entry.swarm_ids == ("a", "b")
    assert entry.swarm_id == "a"
    assert entry.metadata == {"cross_swarm": True, "k": 1}
    inside = recorded(content="x", from_swarm="a", to_swarm="a")
    assert inside.swarm_ids == ("a",)
    assert inside.metadata == {}


def test_retention_comes_from_the_argument_or_the_metadata() -> None:
    assert recorded(content="x").retention == "standard"
    assert recorded(content="x", retention="permanent").retention == "permanent"
    assert recorded(content="x", metadata={"retention": "permanent"}).retention == "permanent"
    with pytest.raises(ValueError, match=r"metadata\['retention'\] 'forever' is unknown"):
        recorded(content="x", metadata={"retention": "forever"})


def test_numbers_have_no_gap_when_an_entry_is_refused() -> None:
    recorder = Recorder("0123456789abcdef")
    for seq in (1, 2):
        entry = recorder.make(AuditEntryType.MESSAGE, "a", content="x")
        assert entry.writer_seq == seq
        with pytest.raises(ValueError, match="agent_id"):
            recorder.make(AuditEntryType.MESSAGE, "", content="x")


def test_to_dict_has_every_field_and_plain_values(make_entry: Callable[..., AuditEntry]) -> None:
    fields = make_entry(message_type=MessageType.HOLD).to_dict()
    assert fields["message_type"] == "hold"
    assert type(fields["message_type"]) is str
    assert fields["severity"] is None
    assert fields["parent_id"] is None
    assert fields["swarm_ids"] == ["unknown"]
    assert len(fields) == 25


@pytest.mark.parametrize(
    "citation",
    [
        "if://audit/message/a1b2c3d4-5678-90ef-ghij-klmnopqrstuv",
        "if://audit/decision/x9y8z7w6-5432-10ef-jihg-tsrqponmlkji",
        "if://audit/security_event/m5n4o3p2-1098-76ef-dcba-ihgfedcbakji",
        "if://audit/performance_metric/01a20ad0-5fe5-7a7d-9155-3e8c1a000ba4",
    ],
)
def test_the_format_s_own_examples_are_valid(citation: str) -> None:
    assert CitationGenerator.validate(citation)


@pytest.mark.parametrize(
    "citation",
    [
        "if://audit/gossip/01a20ad0-5fe5-7a7d-9155-3e8c1a000ba4",
        "if://audit/message/01a20ad0-5fe5-7a7d-9155-3e8c1a000ba4/",
        "if://audit/message/01a20ad0-5fe5-7a7d-9155-3e8c1a000ba4\n",
        "if://audit/message/01a20ad05fe57a7d91553e8c1a000ba4",
        "if://code/message/01a20ad0-5fe5-7a7d-9155-3e8c1a000ba4",
        "",
        None,
    ],
)
def test_what_is_no_citation_is_refused(citation: str) -> None:
    assert not CitationGenerator.validate(citation)
    with pytest.raises(ValueError, match="is not a citation"):
        CitationGenerator.parse(citation)


def test_only_true_uuids_are_cited() -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        CitationGenerator.generate("message", "a1b2c3d4-5678-90ef-ghij-klmnopqrstuv")
    with pytest.raises(ValueError, match="known are message"):
        CitationGenerator.generate("gossip", "01a20ad0-5fe5-7a7d-9155-3e8c1a000ba4")
