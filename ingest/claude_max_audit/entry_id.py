"""Entry ids: UUIDs of version 7 (RFC 9562, section 5.7), and what `log_*` hands back.

Ids of one process ascend with its clock to the millisecond. Randomness comes from the
operating system in pools; a forked child must call `forget_pool`, or it would repeat its
parent's ids.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_POOL_IDS = 512
"""Ids whose random bits are fetched at once: one system call costs as much as ten ids."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class EntryId(str):
    """An entry's id, as text, that knows its citation."""

    __slots__ = ("citation",)
    citation: str

    def __new__(cls, entry_id: str, citation: str) -> EntryId:
        """Make the id `entry_id` whose citation is `citation`."""
        made = str.__new__(cls, entry_id)
        made.citation = citation
        return made

    def __reduce__(self) -> tuple[type[EntryId], tuple[str, str]]:
        """Let an id travel between processes whole."""
        return EntryId, (str(self), self.citation)


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def _random_ends() -> Iterator[str]:
    """Yield the three random groups of a version 7 UUID, version and variant bits set."""
    while True:
        pool = os.urandom(10 * _POOL_IDS).hex()
        for at in range(0, len(pool), 20):
            groups = pool[at + 1 : at + 4], pool[at + 4 : at + 7], pool[at + 8 : at + 20]
            yield f"-7{groups[0]}-{_VARIANT[pool[at]]}{groups[1]}-{groups[2]}"


_ends = _random_ends()
_newest_stamp = (0, "00000000-0000")


def new_uuid7(epoch_ms: int) -> str:
    """Return a new UUIDv7 for this moment (milliseconds since 1970-01-01 UTC)."""
    global _newest_stamp
    at, stamp = _newest_stamp
    if at != epoch_ms:
        stamp = f"{epoch_ms >> 16:08x}-{epoch_ms & 0xFFFF:04x}"
        _newest_stamp = epoch_ms, stamp
    return stamp + next(_ends)


def forget_pool() -> None:
    """Throw the fetched randomness away; a forked child calls it before its first id."""
    global _ends
    _ends = _random_ends()


def is_uuid(text: str) -> bool:
    """Say whether `text` is a UUID in its canonical lower-case form."""
    return _UUID.fullmatch(text) is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_pool)
