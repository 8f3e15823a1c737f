"""Decides whether a stored entry may enter the lake: its bytes must prove what they say.

Used by the archive before it writes and by nobody to mend anything: what does not pass is kept
as it is in quarantine, with the reason given here. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, date
from typing import NamedTuple

import msgspec

from claude_max_audit.citation import CITATION_PREFIX, CitationGenerator
from claude_max_audit.entry import AuditEntry, content_hash_of, decode_entry, entry_hash_of

_HASH_TAIL = len(',"entry_hash":""}') + 64
"""Bytes that the full JSON has in place of the canonical bytes' closing brace."""

_ENCODE = msgspec.json.Encoder().encode
_METADATA = msgspec.json.Decoder(dict)
_NO_METADATA = b"{}"
_USUAL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z").match
"""What our generator writes; a tenth of the time that the full check takes."""
_LARGEST = 2**63 - 1
_LARGEST_VERSION = 2**31 - 1


class RejectedError(ValueError):
    """These bytes are not an entry that may be archived; the message says why."""


class Inspected(NamedTuple):
    """An entry that passed, with the canonical bytes that its hash was recomputed from."""

    entry: AuditEntry
    canonical: bytes


def inspect(text: bytes, day: date) -> Inspected:
    """Check one entry's full JSON as the hot store keeps it; raises `RejectedError`.

    The entry must decode with known words, belong to the UTC day, be encoded canonically, and
    its entry hash, content hash and citation must agree with the rest.
    """
    try:
        entry = decode_entry(text)
        metadata = bytes(entry.metadata_json)
        if metadata != _NO_METADATA:
            _METADATA.decode(metadata)
    except ValueError as unreadable:
        raise RejectedError(f"it cannot be read: {unreadable}") from None
    canonical = _canonical_part(text)
    if entry_hash_of(canonical) != entry.entry_hash:
        raise RejectedError("entry_hash does not agree with the entry's bytes")
    if _ENCODE(entry) != text:
        raise RejectedError("its bytes are not in canonical form")
    if content_hash_of(entry.content, metadata) != entry.content_hash:
        raise RejectedError("content_hash does not agree with the content")
    _check_fields(entry, day)
    return Inspected(entry, canonical)


def _check_fields(entry: AuditEntry, day: date) -> None:
    if entry.timestamp.tzinfo is not UTC or entry.recorded_at.tzinfo is not UTC:
        raise RejectedError("a time is not written in UTC")
    if entry.timestamp.date() != day:
        raise RejectedError(f"timestamp {entry.timestamp.isoformat()} is not of {day}")
    if entry.citation != f"{CITATION_PREFIX}{entry.entry_type}/{entry.entry_id}" or not (
        _USUAL_ID(entry.entry_id) or CitationGenerator.validate(entry.citation)
    ):
        raise RejectedError(f"citation {entry.citation!r} does not agree with type and id")
    if not (
        0 <= entry.size_bytes <= _LARGEST
        and 0 <= (entry.context_window_size or 0) <= _LARGEST
        and 0 <= entry.writer_seq <= _LARGEST
        and 0 <= entry.schema_version <= _LARGEST_VERSION
    ):
        raise RejectedError("a number is negative or too large for the lake's columns")


def _canonical_part(text: bytes) -> bytes:
    return text[:-_HASH_TAIL] + b"}"


def id_within(text: bytes) -> str | None:
    """Return the id that rejected bytes claim, when they can be read so far."""
    try:
        found = _ID.decode(text).entry_id
    except ValueError:
        return None
    return found if isinstance(found, str) else None


class _OnlyId(msgspec.Struct):
    entry_id: object = None


_ID = msgspec.json.Decoder(_OnlyId)
