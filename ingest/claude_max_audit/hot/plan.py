"""What a query means in terms of index keys: pure, decided before Redis is asked anything.

A plan is exact: an entry fits the query if, and only if, it stands in at least one key of
each term, in none of the excluded keys, and within the span. The reader carries it out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from claude_max_audit.hot.keys import (
    CROSS_SWARM,
    PERMANENT,
    TWICE,
    USUAL_KINDS,
    Kind,
    agent_key,
    decision_key,
    event_key,
    session_key,
    swarm_key,
    to_key,
)
from claude_max_audit.query import Query
from claude_max_audit.vocabulary import Retention


@dataclass(frozen=True, slots=True)
class Term:
    """Entries that stand in any of `keys`. Those in several stand in one of `doubles` too."""

    keys: tuple[str, ...]
    doubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How to find a query's entries. With `ids` the entries themselves are asked.

    `contents` are the content hashes of which an entry has one, if any are asked for.
    """

    terms: tuple[Term, ...] = ()
    excluded: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing can fit, whatever Redis holds."""
        return self.ids == () or any(not term.keys for term in self.terms)


_KEY_OF_WORD: Final = {
    "agent_id": agent_key,
    "to_agent": to_key,
    "session_id": session_key,
    "event_type": event_key,
    "decision_type": decision_key,
}
"""Query keys whose values each have a set of their own, disjoint from the others'."""

_KIND_WORDS: Final = ("message_type", "operation", "severity")


def plan_query(query: Query, unusual_kinds: Collection[Kind]) -> Plan:
    """Plan `query` (its words aside), given the kinds beyond the usual that Redis holds."""
    where = query.where
    if any(not wanted for wanted in where.values()):
        return Plan(ids=())
    if "entry_id" in where:
        return Plan(ids=where["entry_id"])
    terms = [
        Term(tuple(key_of(word) for word in where[name]))
        for name, key_of in _KEY_OF_WORD.items()
        if name in where
    ]
    if "participant" in where:
        terms.append(_participant(where["participant"]))
    if "swarm_id" in where:
        terms.append(Term(tuple(map(swarm_key, where["swarm_id"])), (CROSS_SWARM, TWICE)))
    if "entry_type" in where or any(name in where for name in _KIND_WORDS):
        terms.append(_kinds(query, unusual_kinds))
    excluded: list[str] = []
    for key, wanted in _flags(query):
        if wanted:
            terms.append(Term((key,)))
        else:
            excluded.append(key)
    return Plan(tuple(terms), tuple(excluded), where.get("content_hash", ()))


def _participant(agents: tuple[str, ...]) -> Term:
    """Sent or received: twice only when one of the agents wrote to another, or to itself."""
    received = tuple(map(to_key, agents))
    doubles = received if len(agents) > 1 else (TWICE,)
    return Term((*map(agent_key, agents), *received), doubles)


def _kinds(query: Query, unusual_kinds: Collection[Kind]) -> Term:
    """All four closed words at once, as the kinds that carry what is wanted of each."""
    where = query.where
    types = where.get("entry_type")
    wanted = [where[name] for name in _KIND_WORDS if name in where]
    return Term(
        tuple(
            kind.key
            for kind in (*USUAL_KINDS, *unusual_kinds)
            if (types is None or kind.entry_type in types)
            and all(any(word in words for word in kind.words) for words in wanted)
        )
    )


def _flags(query: Query) -> list[tuple[str, bool]]:
    """Conditions that hold for the members of one key, or for all entries but those."""
    flags: list[tuple[str, bool]] = []
    if query.cross_swarm is not None:
        flags.append((CROSS_SWARM, query.cross_swarm))
    retention = set(query.where.get("retention", ()))
    if len(retention) == 1:
        flags.append((PERMANENT, retention == {Retention.PERMANENT.value}))
    return flags
