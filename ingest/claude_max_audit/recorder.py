"""The recorder: turns what a caller says into this writer's next entry, checked and stamped.

Building an entry never touches a store. The auditor calls `make` under its lock, because
the sequence number must have no gap and the spool must hold entries in its order; when
`make` raises, no number was used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from time import time_ns
from typing import Any

import msgspec

from claude_max_audit import arguments
from claude_max_audit.arguments import NO_METADATA, identifier, optional_identifier, word
from claude_max_audit.citation import CITATION_PREFIX
from claude_max_audit.entry import SCHEMA_VERSION, AuditEntry
from claude_max_audit.entry_id import ID_CLASSES, EntryId, entry_id_of, is_uuid, new_uuid7
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.settings import MAX_CONTENT_BYTES
from claude_max_audit.stencil import Stencil
from claude_max_audit.vocabulary import (
    UNKNOWN_SWARM,
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

_STANDARD = Retention.STANDARD
_MessageId = ID_CLASSES[AuditEntryType.MESSAGE]
_UNUSUAL_WORDS = frozenset({"retention", "event_type", "decision_type"})
"""Words of a message's metadata by which it differs from others of its envelope."""

_PREFIX_OF = {kind: f"{CITATION_PREFIX}{kind.value}/" for kind in AuditEntryType}
_now = datetime.now

Made = tuple[EntryId, bytes]
"""A new entry: its id, and its canonical bytes, which are all that is kept of it."""

Envelope = tuple[Any, ...]
"""What the messages between two agents have in common, in the order of `ENVELOPE_FIELDS`."""

ENVELOPE_FIELDS = (
    "from_agent",
    "to_agent",
    "message_type",
    "swarm_id",
    "from_swarm",
    "to_swarm",
    "session_id",
)
_MOST_STENCILS = 1_000
"""Kept at once; an agent talks to fewer. Each takes about a kilobyte."""


def new_writer_id() -> str:
    """Return a name for one writer's life: 16 hexadecimal characters, never used before."""
    return os.urandom(8).hex()


