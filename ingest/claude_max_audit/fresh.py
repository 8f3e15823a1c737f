"""What is known of the newest messages, so that the writer need not read them again.

The recorder adds each message as it makes it; the hot store's packer takes it when the same
bytes reach it through the spool. This is a short memory and never a source: whatever is not
here (older, of another type, of another process) is read from its bytes, and whatever is here
is used only for the bytes that have its id. Bounded in number and size.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from claude_max_audit.stencil import Stencil

MOST_MESSAGES: Final = 16_384
"""Messages remembered at once: a third of a second of one busy process, in about 6 MiB."""

_ID_AT: Final = slice(13, 49)
"""Where the canonical bytes have the entry's id, behind `{"entry_id":"`."""

Fresh = tuple[bytes, int, Stencil, int, bytes]
"""Entry id in ASCII, the writer's number, stencil, time in epoch microseconds (also that of
recording), and the SHA-256 of the content as bytes."""


class FreshMessages:
    """A queue of the newest messages. One thread at a time adds; the writer's thread takes."""

    def __init__(self) -> None:
        self._waiting: deque[Fresh] = deque(maxlen=MOST_MESSAGES)
        self._next: Fresh | None = None
        self.add = self._waiting.append

    def take(self, canonical: bytes) -> Fresh | None:
        """What is known of the message with these bytes; None if it must be read from them."""
        fresh = self._next
        if fresh is None:
            try:
                fresh = self._waiting.popleft()
            except IndexError:
                return None
        if fresh[0] == canonical[_ID_AT]:
            self._next = None
            return fresh
        self._next = fresh
        return None

    def passed(self, writer_seq: int) -> None:
        """Forget messages up to this number: it was read from its bytes, and they go in order.

        Not so after the store lost something and older ones come again: those ahead stay.
        """
        while self._next is not None and self._next[1] <= writer_seq:
            try:
                self._next = self._waiting.popleft()
            except IndexError:
                self._next = None
