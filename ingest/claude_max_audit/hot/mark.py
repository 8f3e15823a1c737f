"""The mark: how a writer sees that Redis has lost what it had answered for.

The last command of every batch sets `audit:writer:{writer_id}` to the number of the batch's
last entry and gives back what stood there. Redis keeps and replicates commands in order, so
a server that restarted behind, was emptied, or took over from a master that was ahead
shows an older mark, or none. Nothing else reads the key, and it expires by itself.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, NamedTuple

from claude_max_audit.errors import RedisBehindError
from claude_max_audit.hot.keys import writer_key

MARK_SECONDS: Final = 3_600
"""How long a mark outlives its writer's last batch: far longer than segments are kept."""


class Mark(NamedTuple):
    """The number of the last entry of one writer that a batch brought."""

    writer_id: str
    seq: int

    def command(self) -> tuple[str, ...]:
        """Set the mark, and ask what it was."""
        key = writer_key(self.writer_id)
        return ("SET", key, str(self.seq), "EX", str(MARK_SECONDS), "GET")


def mark_of(reply: bytes | None) -> int:
    """The number that Redis gave back for a mark; 0 where there was none."""
    return int(reply) if reply is not None else 0


class MarkWatch:
    """What may stand in Redis as one writer's mark, if Redis lost nothing.

    One answered mark, and those of batches that were sent after it and perhaps carried out.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._answered = 0
        self._answered_at = monotonic()
        self._sent: set[int] = set()
        self._unknown = False

    def sent(self, mark: Mark) -> None:
        """Note that a batch with this mark is on its way."""
        self._sent.add(mark.seq)

    def answered(self, mark: Mark, before: int) -> None:
        """Note a batch's answer; raises `RedisBehindError` if `before` shows a loss."""
        known = self._knows(before)
        last = self._answered
        self._forget_up_to(mark.seq)
        if not known:
            self._unknown = True
            raise RedisBehindError(self._address, last, before)
        self._unknown = False

    def check(self, now: int) -> None:
        """Compare what stands in Redis now; raises `RedisBehindError`."""
        if not self._knows(now):
            self._unknown = True
            raise RedisBehindError(self._address, self._answered, now)

    def _knows(self, mark: int) -> bool:
        if self._unknown or mark == self._answered or mark in self._sent:
            return True
        return mark == 0 and monotonic() - self._answered_at > MARK_SECONDS / 2

    def _forget_up_to(self, seq: int) -> None:
        """Marks up to an answered one stand there no more; later ones may, or come to."""
        self._sent = {sent for sent in self._sent if sent > seq}
        self._answered, self._answered_at = seq, monotonic()
