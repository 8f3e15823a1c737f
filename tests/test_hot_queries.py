"""Every query, held against `Query.matches` over the same entries in a list."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from claude_max_audit.hot import intersection
from claude_max_audit.hot.keys import agent_key, swarm_key
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.members import Members, Window
from claude_max_audit.hot.plan import Term
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span, parse_query
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)
from hot_trail import AGENTS, FIRST_DAY, SWARMS, newest_first, stamped, varied_entries

ENTRIES = varied_entries(900, seed=7)

VALUES: dict[str, tuple[str, ...]] = {
    "agent_id": (*AGENTS, "*", "nobody"),
    "to_agent": (*AGENTS, "*"),
    "participant": (*AGENTS, "mayor*"),
    "swarm_id": (*SWARMS, "elsewhere", "*", "s"),
    "entry_type": tuple(AuditEntryType),
    "message_type": tuple(MessageType),
    "operation": tuple(OperationType),
    "severity": tuple(SecuritySeverity),
    "retention": tuple(Retention),
    "event_type": ("auth_failure", "other*", "other?", "7"),
    "decision_type": ("approval", "veto"),
    "session_id": ("x", "y", "z*", "?"),
    "content_hash": (*(entry.content_hash for entry in ENTRIES[:12]), "0" * 64),
    "entry_id": (*(entry.entry_id for entry in ENTRIES[:12]), "none"),
}


@pytest.fixture(scope="module")
def hot(redis_server: Any) -> Iterator[HotStore]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    store = HotStore.connect(redis_server.url)
    for start in range(0, len(ENTRIES), 100):
        store.append_batch(stamped(ENTRIES[start : start + 100]))
    yield store
    store.close()


def check(hot: HotStore, query: Query, limit: int = 2_000, offset: int = 0) -> int:
    expected = newest_first(entry for entry in ENTRIES if query.matches(entry))
    page = hot.page(query, limit, offset)
    asked = query.as_dict()
    assert page.total == len(expected), asked
    assert list(page.entries) == expected[offset : offset + limit], asked
    assert hot.count(query) == len(expected), asked
    return len(expected)


@pytest.mark.parametrize("key", VALUES)
def test_each_key_alone_and_any_of_several(hot: HotStore, key: str) -> None:
    totals = [check(hot, parse_query({key: value})) for value in VALUES[key]]
    assert sum(totals) > 0
    for several in (VALUES[key][:2], VALUES[key][1:4], VALUES[key]):
        check(hot, parse_query({key: list(several)}))
        check(hot, parse_query({key: list(several)}), limit=7, offset=5)


def test_citation_finds_its_entry_and_no_other_type(hot: HotStore) -> None:
    entry = ENTRIES[3]
    assert check(hot, parse_query({"citation": entry.citation})) == 1
    wrong = f"if://audit/{'decision' if entry.entry_type != 'decision' else 'message'}/"
    assert check(hot, parse_query({"citation": wrong + entry.entry_id})) == 0
    both = {"citation": entry.citation, "entry_id": ENTRIES[4].entry_id}
    assert check(hot, parse_query(both)) == 0


def test_flags_and_their_complements(hot: HotStore) -> None:
    sides: list[dict[str, Any]] = [
        {"cross_swarm": True},
        {"cross_swarm": False},
        {"retention": "standard"},
        {"retention": ["standard", "permanent"]},
        {"cross_swarm": False, "retention": "standard"},
        {"cross_swarm": True, "retention": "standard"},
        {"cross_swarm": False, "retention": "permanent", "swarm_id": "s1"},
    ]
    for query in sides:
        assert check(hot, parse_query(query)) > 0
        check(hot, parse_query(query), limit=9, offset=4)


def test_no_filter_pages_across_days(hot: HotStore) -> None:
    for limit, offset in [(0, 0), (10, 0), (300, 150), (50, 890), (10, 900), (10, 5_000)]:
        check(hot, Query(), limit, offset)


def test_spans_are_inclusive_at_both_ends(hot: HotStore) -> None:
    moment = ENTRIES[0].timestamp
    tick = timedelta(microseconds=1)
    for span in (
        Span(moment, moment),
        Span(moment + tick, moment + timedelta(days=1) - tick),
        Span(end=moment - tick),
        Span(start=moment),
        Span(FIRST_DAY + timedelta(days=20), FIRST_DAY + timedelta(days=30)),
        Span(datetime(1900, 1, 1, tzinfo=UTC), datetime(1901, 1, 1, tzinfo=UTC)),
    ):
        for where in ({}, {"agent_id": ("a",)}, {"content_hash": (ENTRIES[0].content_hash,)}):
            check(hot, Query(where=where, span=span))


def _any_query(chance: random.Random) -> Query:
    query: dict[str, Any] = {}
    keys = [key for key in VALUES if key != "entry_id" or chance.random() < 0.1]
    for key in chance.sample(keys, chance.choice((1, 2, 2, 3))):
        known = VALUES[key]
        query[key] = chance.sample(known, chance.randint(1, min(4, len(known))))
    if chance.random() < 0.3:
        query["cross_swarm"] = chance.random() < 0.5
    time_range = None
    if chance.random() < 0.4:
        start = FIRST_DAY + timedelta(minutes=30 * chance.randrange(200))
        time_range = (start, start + timedelta(minutes=30 * chance.randrange(100)))
    return parse_query(query, time_range)


@pytest.mark.parametrize("way", ["as it chooses", "intersected", "probed"])
@pytest.mark.parametrize("seed", range(4))
def test_combinations_fit_the_definition(
    hot: HotStore, seed: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "intersected":
        monkeypatch.setattr(intersection, "PROBE_COST", 10**9)
    elif way == "probed":
        monkeypatch.setattr(intersection, "LARGEST", 0)
    chance = random.Random(seed)
    found = 0
    for _ in range(60):
        query = _any_query(chance)
        found += check(hot, query, limit=chance.choice((0, 5, 50)), offset=chance.choice((0, 3)))
        scanned = [entry for chunk in hot.scan(query, chunk=17) for entry in chunk]
        assert scanned == newest_first(e for e in ENTRIES if query.matches(e)), query.as_dict()
    assert found > 0


def test_what_would_hold_redis_up_is_asked_for_in_chunks(
    hot: HotStore, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = Members(RedisLink.open(redis_server.url), Window.of(Span()))
    terms = [Term((agent_key("a"),)), Term((swarm_key("s1"), swarm_key("s2")))]
    wanted = newest_first(
        e for e in ENTRIES if e.agent_id == "a" and {"s1", "s2"} & {e.swarm_id, *e.swarm_ids}
    )
    both = intersection.intersect(entries, intersection.sized(entries, terms))
    assert both is not None
    assert [entry_id.decode() for _, entry_id in both] == [e.entry_id for e in wanted]
    [agent], swarms = intersection.sized(entries, terms)
    monkeypatch.setattr(intersection, "LARGEST", min(agent.size, *(one.size for one in swarms)) - 1)
    assert intersection.intersect(entries, [[agent], swarms]) is None
    assert intersection.intersect(entries, [[agent], []]) == []
    entries.link.close()


def test_words_are_left_to_the_cold_tier(hot: HotStore) -> None:
    with_words = parse_query({"agent_id": "a", "text_query": "green build"})
    assert hot.count(with_words) == hot.count(with_words.without_text())


def test_queries_write_nothing(hot: HotStore, redis_server: Any) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        before = set(client.keys("*"))
        check(hot, parse_query({"participant": ["a", "b*"], "entry_type": "message"}))
        assert set(client.keys("*")) == before
