"""A writer's tally, for whoever looks from outside: five numbers in its folder's lock file.

Format: accepted, written, dropped, timed, timed_ns, each u64 little-endian. The writer's thread
notes them as it goes, so a living writer's are at most half a second old, and a killed one's
stay. Folders that an older version of this library left have the first three only.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from claude_max_audit.spool.folder import LOCK_NAME

_NUMBERS = struct.Struct("<QQQQQ")
_FIRST_THREE = struct.Struct("<QQQ")


class Tally(NamedTuple):
    """Of `accepted` calls, `written` are in the store, `dropped` nowhere, the rest spooled.

    `timed` of them, a sample, took `timed_ns` nanoseconds together.
    """

    accepted: int
    written: int
    dropped: int
    timed: int = 0
    timed_ns: int = 0

    @property
    def spooled(self) -> int:
        """Entries that are kept until the store has them."""
        return self.accepted - self.written - self.dropped


def note_tally(lock_fd: int, tally: Tally) -> None:
    """Write the numbers; on a full disk the ones before stay."""
    with suppress(OSError):
        os.pwrite(lock_fd, _NUMBERS.pack(*tally), 0)


def tally_of(folder: Path) -> Tally:
    """A writer's numbers as they were noted last; zeros before that. Raises `OSError`."""
    data = (folder / LOCK_NAME).read_bytes()
    for known in (_NUMBERS, _FIRST_THREE):
        if len(data) == known.size:
            return Tally(*known.unpack(data))
    return Tally(0, 0, 0)
