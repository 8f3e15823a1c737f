"""Entry ids: UUIDs of version 7 (RFC 9562, section 5.7), and what `log_*` hands back.

Ids of one process ascend with its clock to the millisecond. Randomness comes from the
operating system in pools; a forked child must call `forget_pool`, or it would repeat its
parent's ids.
"""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar, Final

from claude_max_audit.citation import CITATION_PREFIX
from claude_max_audit.vocabulary import AuditEntryType

_POOL_IDS = 512
"""Ids whose random bits are fetched at once: one system call costs as much as ten ids."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class EntryId(str):
    """An entry's id, as text, that knows its citation. Made by `entry_id_of`."""

    __slots__ = ()
    entry_type: ClassVar[str] = ""

    @property
    def citation(self) -> str:
        """The address by which the entry is quoted."""
        return f"{CITATION_PREFIX}{self.entry_type}/{self}"

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        """Let an id travel between processes whole."""
        return entry_id_of, (self.entry_type, str(self))


ID_CLASSES: Final[dict[str, type[EntryId]]] = {
    kind.value: type(EntryId.__name__, (EntryId,), {"__slots__": (), "entry_type": kind.value})
    for kind in AuditEntryType
}
"""A class for each type: an id is then made in a quarter of the time, one a call."""


def entry_id_of(entry_type: str, entry_id: str) -> EntryId:
    """Return the id of an entry of this type."""
    return ID_CLASSES[entry_type](entry_id)


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_groups = re.compile("(.)(...)(...).(.{12})").findall


def _random_ends() -> list[str]:
    """The three random groups of version 7 UUIDs, version and variant bits set."""
    digits = os.urandom(10 * _POOL_IDS).hex()
    return [f"-7{a}-{_VARIANT[variant]}{b}-{c}" for variant, a, b, c in _groups(digits)]


_ends: list[str] = []
_newest_stamp = (0, "00000000-0000")


def new_uuid7(epoch_ms: int) -> str:
    """Return a new UUIDv7 for this moment (milliseconds since 1970-01-01 UTC)."""
    global _newest_stamp
    at, stamp = _newest_stamp
    if at != epoch_ms:
        stamp = f"{epoch_ms >> 16:08x}-{epoch_ms & 0xFFFF:04x}"
        _newest_stamp = epoch_ms, stamp
    try:
        return stamp + _ends.pop()
    except IndexError:
        # Of several threads here at once each adds its own, and takes what nobody else has.
        _ends.extend(_random_ends())
        return new_uuid7(epoch_ms)


def forget_pool() -> None:
    """Throw the fetched randomness away; a forked child calls it before its first id."""
    _ends.clear()


def is_uuid(text: str) -> bool:
    """Say whether `text` is a UUID in its canonical lower-case form."""
    return _UUID.fullmatch(text) is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_pool)
