"""Full segments that are still in memory, and when they leave it."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Final

from claude_max_audit.spool.segment import Segment

NEXT_IN_MEMORY: Final = 4
"""Full segments that stay in memory until they are read: 16 MiB. Every file that is closed or
opened gives the interpreter to a busy caller for milliseconds, so that is not done in haste."""


class FullSegments:
    """Segments that nobody appends to any more. Any thread adds; the writer's thread folds."""

    def __init__(self) -> None:
        self._segments: deque[Segment] = deque()

    def add(self, segment: Segment) -> None:
        """Take a segment that is full, or that the reader has left; twice is once."""
        self._segments.append(segment)

    def fold(
        self, reading: Segment | None, unsynced: Container[Segment], *, unread: bool = False
    ) -> None:
        """Let go of those that were read and synced; with `unread` of all but the next few."""
        next_ones = 0
        for _ in range(len(self._segments)):
            segment = self._segments.popleft()
            stays = segment is reading or segment in unsynced
            if reading is None or segment.first_seq > reading.first_seq:
                next_ones += 1
                stays = stays or not unread or next_ones <= NEXT_IN_MEMORY
            if stays:
                self._segments.append(segment)
            else:
                segment.fold()
