"""Where an entry stands in the indexes, told from its canonical bytes or from what is fresh.

The writer needs a few fields of every entry on its way to Redis. Of the newest messages they are
known still (`fresh.py`); of all others this reads just these from the bytes, and remembers which
keys entries of one sort stand in, because agents and swarms are few and entries are many.
`hot/keys.py` alone decides what the keys are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from claude_max_audit.entry import AuditEntry, epoch_us
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.hot.keys import content_name, content_name_of, index_keys

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


Place = tuple[bytes, int, int, tuple[str, ...], bytes, str, int]
"""All that an entry's commands need beside its bytes: id in ASCII, when it happened and when it was
recorded (epoch microseconds), index keys, name of its content, agent, writer's number."""


def places_of(batch: Sequence[bytes], fresh: FreshMessages | None) -> Iterator[Place]:
    """The places of a batch's entries, in its order."""
    for canonical in batch:
        known = None if fresh is None else fresh.take(canonical)
        if known is not None:
            entry_id, seq, stencil, at, digest = known
            keys = stencil.index_keys
            if keys is None:
                keys = stencil.index_keys = keys_of(read_indexed(canonical), canonical)
            yield entry_id, at, at, keys, content_name_of(digest), stencil.agent_id, seq
            continue
        entry = read_indexed(canonical)
        if fresh is not None:
            fresh.passed(entry.writer_seq)
        yield (
            entry.entry_id.encode(),
            epoch_us(entry.timestamp),
            epoch_us(entry.recorded_at),
            keys_of(entry, canonical),
            content_name(entry.content_hash),
            entry.agent_id,
            entry.writer_seq,
        )
