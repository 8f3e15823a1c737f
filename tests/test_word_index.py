"""Words find entries: names whole and in parts, exactly, and no longer once forgotten."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit_storage.index import word_index, word_table
from audit_storage.index.embed_text import meaning_text, words_text
from audit_storage.index.month import MonthDamagedError, MonthUnavailableError
from audit_storage.index.word_index import WordIndex
from audit_storage.index.word_query import parse_words, what_is_meant
from audit_storage.index.word_table import WordRow
from claude_max_audit.entry import AuditEntry, epoch_us
from claude_max_audit.query import Span

MakeEntry = Callable[..., AuditEntry]
MONTH = "2025-11"
AT = epoch_us(datetime(2025, 11, 30, tzinfo=UTC))


@pytest.fixture
def index(tmp_path: Path) -> WordIndex:
    return WordIndex(tmp_path / "words")


def _found(index: WordIndex, text: str, span: Span | None = None) -> set[str]:
    words = parse_words(text)
    assert words.every is not None
    with index.reading(MONTH) as table:
        numbers = table.matches(words.every, span or Span()).numbers.tolist()
        return set(table.ids_of(numbers).values())


def _add(index: WordIndex, *entries: AuditEntry) -> int:
    return index.add(MONTH, [WordRow(e.entry_id, epoch_us(e.timestamp), words_text(e))
                             for e in entries])


@pytest.mark.parametrize(
    "text",
    ["haiku_worker_def456", "haiku", "HAIKU worker", "swarm_secondary", "cross_swarm",
     "cross-swarm", "analyze context", '"the provided context"', "context analyze", "request",
     "nightly-7", "analyze, (context)!", "Caf\u00e9", "cafe", "chunk 3"],
)
def test_a_message_is_found_by_what_it_says_and_by_who(
    index: WordIndex, make_entry: MakeEntry, text: str
) -> None:
    message = make_entry(
        agent_id="sonnet_coordinator_abc123", to_agent="haiku_worker_def456",
        message_type="request", swarm_id="swarm_primary",
        swarm_ids=("swarm_primary", "swarm_secondary"),
        content="Please analyze the provided context of the caf\u00e9",
        metadata={"cross_swarm": True, "run": "nightly-7", "note": {"chunk": ["chunk", 3]}},
    )
    other = make_entry(content="The build is green.", metadata={"cross_swarm": False})
    assert _add(index, message, other) == 2
    assert _found(index, text) == {message.entry_id}


@pytest.mark.parametrize("text", ["auth_failure", "auth", "expired_token", "attempts", "high"])
def test_a_security_event_is_found_by_its_details(
    index: WordIndex, make_entry: MakeEntry, text: str
) -> None:
    event = make_entry(
        entry_type="security_event", severity="high",
        metadata={"event_type": "auth_failure",
                  "details": {"attempts": 3, "cause": "expired_token", "locked": False}},
    )
    _add(index, event, make_entry())
    assert _found(index, text) == {event.entry_id}
    assert _found(index, "locked") == set()


def test_the_meaning_of_an_entry_begins_with_who_did_what(make_entry: MakeEntry) -> None:
    message = make_entry(agent_id="a", to_agent="b", message_type="escalate", swarm_id="s",
                         content="Help")
    event = make_entry(entry_type="security_event", agent_id="a", severity="high",
                       metadata={"event_type": "auth_failure", "details": {"try_count": 3}})
    assert meaning_text(message) == "message escalate from a to b in s: Help"
    assert meaning_text(event) == (
        "security_event auth_failure high from a: try count 3, event type auth_failure"
    )


def test_adding_again_changes_nothing(index: WordIndex, make_entry: MakeEntry) -> None:
    entries = [make_entry(content=f"number {n}") for n in range(5)]
    assert _add(index, *entries[:3]) == 3
    assert _add(index, *entries) == 2
    assert _found(index, "number") == {entry.entry_id for entry in entries}
    with index.reading(MONTH) as table:
        assert table.count() == 5


def test_a_span_is_inclusive_at_both_ends(index: WordIndex) -> None:
    moments = [datetime(2025, 11, 30, 12, 0, 0, us, tzinfo=UTC) for us in range(4)]
    index.add(MONTH, [WordRow(f"id{n}", epoch_us(at), "word") for n, at in enumerate(moments)])
    assert _found(index, "word", Span(moments[1], moments[2])) == {"id1", "id2"}
    with index.reading(MONTH) as table:
        assert set(table.ids(Span(moments[1], moments[2]))) == {"id1", "id2"}
        assert len(table.ids(most=3)) == 3


def test_the_most_telling_entry_is_the_most_relevant(index: WordIndex) -> None:
    index.add(MONTH, [WordRow("long", AT, "merge " + "filler " * 200),
                      WordRow("short", AT, "merge queue"), WordRow("none", AT, "other")])
    with index.reading(MONTH) as table:
        best = table.best('"merge"', Span(), 1)
        assert table.ids_of(best.numbers.tolist()) == {int(best.numbers[0]): "short"}


@pytest.mark.parametrize(
    ("text", "name", "some"),
    [
        ("cross_swarm", True, None),
        ("gastown/crew/jack", True, None),
        ("haiku_7 swarm:blue", True, None),
        ('"merge queue"', True, None),
        ("50%", True, None),
        ("Find all authorization failures", False, '"authorization" * OR "failur" *'),
        ("who failed", False, '"fail" *'),
        ("what is it", False, '"what" * OR "is" OR "it"'),
        ('errors "merge queue"', False, '"merge queue" OR "error" *'),
        ("---", False, None),
    ],
)
def test_a_query_tells_names_from_questions(text: str, name: bool, some: str | None) -> None:
    words = parse_words(text)
    assert (words.name, words.some) == (name, some)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Find all authorization failures", "authorization failures"),
        ("please show me the late flights", "late flights"),
        ("who refused the merge", "who refused the merge"),
        ("finding the leak", "finding the leak"),
        ("list", "list"),
        ("show all", "show all"),
    ],
)
def test_the_words_that_ask_are_not_meant(text: str, meant: str) -> None:
    assert what_is_meant(text) == meant


@pytest.mark.parametrize(
    "text",
    ['"', '""', "a\"b", "NEAR(a b)", "*", "a* OR", "text:word", "a AND NOT b", "^a", "{a b}: c",
     "\0", "a\0b", "-", "\u2603 \U0001f600", "(((", "a + b", "'; DROP TABLE entries", "x" * 9000],
)
def test_no_query_text_breaks_the_search(index: WordIndex, text: str) -> None:
    index.add(MONTH, [WordRow("one", AT, "some words")])
    words = parse_words(text)
    with index.reading(MONTH) as table:
        for expression in (words.every, words.some):
            if expression is not None:
                assert len(table.matches(expression, Span()).numbers) in (0, 1)


def test_forgotten_words_leave_the_file(index: WordIndex, tmp_path: Path) -> None:
    secret = "zyxwvutsrqponm"
    # Words that repeat, are very long or odd, since they must be read back from the index.
    odd = f"{secret} the the {secret} \u0130stanbul \ufb01ne _x_ a-b {'q' * 40_000} \u65e5\u672c"
    index.add(MONTH, [WordRow("gone", AT, odd), WordRow("gone too", AT, ""),
                      *(WordRow(f"kept{n}", AT, f"the word {n}") for n in range(300))])
    path = tmp_path / "words" / f"{MONTH}.sqlite"
    assert secret[3:].encode() in path.read_bytes()
    with index.reading(MONTH) as table:
        ranked = table.matches('"word"', Span()).numbers.tolist()
    assert index.forget(MONTH, ["gone", "gone too", "never was"]) == 2
    assert secret[3:].encode() not in path.read_bytes()
    assert b"qqqqqqqq" not in path.read_bytes()
    assert _found(index, secret) == set()
    assert len(_found(index, "the word")) == 300
    with index.reading(MONTH) as table:
        assert table.matches('"word"', Span()).numbers.tolist() == ranked
        table._db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    assert index.forget(MONTH, ["gone"]) == 0


def test_a_forgetting_that_stops_is_done_by_the_next(
    index: WordIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(MONTH, [WordRow("gone", AT, "zyxwvutsrqponm"), WordRow("kept", AT, "word")])
    texts = word_table.WordTable._texts_of_gone

    def stopping(table: word_table.WordTable) -> object:
        monkeypatch.setattr(word_table.WordTable, "_texts_of_gone", texts)
        list(texts(table))
        raise KeyboardInterrupt

    monkeypatch.setattr(word_table.WordTable, "_texts_of_gone", stopping)
    with pytest.raises(KeyboardInterrupt):
        index.forget(MONTH, ["gone"])
    assert _found(index, "zyxwvutsrqponm") == {"gone"}
    assert index.forget(MONTH, ["gone"]) == 1
    assert b"wvutsrq" not in (tmp_path / "words" / f"{MONTH}.sqlite").read_bytes()


def test_row_numbers_are_not_used_again(index: WordIndex) -> None:
    index.add(MONTH, [WordRow("first", AT, "word")])
    index.forget(MONTH, ["first"])
    index.add(MONTH, [WordRow("second", AT, "word")])
    with index.reading(MONTH) as table:
        assert table.ids_of([1]) == {}


@pytest.mark.parametrize("damage", [b"garbage " * 512, b""])
def test_damage_is_named_and_a_dropped_month_starts_anew(
    index: WordIndex, tmp_path: Path, damage: bytes
) -> None:
    index.add(MONTH, [WordRow("one", AT, "word")])
    (tmp_path / "words" / f"{MONTH}.sqlite").write_bytes(damage)
    with pytest.raises(MonthDamagedError, match=r"2025-11.*reindex"):
        _found(index, "word")
    index.drop(MONTH)
    assert index.months() == []
    assert _found(index, "word") == set()
    index.add(MONTH, [WordRow("one", AT, "word")])
    assert _found(index, "word") == {"one"}


def test_a_locked_file_is_not_taken_for_damage(
    index: WordIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(MONTH, [WordRow("one", AT, "word")])
    monkeypatch.setattr(word_index, "BUSY_SECONDS", 0.01)
    other = sqlite3.connect(tmp_path / "words" / f"{MONTH}.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(MonthUnavailableError):
        _found(index, "word")
    other.close()
    assert _found(index, "word") == {"one"}


_WRITER = """
import sys
from pathlib import Path
from audit_storage.index.word_index import WordIndex
from audit_storage.index.word_table import WordRow
index, who = WordIndex(Path(sys.argv[1])), sys.argv[2]
for n in range(20):
    index.add("2025-11", [WordRow(f"{who}{n}-{k}", 1, f"word {who}") for k in range(5)])
"""


def test_processes_write_one_month_together(index: WordIndex, tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path / "words"), who])
        for who in ("a", "b")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(_found(index, "word")) == 200
