"""One entry of the trail: an immutable value, and the bytes that prove it.

The **canonical bytes** are the entry's JSON, encoded once where the entry is made: fields in
the order of `AuditEntry`, no white space, empty fields left out, metadata verbatim, without
`entry_hash`. `entry_hash` is their SHA-256. Redis, the lake and every export hold what
is needed to make the same bytes again; nothing here reads a clock or a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

import msgspec

from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

SCHEMA_VERSION = 1
"""Version of the entry's fields and of their canonical order."""


class AuditEntry(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What one agent did, as it was recorded. Times are aware UTC, to the microsecond.

    `timestamp` is when it happened and rules day, order and retention; `recorded_at` is when
    it was taken down. `writer_id` and `writer_seq` number each writer's entries without a
    gap from 1. `size_bytes` counts the content's UTF-8 bytes, or the bytes of the context
    that was touched. `metadata_json` is the metadata's JSON text, kept verbatim.
    """

    entry_id: str
    timestamp: datetime
    entry_type: AuditEntryType
    agent_id: str
    swarm_id: str
    swarm_ids: tuple[str, ...]
    from_agent: str | None = None
    to_agent: str | None = None
    message_type: MessageType | None = None
    operation: OperationType | None = None
    session_id: str | None = None
    content: str | None = None
    content_hash: str
    size_bytes: int
    context_window_size: int | None = None
    severity: SecuritySeverity | None = None
    metadata_json: msgspec.Raw = msgspec.field(name="metadata")
    citation: str
    retention: Retention
    parent_id: str | None = None
    recorded_at: datetime
    writer_id: str
    writer_seq: int
    schema_version: int
    entry_hash: str | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata, parsed afresh at each call, so that nobody can change the entry's."""
        parsed: dict[str, Any] = msgspec.json.decode(self.metadata_json)
        return parsed

    @property
    def day(self) -> date:
        """The UTC day that the entry belongs to."""
        return self.timestamp.date()

    def canonical_bytes(self) -> bytes:
        """Return the bytes that `entry_hash` and the ledger's leaf are made of."""
        if self.entry_hash is None:
            return _encode(self)
        return _encode(msgspec.structs.replace(self, entry_hash=None))

    def to_json(self) -> str:
        """Return the whole entry as JSON text; `from_json` reads it back exactly."""
        return with_entry_hash(self.canonical_bytes()).decode()

    def to_dict(self) -> dict[str, Any]:
        """Return every field, empty ones as None; times as aware datetimes, enums as text."""
        fields: dict[str, Any] = {}
        for name in ENTRY_FIELDS:
            if name == "metadata":
                fields[name] = self.metadata
                continue
            value = getattr(self, name)
            if name == "swarm_ids":
                value = list(value)
            elif name == "entry_hash" and value is None:
                value = entry_hash_of(self.canonical_bytes())
            fields[name] = str(value) if isinstance(value, _ENUMS) else value
        return fields

    @classmethod
    def from_json(cls, text: str | bytes) -> AuditEntry:
        """Read what `to_json` wrote; raises `ValueError` naming the field that does not fit."""
        return decode_entry(text)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> AuditEntry:
        """Read what `to_dict` gave, or a parsed line of a JSON export; raises `ValueError`."""
        return decode_entry(
            _METADATA_ENCODER.encode({k: v for k, v in fields.items() if v is not None})
        )


_ENUMS = (AuditEntryType, MessageType, OperationType, SecuritySeverity, Retention)
ENTRY_FIELDS: tuple[str, ...] = AuditEntry.__struct_encode_fields__
"""The fields' names in schema order, as they stand in JSON and in the lake."""

_encode = msgspec.json.Encoder().encode
_METADATA_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(AuditEntry)


def decode_entry(text: str | bytes) -> AuditEntry:
    """Decode one entry's JSON; a missing `entry_hash` is computed from the canonical bytes.

    Raises `ValueError` (msgspec's `ValidationError`) naming the field that does not fit.
    """
    entry = _DECODER.decode(text)
    if entry.entry_hash is None:
        entry = msgspec.structs.replace(entry, entry_hash=entry_hash_of(_encode(entry)))
    return entry


def content_hash_of(content: str | None, metadata_json: bytes) -> str:
    """Return the SHA-256 (hex) of the content's UTF-8 bytes, or of the metadata's text."""
    return sha256(content.encode() if content is not None else metadata_json).hexdigest()


def entry_hash_of(canonical: bytes) -> str:
    """Return the SHA-256 (hex) of an entry's canonical bytes."""
    return sha256(canonical).hexdigest()


def with_entry_hash(canonical: bytes) -> bytes:
    """Return the full JSON: the canonical bytes with `entry_hash` as their last field."""
    return canonical[:-1] + entry_hash_field(canonical)


def entry_hash_field(canonical: bytes) -> bytes:
    """Return what stands in the full JSON in place of the canonical bytes' last one."""
    return b',"entry_hash":"%b"}' % sha256(canonical).hexdigest().encode()


def as_utc(moment: datetime) -> datetime:
    """Return `moment` as aware UTC; a naive one is taken to be UTC already."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def epoch_us(moment: datetime) -> int:
    """Return whole microseconds since 1970-01-01T00:00:00Z, exactly, without float rounding."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
