"""Words and meaning over both tiers: every entry once, filters exact, bounds told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.index import index as index_module
from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from audit_storage.search import text_search
from audit_storage.search.text_search import search_text
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import parse_query
from claude_max_audit.results import AuditQueryResult
from claude_max_audit.settings import Settings
from hot_trail import newest_first, stamped
from plain_embedder import PlainEmbedder

NOW = datetime.now(UTC)
MakeEntry = Callable[..., AuditEntry]


class Trail:
    """Redis, lake and index; some entries are archived, some only in Redis."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url is not None
        self.settings = settings
        self.hot = HotStore.connect(settings.redis_url)
        self.lake = Lake(settings)
        self.index = EntryIndex(settings, PlainEmbedder())

    def log(self, entries: Sequence[AuditEntry]) -> None:
        self.hot.append_batch(stamped(entries))

    def archive(self) -> None:
        archive_closed_days(
            self.lake, self.hot, Quarantine(self.settings), NOW, index=self.index
        )

    def search(
        self, text: str, limit: int = 1_000, offset: int = 0, span: Any = None, **where: Any
    ) -> AuditQueryResult:
        query = parse_query({"text_query": text, **where}, span)
        return search_text(self.lake, self.hot, self.index, query, limit, offset)


@pytest.fixture
def trail(settings: Settings) -> Iterator[Trail]:
    trail = Trail(settings)
    yield trail
    trail.hot.close()
    trail.index.close()


def spread(make: MakeEntry, count: int, **fields: Any) -> list[AuditEntry]:
    """Entries of the last forty days, two agents in turn, every third across swarms."""
    return [
        make(
            timestamp=NOW - timedelta(hours=1 + n * 960 // count),
            agent_id=f"haiku_worker_{n % 2}",
            swarm_id="red",
            swarm_ids=("red", "blue") if n % 3 == 0 else ("red",),
            content=f"report number {n}",
            **fields,
        )
        for n in range(count)
    ]


@pytest.fixture
def entries(trail: Trail, make_entry: MakeEntry) -> list[AuditEntry]:
    """Old ones in the lake alone, newer ones in both, late ones and today's in Redis alone."""
    made = spread(make_entry, 90)
    trail.log(made[::2])
    trail.archive()
    trail.log(made)
    return made


def ids(entries: Sequence[AuditEntry]) -> list[str]:
    return [entry.entry_id for entry in entries]


def test_an_agents_name_finds_all_of_it_wherever_it_is(
    trail: Trail, entries: list[AuditEntry]
) -> None:
    for name in ("haiku_worker_0", "haiku_worker_1"):
        expected = newest_first(entry for entry in entries if entry.agent_id == name)
        found = trail.search(name)
        assert (found.complete, found.total_count) == (True, len(expected))
        assert ids(found.entries) == ids(expected)
    assert trail.search("haiku_worker_2").total_count == 0


def test_cross_swarm_finds_what_crosses_swarms(trail: Trail, entries: list[AuditEntry]) -> None:
    expected = newest_first(entry for entry in entries if len(entry.swarm_ids) > 1)
    found = trail.search("cross_swarm")
    assert ids(found.entries) == ids(expected)
    assert found.total_count == len(expected) == 30


def test_other_filters_hold_beside_the_words(trail: Trail, entries: list[AuditEntry]) -> None:
    span = (NOW - timedelta(days=35), NOW - timedelta(days=2))
    expected = newest_first(
        entry
        for entry in entries
        if entry.agent_id == "haiku_worker_1"
        and len(entry.swarm_ids) > 1
        and span[0] <= entry.timestamp <= span[1]
    )
    assert len(expected) > 3
    for where in ({"agent_id": "haiku_worker_1"}, {"participant": ["haiku_worker_1"]}):
        found = trail.search("cross_swarm", span=span, **where)
        assert (found.complete, ids(found.entries)) == (True, ids(expected))
    crossing = trail.search("haiku_worker_1", span=span, cross_swarm=True)
    assert (crossing.total_count, ids(crossing.entries)) == (len(expected), ids(expected))


def test_pages_tile_what_was_found(trail: Trail, entries: list[AuditEntry]) -> None:
    whole = ids(trail.search("report").entries)
    assert sorted(whole) == sorted(ids(entries))
    paged = [
        entry_id
        for offset in range(0, len(entries), 7)
        for entry_id in ids(trail.search("report", 7, offset).entries)
    ]
    assert paged == whole
    assert trail.search("report", 10, 5_000).entries == []


def test_what_is_archived_meanwhile_is_still_found_once(
    trail: Trail, entries: list[AuditEntry]
) -> None:
    before = ids(trail.search("haiku_worker_0").entries)
    trail.archive()
    assert ids(trail.search("haiku_worker_0").entries) == before


def test_of_redis_the_newest_are_searched_and_the_bound_is_told(
    trail: Trail, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "HOT_TEXT_ENTRIES", 40)
    made = newest_first(spread(make_entry, 60))
    trail.log(made[:40])
    at_the_bound = trail.search("report")
    assert (at_the_bound.complete, at_the_bound.total_count) == (True, 40)
    trail.log(made)
    past_it = trail.search("report")
    assert sorted(ids(past_it.entries)) == sorted(ids(made[:40]))
    assert not past_it.complete
    assert "only the newest 40 entries that are not archived yet" in past_it.missing[0]
    # A filter comes first: of what fits it, everything is within the bound.
    assert trail.search("report", agent_id="haiku_worker_1").complete


def test_the_bound_counts_only_what_the_lake_lacks(
    trail: Trail, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "HOT_TEXT_ENTRIES", 10)
    yesterday = NOW - timedelta(days=1)
    archived = [make_entry(timestamp=yesterday, content="report") for _ in range(50)]
    trail.log(archived)
    trail.archive()
    trail.log([make_entry(timestamp=NOW, content="report") for _ in range(10)])
    found = trail.search("report")
    assert (found.complete, found.total_count) == (True, 60)


def test_when_not_all_are_compared_by_meaning_the_answer_says_so(
    trail: Trail, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "HOT_EMBED_ENTRIES", 20)
    trail.log(spread(make_entry, 30))
    found = trail.search("report")
    assert not found.complete
    assert "by meaning only the newest 20 of 30" in found.missing[0]
    assert found.total_count == 30, "by words all were found"
    assert trail.search("haiku_worker_0").complete, "a name is a matter of words"


def test_a_redis_that_is_away_is_named_and_the_lake_answers(
    trail: Trail, entries: list[AuditEntry]
) -> None:
    archived = trail.lake.existing(ids(entries))
    away = HotStore.connect(f"unix://{trail.settings.home}/none.sock")
    query = parse_query({"text_query": "report"})
    found = search_text(trail.lake, away, trail.index, query, 1_000, 0)
    assert {entry.entry_id for entry in found.entries} == archived
    assert not found.complete
    assert found.missing[0].startswith("redis: ")
    away.close()
