"""Where the writer's batches go: Redis, or the lake itself when there is no Redis.

A sink stores a batch whole or raises; storing it again changes nothing. It holds no entry
after it answered. Every batch is of one writer, in the order of its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from claude_max_audit.cold_tier import ColdTier
from claude_max_audit.errors import RedisBehindError
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.hot.mark import Mark, MarkWatch
from claude_max_audit.hot.store import HotStore


class Sink(Protocol):
    """A store that takes batches of canonical bytes from the writer's thread."""

    best_batch: int
    """Entries in one batch at which the store is at its fastest."""

    linger_seconds: float
    """How long a batch that is not full may wait for more."""

    in_flight: int
    """Batches that may be on their way at once."""

    def begin(self, batch: Sequence[bytes]) -> Callable[[], None]:
        """Begin to store this process's next batch; the returned call waits for the answer.

        Answers are taken in order. After either raised, nothing in flight is answered.
        """

    def give_up(self) -> None:
        """Forget what is in flight; it will be begun again."""

    def check(self) -> None:
        """Raise `RedisBehindError` if the store lost what it had answered; ask it now."""

    def write(self, batch: Sequence[bytes], after: int) -> None:
        """Store a batch of a writer that died; in the store on return.

        Raises `RedisBehindError` if the store no longer holds all up to the number `after`.
        """

    def held_of(self, writer_id: str) -> int | None:
        """Up to which number the store is known to hold every entry of a writer; None if it
        never loses what it answered."""


class HotSink:
    """Stores in Redis, one pipeline a batch, several in flight."""

    in_flight = 3

    def __init__(
        self,
        hot: HotStore,
        writer_id: str,
        best_batch: int,
        linger_seconds: float,
        *,
        fresh: FreshMessages | None = None,
    ) -> None:
        """Carry a writer's batches; `fresh` is what its recorder knows of the newest."""
        self.best_batch = best_batch
        self.linger_seconds = linger_seconds
        self._hot = hot
        self._fresh = fresh
        self._writer_id = writer_id
        self._stream = hot.open_stream()
        self._watch = MarkWatch(hot.address)

    def begin(self, batch: Sequence[bytes]) -> Callable[[], None]:
        """Send one pipeline; raises `RedisUnavailableError` or `RedisRefusedError`.

        The answer may also raise `RedisBehindError`: then earlier entries are missing.
        """
        packer = self._hot.pack(batch, self._watch.next_after(), self._fresh)
        answer = self._stream.begin(packer)
        assert packer.mark is not None, "a batch is never empty"
        self._watch.sent(packer.mark)
        return partial(self._settle, packer.mark, answer)

    def give_up(self) -> None:
        """Let the connection go."""
        self._stream.give_up()
        self._watch.give_up()

    def check(self) -> None:
        """Look at the mark; raises `RedisBehindError`, or as `begin` does."""
        self._watch.check(self._hot.marked(self._writer_id))

    def write(self, batch: Sequence[bytes], after: int) -> None:
        """Write one pipeline and wait; raises as `begin` and its answer do."""
        found = self._hot.append_marked(batch, after)
        if found < after:
            raise RedisBehindError(self._hot.address, after, max(found, 0))

    def held_of(self, writer_id: str) -> int:
        """The writer's mark; raises as `begin` does."""
        return self._hot.marked(writer_id)

    def _settle(self, mark: Mark, answer: Callable[[], int]) -> None:
        self._watch.answered(mark, answer())


class LakeSink:
    """Stores straight in the lake: for `storage_backend="chromadb"`, where Redis is not used."""

    in_flight = 1

    def __init__(
        self, open_cold: Callable[[], ColdTier], best_batch: int, linger_seconds: float
    ) -> None:
        self.best_batch = best_batch
        self.linger_seconds = linger_seconds
        self._open_cold = open_cold

    def begin(self, batch: Sequence[bytes]) -> Callable[[], None]:
        """Write one commit at once."""
        self._open_cold().append(batch)
        return lambda: None

    def give_up(self) -> None:
        """Nothing is ever in flight."""

    def check(self) -> None:
        """A commit of the lake stays."""

    def write(self, batch: Sequence[bytes], after: int) -> None:
        """Write one commit of the lake; raises what the platform raises."""
        self._open_cold().append(batch)

    def held_of(self, writer_id: str) -> None:
        """A commit of the lake stays."""
        return None
