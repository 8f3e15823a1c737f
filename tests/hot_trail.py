"""What the tests of the hot store share: entries of every sort, and a dump of all of Redis."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import Query
from conftest import EntryMaker

FIRST_DAY = datetime(2025, 11, 29, tzinfo=UTC)
AGENTS = ("a", "b*", "[c]", "d:e", "mayor", "mayor/")
SWARMS = ("s1", "s2", "s?", "s1:x")
EVERYTHING = Query()


def stamped(entries: Iterable[AuditEntry]) -> list[Stamped]:
    """Entries as the writer hands them over."""
    return [Stamped(entry, entry.canonical_bytes()) for entry in entries]


def newest_first(entries: Iterable[AuditEntry]) -> list[AuditEntry]:
    """The order of every page."""
    return sorted(entries, key=lambda e: (e.timestamp, e.entry_id), reverse=True)


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Everything in Redis, and of each key whether it expires."""
    read: dict[bytes, Callable[[Any], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    contents: dict[bytes, Any] = {}
    keys: Any = client.keys("*")
    for key in keys:
        kind: Any = client.type(key)
        ttl: Any = client.ttl(key)
        contents[key] = (kind, read[kind](key), ttl > 0)
    return contents


def varied_entries(
    count: int, seed: int = 1, days: int = 4, first: datetime = FIRST_DAY, apart: int = 1
) -> list[AuditEntry]:
    """Valid entries of every type over a few days, with equal times, contents and odd fields.

    The days are `apart` from each other, the first is `first`.
    """
    chance = random.Random(seed)
    make = EntryMaker()
    made = []
    for _ in range(count):
        day, half_hour = divmod(chance.randrange(days * 48), 48)
        moment = first + timedelta(days=day * apart, minutes=30 * half_hour)
        made.append(_varied(make, chance, moment))
    return made


def _varied(make: EntryMaker, chance: random.Random, moment: datetime) -> AuditEntry:
    swarm = chance.choice(SWARMS)
    fields: dict[str, Any] = {"timestamp": moment, "swarm_id": swarm, "metadata": {}}
    kind = chance.choice(
        ("message", "message", "context_access", "decision", "security_event", "performance_metric")
    )
    agent = chance.choice(AGENTS)
    if kind == "message":
        words = ("inform", "request", "escalate", "hold", "response", "error")
        other = chance.choice(SWARMS)
        fields |= {"to_agent": chance.choice(AGENTS), "message_type": chance.choice(words)}
        fields["content"] = chance.choice(("ok", "Please look.", f"number {chance.random()}"))
        if other != swarm:
            fields |= {"swarm_ids": (swarm, other), "metadata": {"cross_swarm": True}}
    elif kind == "context_access":
        fields["operation"] = chance.choice(("read", "write", "update", "delete"))
        fields["session_id"] = chance.choice(("x", "y", "z*"))
    elif kind == "decision":
        fields["metadata"] = {"decision_type": chance.choice(("approval", "veto"))}
    elif kind == "security_event":
        fields["severity"] = chance.choice(("low", "medium", "high", "critical"))
        fields["metadata"] = {"event_type": chance.choice(("auth_failure", "other*"))}
    if chance.random() < 0.05:
        # Nobody is meant to write such entries; a search must find them all the same.
        fields |= {"severity": "high", "operation": "read", "swarm_ids": ("elsewhere",)}
        fields["metadata"] |= {"decision_type": "veto", "event_type": 7, "note": "\u0007"}
    if chance.random() < 0.1:
        fields["retention"] = "permanent"
    return make(entry_type=kind, agent_id=agent, **fields)


def assert_holds(hot: HotStore, entries: Sequence[AuditEntry]) -> None:
    """Pages, totals and days are those of exactly these entries, by every index."""
    expected = newest_first(entries)
    page = hot.page(EVERYTHING, len(entries) + 10, 0)
    assert [e.entry_id for e in page.entries] == [e.entry_id for e in expected]
    assert page.total == len(expected)
    by_day: dict[Any, int] = {}
    for entry in entries:
        by_day[entry.day] = by_day.get(entry.day, 0) + 1
    assert hot.days() == by_day
    for agent in AGENTS:
        query = Query(where={"participant": (agent,)})
        assert hot.count(query) == sum(query.matches(e) for e in entries), agent
    for swarm in SWARMS:
        query = Query(where={"swarm_id": (swarm,)})
        assert hot.count(query) == sum(query.matches(e) for e in entries), swarm


class Killed(BaseException):
    """The process ends here."""


class MortalLink(RedisLink):
    """A link whose process is killed after a number of round trips."""

    lives = 1_000_000

    def _connection(self) -> Any:
        if self.lives == 0:
            raise Killed
        self.lives -= 1
        return super()._connection()


def mortal(url: str) -> MortalLink:
    """A link that the test may kill; close it at the end."""
    link = MortalLink.open(url)
    assert isinstance(link, MortalLink)
    return link
