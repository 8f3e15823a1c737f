"""The index finds entries by words and by meaning, says what it lacks, and can be rebuilt."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit_storage.index import index as index_module
from audit_storage.index import text_query
from audit_storage.index.index import EntryIndex
from audit_storage.index.minilm import Vectors
from audit_storage.index.month import MonthDamagedError, month_of
from audit_storage.index.ranking import rank_hits
from audit_storage.index.text_query import NEAREST
from audit_storage.index.word_table import WordMatches
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import EmbedderMissingError
from claude_max_audit.query import Span
from claude_max_audit.settings import Settings, load_settings
from shared_model import share_model, shared_minilm

MakeEntry = Callable[..., AuditEntry]

SAID = [
    "The canary failed its health checks, so the release is rolled back.",
    "The customer asks for the money back because the flight was delayed.",
    "Login refused: the token of the service account has expired.",
    "Please add a button that starts the microphone recording.",
    "The database migration took four hours and finished without errors.",
]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    share_model(tmp_path / "home")
    return load_settings(environ={}, home=tmp_path / "home")


@pytest.fixture
def index(home: Settings) -> Iterator[EntryIndex]:
    index = EntryIndex.open(home)
    yield index
    index.close()


@pytest.fixture
def said(make_entry: MakeEntry) -> list[AuditEntry]:
    """Entries of two months that say different things, newest first."""
    days = [datetime(2025, 11 + n % 2, 3 + n, tzinfo=UTC) for n in range(len(SAID))]
    entries = [
        make_entry(content=text, timestamp=day, agent_id=f"agent_{n}", to_agent="desk")
        for n, (text, day) in enumerate(zip(SAID, days, strict=True))
    ]
    return sorted(entries, key=lambda entry: entry.timestamp, reverse=True)


def _texts(found: Collection[Any], entries: Sequence[AuditEntry]) -> list[str | None]:
    content = {entry.entry_id: entry.content for entry in entries}
    return [content[hit.entry_id] for hit in found]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("why did we revert the deployment", SAID[0]),
        ("passenger wants a refund", SAID[1]),
        ("Find all authorization failures", SAID[2]),
        ("voice capture in the user interface", SAID[3]),
        ("how long did the schema upgrade take", SAID[4]),
    ],
)
def test_a_question_finds_what_it_means(
    index: EntryIndex, said: list[AuditEntry], question: str, answer: str
) -> None:
    assert index.add(said) == len(said)
    for matches in (index.search(question), index.search(question, fresh=said[:2])):
        hits = list(matches)
        assert matches.total == len(hits)
        assert _texts(hits, said)[0] == answer
        assert matches.missing == ()


def test_words_and_meaning_together_rank_first(index: EntryIndex, said: list[AuditEntry]) -> None:
    index.add(said)
    hits = list(index.search("expired token"))
    assert _texts(hits, said)[0] == SAID[2]
    assert hits[0].by == "both"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.fixture
def words_only(tmp_path: Path) -> EntryIndex:
    return EntryIndex.open(load_settings(environ={}, home=tmp_path / "w", embedder="none"))


@pytest.mark.parametrize("place", ["index", "fresh", "both"])
def test_names_are_found_exactly_and_newest_first(
    words_only: EntryIndex, make_entry: MakeEntry, place: str
) -> None:
    entries = [
        make_entry(agent_id=f"haiku_worker_{n % 3}", swarm_ids=("a", "b") if n % 4 else ("a",))
        for n in range(1_200)
    ]
    cut = {"index": len(entries), "fresh": 0, "both": 500}[place]
    words_only.add(entries[:cut])
    fresh = entries[cut:][::-1]
    for text, expected in (
        ("haiku_worker_1", [e for e in entries if e.agent_id == "haiku_worker_1"]),
        ("cross_swarm", [e for e in entries if len(e.swarm_ids) > 1]),
        ("haiku_worker_9", []),
    ):
        matches = words_only.search(text, fresh=fresh)
        for _ in range(2):  # it can be walked again
            assert [hit.entry_id for hit in matches] == [e.entry_id for e in expected[::-1]]
        assert matches.total == len(expected)
        assert {hit.by for hit in matches} <= {"words"}


def test_a_name_is_never_answered_by_likeness(index: EntryIndex, make_entry: MakeEntry) -> None:
    index.add([make_entry(agent_id="haiku_worker_457", content="I am haiku_worker_457")])
    assert index.search("haiku_worker_456").total == 0
    assert index.search("haiku worker").total == 1


def test_every_word_match_counts_and_neighbours_are_bounded(
    words_only: EntryIndex, make_entry: MakeEntry
) -> None:
    words_only.add([make_entry(content="merge queue") for _ in range(NEAREST + 50)])
    words_only.add([make_entry(content="queues grow") for _ in range(NEAREST + 50)])
    matches = words_only.search("the merge queue")
    kinds = [hit.by for hit in matches]
    assert kinds.count("words") == NEAREST + 50
    # The best of those that hold some word hold both of them here.
    assert matches.total == NEAREST + 50
    grown = words_only.search("the growing queue")
    assert 0 < grown.total <= NEAREST + 50


def test_a_filter_is_applied_before_anything_is_counted(
    index: EntryIndex, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_query, "NEAREST", 4)
    entries = [
        make_entry(agent_id="wanted" if n % 10 == 0 else "other", content=f"flight {n} is late")
        for n in range(40)
    ]
    index.add(entries)
    wanted = {entry.entry_id for entry in entries if entry.agent_id == "wanted"}
    matches = index.search("delayed flights", keep=lambda ids: wanted & set(ids))
    assert {hit.entry_id for hit in matches} == wanted
    assert matches.total == len(wanted)


@pytest.mark.parametrize("small", [20_000, 1])
def test_a_span_cuts_months_and_neighbours(
    index: EntryIndex, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(index_module, "SMALL_SPAN", small)
    start = datetime(2025, 11, 25, tzinfo=UTC)
    entries = [
        make_entry(content=f"the flight is late, report {n}", timestamp=start + timedelta(days=n))
        for n in range(12)
    ]
    index.add(entries)
    span = Span(entries[2].timestamp, entries[8].timestamp)
    expected = {entry.entry_id for entry in entries[2:9]}
    for text in ("delayed planes", "late flight", "report"):
        assert {hit.entry_id for hit in index.search(text, span)} == expected
        assert {hit.entry_id for hit in index.search(text, span, fresh=entries)} == expected


def test_fresh_entries_are_ranked_without_an_index(
    index: EntryIndex, said: list[AuditEntry]
) -> None:
    hits = index.rank_texts("passenger wants a refund", said)
    assert _texts(hits, said)[0] == SAID[1]
    assert index.rank_texts("agent_2", said)[0].by == "words"
    assert index.rank_texts("anything", []) == []
    assert index.counts() == {}


def test_fresh_entries_are_embedded_once(
    index: EntryIndex, said: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = _count_embedded(monkeypatch)
    for _ in range(3):
        index.search("a refund", fresh=said)
    assert sum(embedded) == len(said) + 3  # and the question, each time


def _count_embedded(monkeypatch: pytest.MonkeyPatch, stop_after: int = 1_000_000) -> list[int]:
    embedded: list[int] = []
    embed = type(shared_minilm()).embed

    def counting(model: Any, texts: Sequence[str]) -> Vectors:
        if sum(embedded) >= stop_after:
            raise KeyboardInterrupt
        embedded.append(len(texts))
        return embed(model, texts)

    monkeypatch.setattr(type(shared_minilm()), "embed", counting)
    return embedded


def test_an_interrupted_addition_goes_on_where_it_was(
    index: EntryIndex, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "EMBED_AT_ONCE", 10)
    entries = [make_entry(content=f"note {n}") for n in range(35)]
    month, ids = month_of(entries[0].timestamp), [entry.entry_id for entry in entries]
    with monkeypatch.context() as context:
        _count_embedded(context, stop_after=20)
        with pytest.raises(KeyboardInterrupt):
            index.add(entries)
    assert len(index.missing(month, ids)) == 15
    assert index.behind({month: 35}) == [month]
    embedded = _count_embedded(monkeypatch)
    told: list[tuple[int, int]] = []
    assert index.add(entries, lambda done, total: told.append((done, total))) == 35
    assert embedded == [10, 5]
    assert told == [(10, 15), (15, 15)]
    assert index.missing(month, ids) == set()
    assert index.behind({month: 35}) == []


@pytest.mark.parametrize("part", ["words", "vectors"])
def test_a_damaged_month_is_reported_and_can_be_rebuilt(
    home: Settings, index: EntryIndex, said: list[AuditEntry], part: str
) -> None:
    index.add(said)
    index.close()
    _damage(home.chroma / part, "2025-11")
    matches = index.search("passenger wants a refund")
    assert "2025-11" in matches.missing[0]
    assert _texts(list(matches), said)[0] == SAID[1]  # a December entry
    months = {month: [e for e in said if month_of(e.timestamp) == month] for month in
              ("2025-11", "2025-12")}
    ids = {month: {e.entry_id for e in entries} for month, entries in months.items()}
    assert index.missing("2025-11", ids["2025-11"]) == ids["2025-11"]
    assert index.behind({month: len(one) for month, one in ids.items()}) == ["2025-11"]
    index.drop_month("2025-12")
    with pytest.raises(MonthDamagedError, match="2025-11"):
        index.add(said)
    assert index.missing("2025-12", ids["2025-12"]) == set()
    index.drop_month("2025-11")
    index.add(said)
    assert index.counts() == {month: len(one) for month, one in ids.items()}
    assert index.search("passenger wants a refund").missing == ()


def _damage(folder: Path, month: str) -> None:
    for path in folder.rglob("*.sqlite*"):
        if month in str(path):
            path.write_bytes(b"garbage " * 512)


def test_forgetting_takes_entries_out_of_both(
    home: Settings, index: EntryIndex, said: list[AuditEntry]
) -> None:
    index.add(said)
    gone = [entry.entry_id for entry in said[:3]]
    assert index.forget([*gone, "unknown"]) == 3
    assert index.count() == 2
    assert not {hit.entry_id for hit in index.search("the customer's token or release")} & set(gone)
    assert index.forget(gone) == 0
    EntryIndex(home, None).forget([said[3].entry_id])
    assert index.count() == 1


def test_forgetting_drops_a_month_that_cannot_be_read(
    home: Settings, index: EntryIndex, said: list[AuditEntry]
) -> None:
    index.add(said)
    index.close()
    _damage(home.chroma / "vectors", "2025-11")
    index.forget([said[0].entry_id, said[-1].entry_id])
    assert "2025-11" not in index.counts()
    assert not list((home.chroma / "vectors").glob("2025-11.*"))


def test_a_missing_model_leaves_the_words(
    tmp_path: Path, make_entry: MakeEntry, said: list[AuditEntry]
) -> None:
    index = EntryIndex.open(load_settings(environ={}, home=tmp_path, model_dir=tmp_path))
    with pytest.raises(EmbedderMissingError):
        index.add(said)
    matches = index.search("delayed flight")
    assert _texts(list(matches), said)[0] == SAID[1]
    assert "no embedding model" in matches.missing[0]
    assert index.search("agent_1").missing == ()  # a name needs no model


def test_threads_may_share_an_index(index: EntryIndex, make_entry: MakeEntry) -> None:
    parts = [[make_entry(content=f"note {n} of {part}") for n in range(10)] for part in range(4)]
    with ThreadPoolExecutor(4) as threads:
        added = threads.map(index.add, parts)
        found = threads.map(index.search, ["a note"] * 20)
        assert [matches.missing for matches in found] == [()] * 20
        assert sum(added) == 40
    assert index.count() == 40
    assert index.search("note").total == 40


def test_ranks_are_fused_by_reciprocal_rank() -> None:
    def matches(*rows: tuple[int, int, float]) -> WordMatches:
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return WordMatches(np.array(columns[0], np.int64), np.array(columns[1], np.int64),
                           np.array(columns[2], np.float64))

    every = [matches((1, 10, 5.0), (2, 20, 9.0)), matches((1, 30, 7.0))]
    near = [matches(), matches((1, 30, 0.5), (4, 40, 0.9))]
    ranked = rank_hits(every, [matches(), matches()], near)
    assert list(zip(ranked.tables, ranked.numbers, strict=True)) == [(1, 1), (1, 4), (0, 2), (0, 1)]
    np.testing.assert_allclose(ranked.score, [1 / 12 + 1 / 12, 1 / 11, 1 / 11, 1 / 13])
    assert ranked.by_words.tolist() == [True, False, True, True]
    assert ranked.by_meaning.tolist() == [True, True, False, False]
    assert len(rank_hits([], [], []).numbers) == 0


def test_known_entries_of_real_agents_are_found(
    index: EntryIndex, realdata: Path, make_entry: MakeEntry
) -> None:
    entries = _real_entries(realdata, make_entry, 300)
    assert index.add(entries) == len(entries)
    chance = random.Random(5)
    long = [e for e in entries if len(re.findall(r"[a-z]{5,}", e.content or "")) > 12]
    ranks: list[bool] = []
    for entry in chance.sample(long, 20):
        words = list(dict.fromkeys(re.findall(r"[a-z]{5,}", entry.content or "")))
        hits = _texts(list(index.search(" ".join(chance.sample(words, 4)))), entries)
        ranks.append(entry.content in hits[:10])
    assert sum(ranks) >= 16
    for agent in {entry.agent_id for entry in entries if "_" in entry.agent_id}:
        found = {hit.entry_id for hit in index.search(agent)}
        assert found >= {e.entry_id for e in entries if e.agent_id == agent}


def _real_entries(realdata: Path, make_entry: MakeEntry, number: int) -> list[AuditEntry]:
    lines = (realdata / "events" / "whowhen_algorithm.jsonl").read_text().splitlines()[:number]
    return [
        make_entry(agent_id=event["from_agent"], content=event["content"],
                   swarm_id=event["swarm"], metadata=event["metadata"])
        for event in map(json.loads, lines)
    ]
