"""Members that stand in each of several terms, found by Redis itself with ZINTER.

Called by the reader for queries of several conditions. Exact totals need the whole
intersection; Redis makes it in a fraction of the time that asking after each member takes,
but does nothing else meanwhile. So sizes are looked at first, and where an intersection would
hold Redis up, or the window is a small part of it, the answer is None and the reader goes
through the rarest term in chunks instead. Reads only; ZINTER needs Redis 6.2.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import inf, prod
from typing import Final

from claude_max_audit.hot.link import Command
from claude_max_audit.hot.members import Member, Members, members_of
from claude_max_audit.hot.plan import Term

LARGEST: Final = 100_000
"""Most members of the smallest set of one ZINTER: Redis is busy with so many for 30 to 100 ms."""

_MOST_COMMANDS: Final = 64
"""Most ZINTERs for one query: terms of several keys are multiplied out."""

PROBE_COST: Final = 4
"""What asking after one member costs, in members that ZINTER looks at meanwhile."""


@dataclass(frozen=True, slots=True)
class SizedKey:
    """A sorted set: how many members it has, and how many of them are in the window."""

    key: str
    size: int
    within: int


def sized(members: Members, terms: Iterable[Term]) -> list[list[SizedKey]]:
    """Each term's keys that have members in the window, the largest first."""
    terms = list(terms)
    keys = [key for term in terms for key in term.keys]
    replies = members.link.ask(
        [*(("ZCARD", key) for key in keys), *map(members.count_command, keys)]
    )
    every = map(SizedKey, keys, replies[: len(keys)], replies[len(keys) :])
    by_key = {one.key: one for one in every}
    return [
        sorted(
            (by_key[key] for key in term.keys if by_key[key].within),
            key=lambda one: one.within,
            reverse=True,
        )
        for term in terms
    ]


def intersect(members: Members, terms: Sequence[Sequence[SizedKey]]) -> list[Member] | None:
    """Members within the window that each term has, newest first; None where it costs too much."""
    if any(not term for term in terms):
        return []
    commands, cost = _commands(terms)
    rarest = min(sum(one.within for one in term) for term in terms)
    if cost > PROBE_COST * rarest:
        return None
    found = _in_order(list(map(members_of, members.link.ask(commands))))
    first = bisect_left(found, (members.window.low, b""))
    last = bisect_left(found, (members.window.high + 1, b""))
    return found[first:last][::-1]


def _in_order(intersections: list[list[Member]]) -> list[Member]:
    """The members of any of them, each once, oldest first: as Redis orders each by itself."""
    if len(intersections) == 1:
        return intersections[0]
    return sorted(set(chain.from_iterable(intersections)))


def _commands(terms: Sequence[Sequence[SizedKey]]) -> tuple[list[Command], float]:
    """The ZINTERs, and how many members Redis looks at for them, infinite if too many."""
    if prod(map(len, terms)) > _MOST_COMMANDS:
        return [], inf
    commands: list[Command] = []
    cost = 0
    for keys in product(*terms):
        smallest = min(one.size for one in keys)
        if smallest > LARGEST:
            return [], inf
        cost += smallest * (len(keys) - 1)
        names = [one.key for one in keys]
        commands.append(("ZINTER", len(names), *names, "AGGREGATE", "MAX", "WITHSCORES"))
    return commands, cost
