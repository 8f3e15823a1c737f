"""Hot queries beside the bare Redis commands that any program would have to send for them.

Two Redis servers hold the same made-up traffic, one ten times as much as the other. In turns
each query asks for the newest 100 entries and the exact total, through the library and as bare
commands on the same kind of connection; every turn asks for another agent, swarm and so on,
and both answers must have the same total.

The result is JSON: milliseconds (p50), the ratio of the library to the bare commands, and the
ratio of the larger store to the smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import bare_query
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.members import Window
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span
from claude_max_audit.vocabulary import MessageType, SecuritySeverity
from loaded_store import load, own_redis
from traffic import AGENTS, DAYS, END, SWARMS, traffic

SCRATCH = Path(__file__).resolve().parent / "scratch" / "hot_queries"
ENTRIES = int(os.environ.get("AUDIT_BENCH_ENTRIES") or 100_000)
"""Entries of the larger store; the figures to reach are for 1,000,000."""

SMALLER = 10
"""The smaller store has one in so many."""

CONTENTS = 200
"""Content hashes that are asked for: of the first entries, which both stores have."""

WEEK = Span(END - timedelta(days=DAYS / 2), END - timedelta(days=DAYS / 2 - 7))
EVER = Span()

Bare = Callable[[RedisLink, Window], int]
MESSAGES = ("-", *(word.value for word in MessageType))


@dataclass(frozen=True)
class Case:
    """One query, and how it is asked for bare."""

    query: Query
    bare: Bare


def by_agent(chance: Random, span: Span) -> Case:
    """Entries of one agent."""
    agent = chance.choice(AGENTS)
    key = f"audit:agent:{agent}"
    return Case(
        Query({"agent_id": (agent,)}, span),
        lambda link, window: bare_query.one_set(link, window, key),
    )


def by_swarm(chance: Random, span: Span) -> Case:
    """Entries in one swarm."""
    swarm = chance.choice(SWARMS)
    key = f"audit:swarm:{swarm}"
    return Case(
        Query({"swarm_id": (swarm,)}, span),
        lambda link, window: bare_query.one_set(link, window, key),
    )


def by_severity(chance: Random, span: Span) -> Case:
    """Entries of one severity."""
    severity = chance.choice(list(SecuritySeverity)).value
    key = f"audit:kind:security_event:{severity}"
    return Case(
        Query({"severity": (severity,)}, span),
        lambda link, window: bare_query.one_set(link, window, key),
    )


def by_type(chance: Random, span: Span) -> Case:
    """Entries of one type: messages, which are of several kinds."""
    keys = [f"audit:kind:message:{word}" for word in MESSAGES]
    return Case(
        Query({"entry_type": ("message",)}, span),
        lambda link, window: bare_query.several_sets(link, window, keys),
    )


def by_content(chance: Random, span: Span) -> Case:
    """Copies of one content."""
    content_hash = chance.choice(CONTENT_HASHES)
    return Case(
        Query({"content_hash": (content_hash,)}, span),
        lambda link, window: bare_query.content(link, window, content_hash),
    )


def by_agent_and_swarm(chance: Random, span: Span) -> Case:
    """Entries of one agent in one swarm."""
    agent, swarm = chance.choice(AGENTS), chance.choice(SWARMS)
    where = {"agent_id": (agent,), "swarm_id": (swarm,)}
    return _combined(where, [f"audit:agent:{agent}", f"audit:swarm:{swarm}"], span)


def by_agent_and_severity(chance: Random, span: Span) -> Case:
    """Security events of one agent and one severity."""
    agent, severity = chance.choice(AGENTS), chance.choice(list(SecuritySeverity)).value
    where = {"agent_id": (agent,), "severity": (severity,)}
    keys = [f"audit:agent:{agent}", f"audit:kind:security_event:{severity}"]
    return _combined(where, keys, span)


def by_swarm_and_message_type(chance: Random, span: Span) -> Case:
    """Requests in one swarm: both sets are large."""
    swarm = chance.choice(SWARMS)
    where = {"swarm_id": (swarm,), "message_type": ("request",)}
    return _combined(where, [f"audit:swarm:{swarm}", "audit:kind:message:request"], span)


def _combined(where: Mapping[str, tuple[str, ...]], keys: list[str], span: Span) -> Case:
    way = bare_query.intersection if span == EVER else bare_query.probed
    return Case(Query(where, span), lambda link, window: way(link, window, keys))


CONTENT_HASHES = [s.entry.content_hash for s in islice(traffic(CONTENTS), CONTENTS)]
QUESTIONS: dict[str, tuple[Callable[[Random, Span], Case], Span]] = {
    "agent": (by_agent, EVER),
    "agent, one week": (by_agent, WEEK),
    "swarm": (by_swarm, EVER),
    "swarm, one week": (by_swarm, WEEK),
    "severity": (by_severity, EVER),
    "severity, one week": (by_severity, WEEK),
    "type message": (by_type, EVER),
    "type message, one week": (by_type, WEEK),
    "content hash": (by_content, EVER),
    "agent and swarm": (by_agent_and_swarm, EVER),
    "agent and swarm, one week": (by_agent_and_swarm, WEEK),
    "agent and severity": (by_agent_and_severity, EVER),
    "swarm and message type": (by_swarm_and_message_type, EVER),
}


@dataclass
class Store:
    """One of the two stores, and the milliseconds that each question took in it."""

    entries: int
    hot: HotStore
    link: RedisLink
    library_ms: dict[str, list[float]] = field(default_factory=dict)
    bare_ms: dict[str, list[float]] = field(default_factory=dict)

    def ask(self, name: str, case: Case, bare_first: bool) -> None:
        """Ask in both ways, in an order that alternates; both totals must agree."""
        window = Window.of(case.query.span)
        totals = set()
        for bare in (bare_first, not bare_first):
            started = perf_counter()
            if bare:
                total = case.bare(self.link, window)
            else:
                total = self.hot.page(case.query, bare_query.PAGE, 0).total
            took = (perf_counter() - started) * 1000
            (self.bare_ms if bare else self.library_ms).setdefault(name, []).append(took)
            totals.add(total)
        if len(totals) != 1:
            raise AssertionError(f"{name}: the totals differ, {totals}")

    def forget_times(self) -> None:
        """Drop what was measured to warm up."""
        self.library_ms.clear()
        self.bare_ms.clear()


def measure(entries: int, rounds: int) -> dict[str, object]:
    """Load both stores, ask all questions in turns, and return the result."""
    with ExitStack() as stack:
        large = _store(stack, entries)
        small = _store(stack, entries // SMALLER)
        for number in range(rounds + 1):
            for name, (make, span) in QUESTIONS.items():
                case = make(Random(f"{number} {name}"), span)
                for store in (large, small):
                    store.ask(name, case, bare_first=number % 2 == 0)
            if number == 0:
                for store in (large, small):
                    store.forget_times()
        return figures(large, small, rounds)


def _store(stack: ExitStack, entries: int) -> Store:
    print(f"loading {entries:,} entries", file=sys.stderr)
    server = stack.enter_context(own_redis(SCRATCH / str(entries)))
    load(server.url, traffic(entries))
    hot, link = HotStore.connect(server.url), RedisLink.open(server.url)
    stack.callback(hot.close)
    stack.callback(link.close)
    return Store(entries, hot, link)


def figures(large: Store, small: Store, rounds: int) -> dict[str, object]:
    """The medians and both ratios of each question."""
    queries = {}
    for name in QUESTIONS:
        ours, bare = median(large.library_ms[name]), median(large.bare_ms[name])
        small_ours, small_bare = median(small.library_ms[name]), median(small.bare_ms[name])
        queries[name] = {
            "library_ms": round(ours, 3),
            "bare_ms": round(bare, 3),
            "ratio_to_bare": round(ours / bare, 2),
            "library_ms_smaller": round(small_ours, 3),
            "bare_ms_smaller": round(small_bare, 3),
            "ratio_to_smaller": round(ours / small_ours, 2),
            "bare_ratio_to_smaller": round(bare / small_bare, 2),
        }
    return {
        "what": "p50 milliseconds of the newest 100 entries with the exact total",
        "entries": large.entries,
        "entries_smaller": small.entries,
        "turns": rounds,
        "queries": queries,
        "wanted": {"ratio_to_bare": 2.0, "ratio_to_smaller": 2.0},
    }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=ENTRIES, help="entries of the larger store")
    asked.add_argument("--rounds", type=int, default=40)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.rounds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
