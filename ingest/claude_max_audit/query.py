"""What is asked of the trail: one query, checked once, with the same meaning in every tier.

Keys combine with AND; a list means any of. A span of time is inclusive at both ends. The
hot store, the lake and the exports all take this value; none of them reads a raw dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Any

from claude_max_audit.citation import CitationGenerator
from claude_max_audit.entry import AuditEntry, as_utc
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

_CLOSED_WORDS: dict[str, type[StrEnum]] = {
    "entry_type": AuditEntryType,
    "message_type": MessageType,
    "operation": OperationType,
    "severity": SecuritySeverity,
    "retention": Retention,
}
_OPEN_WORDS = (
    "agent_id",
    "to_agent",
    "participant",
    "swarm_id",
    "event_type",
    "decision_type",
    "session_id",
    "content_hash",
    "entry_id",
)
QUERY_KEYS: tuple[str, ...] = (
    *_OPEN_WORDS[:4],
    *_CLOSED_WORDS,
    *_OPEN_WORDS[4:],
    "citation",
    "cross_swarm",
    "text_query",
)
"""Every key that a query may have."""

DEFAULT_LIMIT = 100
"""Entries on a page when the caller names no limit: enough for a screen, cheap to fetch."""

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """Aware UTC instants, inclusive at both ends."""

    start: datetime = BEGINNING
    end: datetime = END

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment <= self.end


@dataclass(frozen=True, slots=True)
class Query:
    """Filters by key (each a tuple of accepted values), a span, and perhaps words to find.

    `where` never holds `citation`, `cross_swarm` or `text_query`: a citation becomes its
    entry id and type, the other two have fields of their own.
    """

    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    span: Span = Span()
    cross_swarm: bool | None = None
    text: str | None = None

    def without_text(self) -> Query:
        """Return the same filters without the words."""
        return replace(self, text=None)

    def within(self, span: Span) -> Query:
        """Return the same filters over another span."""
        return replace(self, span=span)

    def as_dict(self) -> dict[str, Any]:
        """Return the query as plain JSON values, for manifests and receipts."""
        asked: dict[str, Any] = {
            k: v[0] if len(v) == 1 else list(v) for k, v in sorted(self.where.items())
        }
        if self.cross_swarm is not None:
            asked["cross_swarm"] = self.cross_swarm
        if self.text is not None:
            asked["text_query"] = self.text
        if self.span.start != BEGINNING:
            asked["start"] = self.span.start.isoformat()
        if self.span.end != END:
            asked["end"] = self.span.end.isoformat()
        return asked

    def matches(self, entry: AuditEntry) -> bool:
        """Say whether `entry` fits (words aside). The definition that every tier is held to."""
        if entry.timestamp not in self.span:
            return False
        if self.cross_swarm is not None and is_cross_swarm(entry) is not self.cross_swarm:
            return False
        return all(_holds(entry, key, wanted) for key, wanted in self.where.items())


def is_cross_swarm(entry: AuditEntry) -> bool:
    """Say whether the entry went between two different swarms."""
    return len(entry.swarm_ids) > 1


def _holds(entry: AuditEntry, key: str, wanted: tuple[str, ...]) -> bool:
    if key == "participant":
        return entry.agent_id in wanted or entry.to_agent in wanted
    if key == "swarm_id":
        return entry.swarm_id in wanted or any(swarm in wanted for swarm in entry.swarm_ids)
    if key in ("event_type", "decision_type"):
        return entry.metadata.get(key) in wanted
    return getattr(entry, key) in wanted


def parse_query(query: Mapping[str, Any], time_range: tuple[Any, Any] | None = None) -> Query:
    """Check a caller's query and time range and give them one form.

    Raises `TypeError` for a value of the wrong type and `ValueError` for an unknown key, an
    unknown enum value, a malformed citation or an inverted range, naming what is known.
    """
    if not isinstance(query, Mapping):
        raise TypeError(f"query must be a mapping of keys to values, not {_kind(query)}")
    where: dict[str, tuple[str, ...]] = {}
    cross_swarm: bool | None = None
    text: str | None = None
    for key, value in query.items():
        if key not in QUERY_KEYS:
            raise ValueError(f"unknown query key {key!r}; known are {', '.join(QUERY_KEYS)}")
        if key == "cross_swarm":
            if not isinstance(value, bool):
                raise TypeError(f"query['cross_swarm'] must be True or False, not {_kind(value)}")
            cross_swarm = value
        elif key == "text_query":
            text = _words(value)
        elif key == "citation":
            parsed = [CitationGenerator.parse(c) for c in _texts(key, value)]
            _narrow(where, "entry_id", tuple(p.entry_id for p in parsed))
            _narrow(where, "entry_type", tuple(p.entry_type.value for p in parsed))
        else:
            _narrow(where, key, _accepted(key, value))
    return Query(where=where, span=parse_span(time_range), cross_swarm=cross_swarm, text=text)


def parse_span(time_range: tuple[Any, Any] | None) -> Span:
    """Give a (start, end) pair its UTC form; None at either end leaves that end open.

    A naive datetime is taken as UTC; a `date` is its whole day. Raises `TypeError` or
    `ValueError` when it is not a pair of times or runs backwards.
    """
    if time_range is None:
        return Span()
    if not isinstance(time_range, tuple | list) or len(time_range) != 2:
        raise TypeError("time_range must be a pair (start, end) of datetimes")
    start = _instant("time_range start", time_range[0], time.min) or BEGINNING
    end = _instant("time_range end", time_range[1], time.max) or END
    if start > end:
        raise ValueError(
            f"time_range runs backwards: start {start.isoformat()} is after end {end.isoformat()}"
        )
    return Span(start, end)


def check_page(limit: int, offset: int) -> None:
    """Refuse a page that cannot be: raises `TypeError` or `ValueError` naming the argument."""
    for name, value in (("limit", limit), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, not {_kind(value)}")
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def _instant(name: str, value: Any, whole_day: time) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, date):
        return datetime.combine(value, whole_day, tzinfo=UTC)
    raise TypeError(f"{name} must be a datetime, not {_kind(value)}")


def _accepted(key: str, value: Any) -> tuple[str, ...]:
    words = _texts(key, value)
    closed = _CLOSED_WORDS.get(key)
    if closed is None:
        return words
    known = [member.value for member in closed]
    for word in words:
        if word not in known:
            raise ValueError(f"query[{key!r}] is {word!r}; known are {', '.join(known)}")
    return tuple(str(word) for word in words)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values:
        raise ValueError(f"query[{key!r}] is an empty list; give at least one value")
    for one in values:
        if not isinstance(one, str):
            raise TypeError(f"query[{key!r}] must be text or a list of texts, not {_kind(one)}")
        if not one:
            raise ValueError(f"query[{key!r}] is empty; leave the key out to match everything")
    return tuple(dict.fromkeys(str(one) for one in values))


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"query['text_query'] must be text, not {_kind(value)}")
    if not value.strip():
        raise ValueError("query['text_query'] is empty; leave the key out to match everything")
    return value


def _narrow(where: dict[str, tuple[str, ...]], key: str, wanted: tuple[str, ...]) -> None:
    """Add a condition; a second one on the same key (a citation and an id) narrows the first."""
    kept = where.get(key)
    where[key] = wanted if kept is None else tuple(w for w in kept if w in wanted)


def _kind(value: Any) -> str:
    return type(value).__name__
