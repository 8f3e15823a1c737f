"""The part of an entry that its indexes are made of, read from its canonical bytes alone.

The writer reads every entry once more on its way to Redis; this reads just the fields that
are needed there, and remembers which keys entries of one sort stand in, because agents and
swarms are few and entries are many. `hot/keys.py` alone decides what the keys are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.keys import index_keys

_MOST_REMEMBERED: Final = 4_096
"""Sorts of entries whose keys are remembered: some megabytes at most."""


class _Words(msgspec.Struct, frozen=True, gc=False):
    """What of the metadata is indexed."""

    event_type: Any = None
    decision_type: Any = None


class Indexed(msgspec.Struct, frozen=True, gc=False):
    """Fields of an entry: all that `index_keys` reads of it."""

    entry_id: str
    timestamp: datetime
    entry_type: str
    agent_id: str
    swarm_id: str
    swarm_ids: tuple[str, ...]
    content_hash: str
    metadata: _Words
    retention: str
    recorded_at: datetime
    writer_id: str
    writer_seq: int
    to_agent: str | None = None
    message_type: str | None = None
    operation: str | None = None
    session_id: str | None = None
    severity: str | None = None


read_indexed = msgspec.json.Decoder(Indexed).decode
"""Read what is indexed of an entry's canonical bytes."""

_WORD = frozenset({str, type(None)})
_decode = msgspec.json.Decoder(AuditEntry).decode
_remembered: dict[tuple[object, ...], tuple[str, ...]] = {}


def keys_of(entry: Indexed, canonical: bytes) -> tuple[str, ...]:
    """`index_keys` of the entry with these canonical bytes."""
    words = entry.metadata
    if type(words.event_type) not in _WORD or type(words.decision_type) not in _WORD:
        return tuple(index_keys(_decode(canonical)))  # no words after all
    sort = (
        entry.entry_type,
        entry.agent_id,
        entry.swarm_id,
        entry.swarm_ids,
        entry.to_agent,
        entry.message_type,
        entry.operation,
        entry.session_id,
        entry.severity,
        entry.retention,
        words.event_type,
        words.decision_type,
    )
    keys = _remembered.get(sort)
    if keys is None:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        keys = _remembered[sort] = tuple(index_keys(_decode(canonical)))
    return keys