class Recorder:
    """Makes entries for one writer, numbering them from 1 without a gap.

    `last_seq` is the number of the newest entry made; the caller that fails to keep an entry
    calls `take_back` so that the number is used again. What is made is also noted in `fresh`,
    if there is one.
    """

    def __init__(
        self,
        writer_id: str,
        max_content_bytes: int = MAX_CONTENT_BYTES,
        fresh: FreshMessages | None = None,
    ) -> None:
        self.writer_id = writer_id
        self.last_seq = 0
        self.fresh = fresh
        self._max_content_bytes = max_content_bytes
        self._stencils: dict[Envelope, Stencil] = {}

    def take_back(self) -> None:
        """Give the newest number back: its entry was not kept."""
        self.last_seq -= 1

    def made(
        self, entry_type: AuditEntryType, agent_id: str, fields: dict[str, Any]
    ) -> Made:
        """Make any entry as `make` does; returns its id and its canonical bytes."""
        entry = self.make(entry_type, agent_id, **fields)
        return entry_id_of(entry.entry_type, entry.entry_id), encode_canonical(entry)

    def made_message(
        self, envelope: Envelope, content: Any, metadata: Mapping[str, Any] | None
    ) -> Made:
        """The same for a message without a time, retention or parent of its own.

        Only the first message of an envelope is checked whole and encoded field by field.
        """
        try:
            stencil = self._stencils.get(envelope)
        except TypeError:  # Something that cannot even be a key: the check names it.
            stencil = None
        if stencil is None or not (metadata is None or _is_usual(metadata)):
            return self._first_message(envelope, content, metadata)
        content_bytes = arguments.utf8("content", content, self._max_content_bytes)
        encoded_metadata = (
            NO_METADATA if metadata is None else arguments.metadata_json("metadata", metadata)
        )
        digest = sha256(content_bytes).digest()
        epoch_us = time_ns() // 1_000
        entry_id = new_uuid7(epoch_us // 1_000)
        seq = self.last_seq + 1
        id_bytes = entry_id.encode()
        canonical = stencil.fill(
            id_bytes,
            _rfc3339(epoch_us),
            content,
            digest.hex(),
            len(content_bytes),
            encoded_metadata,
            seq,
        )
        self.last_seq = seq
        if self.fresh is not None:
            self.fresh.add((id_bytes, seq, stencil, epoch_us, digest))
        return _MessageId(entry_id), canonical

    def _first_message(
        self, envelope: Envelope, content: Any, metadata: Mapping[str, Any] | None
    ) -> Made:
        """Make a message the whole way, and cut a stencil for those of its envelope."""
        entry = self.make(
            AuditEntryType.MESSAGE,
            identifier("from_agent", envelope[0]),
            content=arguments.required_text("content", content),
            metadata=metadata,
            **dict(zip(ENVELOPE_FIELDS, envelope, strict=True)),
        )
        if len(entry.swarm_ids) == 1 and entry.retention is _STANDARD:
            if len(self._stencils) >= _MOST_STENCILS:
                self._stencils.clear()
            bare = msgspec.structs.replace(entry, metadata_json=NO_METADATA)
            self._stencils[envelope] = Stencil(bare)
        return _MessageId(entry.entry_id), encode_canonical(entry)

    def make(
        self,
        entry_type: AuditEntryType,
        agent_id: str,
        *,
        content: str | None = None,
        entry_id: str | None = None,
        timestamp: datetime | None = None,
        swarm_id: str | None = None,
        from_swarm: str | None = None,
        to_swarm: str | None = None,
        from_agent: str | None = None,
        to_agent: str | None = None,
        message_type: MessageType | str | None = None,
        operation: OperationType | str | None = None,
        session_id: str | None = None,
        size_bytes: int | None = None,
        context_window_size: int | None = None,
        severity: SecuritySeverity | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        retention: Retention | str | None = None,
        parent_id: str | None = None,
    ) -> AuditEntry:
        """Check every argument and return the entry, without its `entry_hash`.

        `timestamp` defaults to now; naive ones are taken as UTC. `size_bytes` defaults to the
        content's UTF-8 bytes. Raises `TypeError` or `ValueError` naming the argument.
        """
        if type(entry_type) is not AuditEntryType:
            entry_type = word("entry_type", entry_type, AuditEntryType)
        agent_id = identifier("agent_id", agent_id)
        swarm, swarms = _swarms(swarm_id, from_swarm, to_swarm)
        if len(swarms) > 1:
            metadata = {**(metadata or {}), "cross_swarm": True}
        encoded_metadata = arguments.metadata_json("metadata", metadata)
        if content is not None:
            content_bytes = arguments.utf8("content", content, self._max_content_bytes)
            content_hash = sha256(content_bytes).hexdigest()
            measured = len(content_bytes)
        else:
            content_hash = sha256(encoded_metadata).hexdigest()
            measured = 0
        now = _now(UTC)
        if entry_id is None:
            entry_id = new_uuid7(time_ns() // 1_000_000)
        elif not isinstance(entry_id, str) or not is_uuid(entry_id):
            raise ValueError(f"entry_id {entry_id!r} is not a lower-case UUID (RFC 9562)")
        seq = self.last_seq + 1
        entry = AuditEntry(
            entry_id=entry_id,
            timestamp=now if timestamp is None else arguments.moment("timestamp", timestamp),
            entry_type=entry_type,
            agent_id=agent_id,
            swarm_id=swarm,
            swarm_ids=swarms,
            from_agent=from_agent
            if from_agent is None or from_agent is agent_id
            else identifier("from_agent", from_agent),
            to_agent=None if to_agent is None else identifier("to_agent", to_agent),
            message_type=message_type
            if message_type is None or type(message_type) is MessageType
            else word("message_type", message_type, MessageType),
            operation=None if operation is None else word("operation", operation, OperationType),
            session_id=None if session_id is None else identifier("session_id", session_id),
            content=content,
            content_hash=content_hash,
            size_bytes=measured
            if size_bytes is None
            else arguments.whole_number("size_bytes", size_bytes),
            context_window_size=None
            if context_window_size is None
            else arguments.whole_number("context_window_size", context_window_size),
            severity=None if severity is None else word("severity", severity, SecuritySeverity),
            metadata_json=encoded_metadata,
            citation=_PREFIX_OF[entry_type] + entry_id,
            retention=_retention(retention, metadata),
            parent_id=None if parent_id is None else identifier("parent_id", parent_id),
            recorded_at=now,
            writer_id=self.writer_id,
            writer_seq=seq,
            schema_version=SCHEMA_VERSION,
        )
        self.last_seq = seq
        return entry


def _is_usual(metadata: object) -> bool:
    """Whether metadata makes a message differ in nothing but its metadata."""
    return type(metadata) is dict and _UNUSUAL_WORDS.isdisjoint(metadata)


_newest_second = (0, "1970-01-01T00:00:00")


def _rfc3339(epoch_us: int) -> str:
    """A moment as it stands in an entry's JSON: no fraction when there is none."""
    global _newest_second
    second, fraction = divmod(epoch_us, 1_000_000)
    at, text = _newest_second
    if at != second:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _newest_second = second, text
    return f"{text}.{fraction:06d}Z" if fraction else f"{text}Z"


encode_canonical = msgspec.json.Encoder().encode
"""Encode a fresh entry (one without `entry_hash`) to its canonical bytes."""


def _swarms(
    swarm_id: str | None, from_swarm: str | None, to_swarm: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return the entry's own swarm and every swarm that it touches, sender's first."""
    if from_swarm is None and to_swarm is None:
        own = UNKNOWN_SWARM if swarm_id is None else identifier("swarm_id", swarm_id)
        return own, (own,)
    start = optional_identifier("from_swarm", from_swarm)
    end = optional_identifier("to_swarm", to_swarm)
    named = optional_identifier("swarm_id", swarm_id)
    touched = tuple(dict.fromkeys(s for s in (start or named, end) if s is not None))
    return named or touched[0], touched


def _retention(given: Any, metadata: Mapping[str, Any] | None) -> Retention:
    """Return the retention asked for: by argument, else by metadata, else standard."""
    if given is None:
        given = metadata.get("retention") if metadata else None
        if given is None:
            return _STANDARD
        return word("metadata['retention']", given, Retention)
    return word("retention", given, Retention)
