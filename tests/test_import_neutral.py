"""Neutral events: kept as their source states them, each exactly once."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_flows.imports import import_path
from audit_flows.imports.importer import REPEATED
from claude_max_audit.entry import AuditEntry, epoch_us
from import_recorder import RecordingAuditor, neutral_event, write_lines

START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def auditor() -> RecordingAuditor:
    return RecordingAuditor()


def import_one(tmp_path: Path, auditor: RecordingAuditor, **given: Any) -> AuditEntry:
    path = write_lines(tmp_path / "one.jsonl", [neutral_event(**given)])
    assert import_path(auditor, path, known=auditor.known).new_entries == 1
    return auditor.only


def test_every_real_event_becomes_one_entry_and_a_second_import_adds_none(
    realdata: Path, auditor: RecordingAuditor
) -> None:
    lines = sum(len(file.read_text().splitlines()) for file in (realdata / "events").iterdir())
    first = import_path(auditor, realdata / "events", known=auditor.known, untimed_from=START)
    assert (first.lines, first.new_entries, first.passed_over) == (lines, 7_548, {})
    assert first.untimed == 36 + 1_356 + 1_099
    second = import_path(auditor, realdata / "events", known=auditor.known)
    assert (second.new_entries, second.already_there) == (0, 7_548)
    assert second.accounted_for


def test_real_events_keep_every_field(realdata: Path, auditor: RecordingAuditor) -> None:
    path = realdata / "events" / "gastown_town_2026-02.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    import_path(auditor, path, known=auditor.known)
    for event, entry in zip(events, auditor.entries, strict=True):
        own = entry.metadata
        assert own.pop("source") == event["source"]
        assert own.pop("seq") == event["seq"]
        crossed = own.pop("cross_swarm", False)
        assert own == event["metadata"]
        assert crossed == (
            event["kind"] == "message"
            and event["metadata"].get("to_swarm") not in (None, event["swarm"])
        )
        kept = [
            entry.agent_id, entry.to_agent, entry.swarm_id, entry.session_id, entry.entry_type,
            entry.message_type, entry.operation, entry.content, entry.size_bytes,
            entry.timestamp,
        ]  # fmt: skip
        names = (
            "from_agent", "to_agent", "swarm", "session", "kind", "message_type", "operation",
            "content", "size_bytes",
        )  # fmt: skip
        stated = datetime.fromisoformat(event["timestamp"])
        assert kept == [*(event[name] for name in names), stated]


def test_a_message_to_another_swarm_belongs_to_both(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    entry = import_one(tmp_path, auditor, metadata={"to_swarm": "blue"})
    assert entry.swarm_ids == ("red", "blue")
    assert entry.metadata["cross_swarm"] is True


@pytest.mark.parametrize(
    "given",
    [
        {"metadata": {"to_swarm": "red"}},
        {
            "kind": "context_access",
            "message_type": None,
            "operation": "read",
            "metadata": {"to_swarm": "blue"},
        },
    ],
)
def test_only_a_message_that_leaves_its_swarm_crosses(
    tmp_path: Path, auditor: RecordingAuditor, given: dict[str, Any]
) -> None:
    assert import_one(tmp_path, auditor, **given).swarm_ids == ("red",)


def test_an_id_holds_the_events_own_time_and_does_not_depend_on_the_file(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    event = neutral_event()
    write_lines(tmp_path / "a" / "one.jsonl", [event])
    write_lines(tmp_path / "b" / "two.jsonl", [neutral_event(seq=1), event])
    report = import_path(auditor, tmp_path, known=auditor.known)
    assert (report.new_entries, report.passed_over) == (2, {REPEATED: 1})
    first = auditor.entries[0]
    assert first.entry_id[14] == "7"
    milliseconds = int(first.entry_id.replace("-", "")[:12], 16)
    assert milliseconds == epoch_us(first.timestamp) // 1000


@pytest.mark.parametrize("changed", [{"source": "x"}, {"session": "x"}, {"seq": 7}])
def test_source_session_and_seq_each_make_another_event(
    tmp_path: Path, auditor: RecordingAuditor, changed: dict[str, Any]
) -> None:
    path = write_lines(tmp_path / "x.jsonl", [neutral_event(), neutral_event(**changed)])
    assert import_path(auditor, path, known=auditor.known).new_entries == 2


def test_untimed_events_follow_the_given_start_in_order_and_say_so(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    write_lines(tmp_path / "1.jsonl", [neutral_event(seq=n, timestamp=None) for n in (0, 1)])
    write_lines(tmp_path / "2.jsonl", [neutral_event(seq=2, timestamp=None)])
    report = import_path(auditor, tmp_path, known=auditor.known, untimed_from=START)
    assert [e.timestamp - START for e in auditor.entries] == [
        timedelta(milliseconds=n) for n in range(3)
    ]
    assert {e.metadata["timestamp_source"] for e in auditor.entries} == {"order"}
    assert (report.untimed, report.oldest) == (3, None)


def test_untimed_events_without_a_start_get_the_imports_time_in_order(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    events = [neutral_event(seq=n, timestamp=None) for n in range(20)]
    before = datetime.now(UTC)
    import_path(auditor, write_lines(tmp_path / "x.jsonl", events), known=auditor.known)
    times = [entry.timestamp for entry in auditor.entries]
    assert times == sorted(set(times))
    assert before <= times[0]
    assert {e.metadata["timestamp_source"] for e in auditor.entries} == {"import"}


def test_an_untimed_event_has_the_same_id_at_every_import(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [neutral_event(timestamp=None)])
    ids = set()
    for start in (None, START, START + timedelta(days=9)):
        auditor = RecordingAuditor()
        import_path(auditor, path, known=auditor.known, untimed_from=start)
        ids.add(auditor.only.entry_id)
    (only,) = ids
    assert only[14] == "8"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": "gossip"}, "kind is unknown"),
        ({"kind": None}, "kind is missing"),
        ({"from_agent": None}, "from_agent is missing"),
        ({"from_agent": 7}, "from_agent is not text"),
        ({"source": ""}, "source is missing"),
        ({"seq": "0"}, "seq is not a whole number"),
        ({"seq": True}, "seq is not a whole number"),
        ({"content": 12}, "content is neither text nor null"),
        ({"to_agent": ["a"]}, "to_agent is neither text nor null"),
        ({"size_bytes": "19"}, "size_bytes is not a whole number"),
        ({"metadata": []}, "metadata is not an object"),
        ({"timestamp": 1764504000}, "timestamp is not text"),
        ({"timestamp": "yesterday"}, "timestamp is not ISO 8601"),
        ({"message_type": "shout"}, "message_type is unknown"),
        ({"message_type": None}, "message_type is missing"),
        ({"kind": "context_access"}, "operation is missing"),
        ({"kind": "security_event"}, "severity is missing"),
        ({"size_bytes": -1}, "refused: size_bytes"),
        ({"to_agent": " "}, "refused: to_agent"),
        ({"metadata": {"retention": "for a while"}}, "refused: metadata['retention']"),
        ({"metadata": {"n": 2**64}}, "refused: metadata['n']"),
    ],
)
def test_a_bad_event_is_passed_over_with_its_reason_and_place(
    tmp_path: Path, auditor: RecordingAuditor, given: dict[str, Any], reason: str
) -> None:
    path = write_lines(tmp_path / "x.jsonl", [neutral_event(), neutral_event(seq=1, **given)
                                              if "seq" not in given else neutral_event(**given)])
    report = import_path(auditor, path, known=auditor.known)
    assert report.passed_over == {reason: 1}
    assert report.examples[reason][0].startswith("x.jsonl:2")
    assert report.new_entries == 1
    assert report.accounted_for


def test_a_security_event_takes_its_severity_from_the_metadata(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    entry = import_one(
        tmp_path,
        auditor,
        kind="security_event",
        message_type=None,
        metadata={"severity": "high", "event_type": "auth_failure"},
    )
    assert (entry.severity, entry.metadata["event_type"]) == ("high", "auth_failure")


def test_characters_that_no_id_may_hold_are_encoded_and_noted(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    entry = import_one(tmp_path, auditor, from_agent="a*b\n", to_agent="c[0]", swarm="50%")
    assert (entry.agent_id, entry.to_agent, entry.swarm_id) == ("a%2Ab%0A", "c%5B0%5D", "50%")
    assert entry.metadata["encoded_ids"] == {
        "agent_id": "a*b\n", "from_agent": "a*b\n", "to_agent": "c[0]",
    }  # fmt: skip


def test_half_characters_are_replaced_and_noted(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    entry = import_one(tmp_path, auditor, content="cut \ud83d", size_bytes=None)
    assert entry.content == "cut \ufffd"
    assert "U+FFFD" in entry.metadata["mended"]


def test_whole_characters_written_as_two_escapes_stay_as_they_are(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    entry = import_one(tmp_path, auditor, content="\U0001f600")
    assert (entry.content, "mended" in entry.metadata) == ("\U0001f600", False)


def test_metadata_that_uses_our_names_is_moved_not_lost(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    entry = import_one(tmp_path, auditor, metadata={"source": "page 7", "seq": 0, "x": 1})
    assert entry.metadata == {
        "source": "some-system", "seq": 0, "x": 1, "displaced": {"source": "page 7"},
    }  # fmt: skip


def test_the_size_is_the_sources_even_when_the_content_was_cut(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    assert import_one(tmp_path, auditor, content="cut", size_bytes=99_999).size_bytes == 99_999


def test_an_import_that_was_stopped_goes_on_where_it_stopped(tmp_path: Path) -> None:
    class StopsAt(RecordingAuditor):
        left = 700

        def record(self, *args: Any, **fields: Any) -> str:
            if self.left == 0:
                raise ConnectionError("the store went away")
            self.left -= 1
            return super().record(*args, **fields)

    path = write_lines(tmp_path / "x.jsonl", (neutral_event(seq=n) for n in range(1_000)))
    auditor = StopsAt()
    with pytest.raises(ConnectionError):
        import_path(auditor, path, known=auditor.known)
    auditor.left = 10_000
    report = import_path(auditor, path, known=auditor.known)
    assert (report.already_there, report.new_entries) == (700, 300)
    assert set(Counter(entry.entry_id for entry in auditor.entries).values()) == {1}


def test_progress_ends_with_all_bytes_and_entries(
    tmp_path: Path, auditor: RecordingAuditor
) -> None:
    path = write_lines(tmp_path / "x.jsonl", (neutral_event(seq=n) for n in range(1_200)))
    told: list[tuple[int, int, int]] = []
    import_path(auditor, path, known=auditor.known, progress=lambda *now: told.append(now))
    assert told[-1] == (path.stat().st_size, path.stat().st_size, 1_200)
    assert told == sorted(told)
    assert len(told) > 2
