"""Where the writer's batches go: Redis, or the lake itself when there is no Redis.

A sink writes a batch whole or raises; writing it again changes nothing. It holds no entry
after it returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from claude_max_audit.cold_tier import ColdTier
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped


class Sink(Protocol):
    """A store that takes batches from the writer."""

    best_batch: int
    """Entries in one batch at which the store is at its fastest."""

    linger_seconds: float
    """How long a batch that is not full may wait for more."""

    def write(self, batch: Sequence[bytes]) -> None:
        """Store canonical bytes in order, once, however often it is called again."""


_decode = msgspec.json.Decoder(AuditEntry).decode


class HotSink:
    """Writes to Redis, one pipeline a batch."""

    def __init__(self, hot: HotStore, best_batch: int, linger_seconds: float) -> None:
        self.best_batch = best_batch
        self.linger_seconds = linger_seconds
        self._hot = hot

    def write(self, batch: Sequence[bytes]) -> None:
        """Write one pipeline; raises `RedisUnavailableError` or `RedisRefusedError`."""
        self._hot.append_batch([Stamped(_decode(payload), payload) for payload in batch])


class LakeSink:
    """Writes straight to the lake: for `storage_backend="chromadb"`, where Redis is not used."""

    def __init__(
        self, open_cold: Callable[[], ColdTier], best_batch: int, linger_seconds: float
    ) -> None:
        self.best_batch = best_batch
        self.linger_seconds = linger_seconds
        self._open_cold = open_cold

    def write(self, batch: Sequence[bytes]) -> None:
        """Write one commit of the lake; raises what the platform raises."""
        self._open_cold().append(batch)
