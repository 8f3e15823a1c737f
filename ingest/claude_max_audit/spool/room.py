"""The spool's room: makes segments within its bound, the next one before it is needed.

Making a file may wait for the disk, so the writer's thread does it ahead of time and a caller
only when it was faster than that. Called by the spool, with its lock held where it says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from claude_max_audit.errors import SpoolFullError
from claude_max_audit.spool.folder import segment_path
from claude_max_audit.spool.kept import Kept
from claude_max_audit.spool.segment import FRAME_BYTES, HEADER_BYTES, Segment

_FIRST_SEGMENT_BYTES: Final = 256 * 1024
"""A short process should not pay for a long one's segment; sizes double up to the full one."""


class Room:
    """Bytes on the disk (or in memory, if not `durable`) for one writer's segments."""

    def __init__(
        self, folder: Path, *, durable: bool, max_bytes: int, segment_bytes: int, kept: Kept
    ) -> None:
        self.bytes_held = 0
        self.made = 0
        self._folder = folder
        self._durable = durable
        self._max_bytes = max_bytes
        self._full_segment_bytes = segment_bytes
        self._next_bytes = min(_FIRST_SEGMENT_BYTES, segment_bytes)
        self._kept = kept
        self._spare: Segment | None = None

    @property
    def has_spare(self) -> bool:
        """Whether the next segment is ready."""
        return self._spare is not None

    def segment_for(self, payload_bytes: int, first_seq: int) -> Segment:
        """A new segment that a payload fits into (lock held); raises `SpoolFullError`."""
        needed = HEADER_BYTES + FRAME_BYTES + payload_bytes
        spare, self._spare = self._spare, None
        if spare is not None and needed > spare.capacity:
            self.release(spare)
            spare = None
        segment = spare or self._make(max(self._next_bytes, needed))
        segment.begin_at(first_seq)
        self._next_bytes = min(self._next_bytes * 2, self._full_segment_bytes)
        return segment

    def reserve_spare(self) -> tuple[int, int] | None:
        """Take number and bytes for a spare segment (lock held); None if it has to wait."""
        if self._spare is not None or self.bytes_held + self._next_bytes > self._max_bytes:
            return None
        self.made += 1
        self.bytes_held += self._next_bytes
        return self.made, self._next_bytes

    def make_spare(self, number: int, capacity: int) -> Segment | None:
        """Make the reserved segment, without the lock; None when the disk has no room."""
        try:
            spare = Segment(self._folder.name, 0, capacity, self._path_of(number))
        except OSError:
            return None  # A caller will meet the full disk, and is told.
        spare.warm()
        return spare

    def keep_spare(self, number: int, capacity: int, spare: Segment | None) -> None:
        """Have the spare ready (lock held), unless a caller was faster and made a later one."""
        if spare is not None and self.made == number:
            self._spare = spare
        elif spare is not None:
            self.release(spare)
        else:
            self.bytes_held -= capacity

    def release(self, segment: Segment) -> None:
        """Give a segment's room back, its file with it (lock held)."""
        self.bytes_held -= segment.capacity
        segment.release()

    def close(self, *, removing: bool) -> None:
        """Let the spare go; a forked child leaves the file to its parent."""
        if self._spare is not None:
            if removing:
                self._spare.release()
            else:
                self._spare.close()
            self._spare = None

    def _make(self, capacity: int) -> Segment:
        """What Redis answered for gives way to what it lacks."""
        while self.bytes_held + capacity > self._max_bytes:
            if not self._give_way():
                held = f"it holds {self.bytes_held} of {self._max_bytes} bytes"
                raise SpoolFullError(str(self._folder), held)
        while True:
            try:
                self.made += 1  # A failed try may leave a file of this number.
                path = self._path_of(self.made)
                segment = Segment(self._folder.name, 0, capacity, path)
            except OSError as full:
                if not self._give_way():
                    reason = full.strerror or str(full)
                    raise SpoolFullError(str(self._folder), reason) from full
            else:
                self.bytes_held += capacity
                return segment

    def _give_way(self) -> bool:
        oldest = self._kept.take_oldest()
        if oldest is not None:
            self.release(oldest)
        return oldest is not None

    def _path_of(self, number: int) -> Path | None:
        return segment_path(self._folder, number) if self._durable else None
