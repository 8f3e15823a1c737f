"""Segments that the store answered for and may still lose: how long they stay.

Oldest first. Called by the spool, with its lock held where it says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Final

from claude_max_audit.spool.segment import Segment

LOSS_SECONDS: Final = 4.0
"""How long an answered segment stays at least. Redis with `appendfsync everysec` may put a
write off for two seconds, and what it wrote is on its disk a second later, or a little more."""


class Kept:
    """Answered segments, for `keep_seconds` or up to `keep_bytes`, the last seconds always."""

    def __init__(self, keep_seconds: float, keep_bytes: int) -> None:
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._segments: deque[Segment] = deque()

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def add(self, segment: Segment) -> None:
        """Keep a segment that was settled (lock held)."""
        self._segments.append(segment)

    def take_all(self) -> list[Segment]:
        """Give all back: the store lost them (lock held)."""
        taken = list(self._segments)
        self._segments.clear()
        return taken

    def take_oldest(self) -> Segment | None:
        """Give up the oldest before its time: room is needed (lock held)."""
        return self._segments.popleft() if self._segments else None

    def take_expired(self, *, closing: bool = False) -> list[Segment]:
        """Give up those whose time is over or that are too many (lock held).

        When `closing`, all but the last seconds.
        """
        now = monotonic()
        least = min(LOSS_SECONDS, self._keep_seconds)
        most = least if closing else self._keep_seconds
        size = sum(segment.end for segment in self._segments)
        expired: list[Segment] = []
        while self._segments:
            age = now - self._segments[0].settled_at
            if age < least or (age < most and size <= self._keep_bytes):
                break
            size -= self._segments[0].end
            expired.append(self._segments.popleft())
        return expired
