"""Ids of imported entries: the same event has the same id, wherever its file lies.

An event with a time gets a UUID of version 7 (RFC 9562, section 5.7) whose milliseconds
are the event's own and whose 74 other bits come from the SHA-256 of its source key. An
event without a time gets one of version 8 (section 5.8), made from the key alone: an
invented time must not change the id, or a second import would add the event again.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from uuid import UUID

from claude_max_audit.entry import epoch_us

_VARIANT = 0b10 << 62
_FREE_BITS = (0xFFF << 64) | ((1 << 62) - 1)
"""The bits of a UUID that neither time, version nor variant take: 12 and 62."""


def draft_id(timestamp: datetime | None, *key: str | int) -> str:
    """Return the id of the event that `key` names at its source.

    `timestamp` is the event's own, aware UTC, or None when the source gives none. Times
    that version 7 cannot hold (before 1970) fall back to version 8.
    """
    digest = _digest(key)
    milliseconds = -1 if timestamp is None else epoch_us(timestamp) // 1000
    if not 0 <= milliseconds < 1 << 48:
        return str(UUID(int=_stamped(digest, 8)))
    return str(UUID(int=milliseconds << 80 | _stamped(digest & _FREE_BITS, 7)))


def _digest(key: tuple[str | int, ...]) -> int:
    """The first 128 bits of SHA-256 over the key's parts, each with its length before it."""
    parts = [str(part).encode("utf-8", "surrogatepass") for part in key]
    text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return int.from_bytes(sha256(text).digest()[:16], "big")


def _stamped(bits: int, version: int) -> int:
    free_of_marks = bits & ~(0xF << 76) & ~(0b11 << 62)
    return free_of_marks | version << 76 | _VARIANT
