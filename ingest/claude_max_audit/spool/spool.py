"""The spool: this process's write-ahead log, which holds what the store has not confirmed.

One folder a writer, `{spool_dir}/{writer_id}/`, with numbered segments and a lock that dies
with the process. Callers append under `lock`; one writer thread reads in order, confirms,
and releases whole segments once the store can no longer lose them. With `durable=False`
the same segments live in memory only.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from time import monotonic

from claude_max_audit.errors import SpoolFullError
from claude_max_audit.settings import SEGMENT_BYTES, SPOOL_BYTES
from claude_max_audit.spool.folder import claim_folder, remove_folder, segment_path
from claude_max_audit.spool.segment import FRAME_BYTES, HEADER_BYTES, Segment

_FIRST_SEGMENT_BYTES = 256 * 1024
"""A short process should not pay for a long one's segment; sizes double up to the full one."""

RELEASE_AFTER_SECONDS = 2.0
"""How long a confirmed segment stays: Redis with `appendfsync everysec` may lose the last
second of what it answered, and gets it again from here."""


class Spool:
    """An ordered queue of canonical bytes on disk (or in memory), written and read in place.

    `appended` and `confirmed` count this spool's entries from 1; what lies between them is
    not in the store. Every method but `read` wants `lock` held or takes it, as it says.
    """

    def __init__(
        self,
        directory: Path,
        writer_id: str,
        *,
        durable: bool = True,
        max_bytes: int = SPOOL_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Make the writer's folder and lock it; raises `OSError` when it cannot be made."""
        self.writer_id = writer_id
        self.folder = directory / writer_id
        self.lock = threading.Lock()
        self.appended = 0
        self.confirmed = 0
        self.bytes_held = 0
        self._durable = durable
        self._max_bytes = max_bytes
        self._full_segment_bytes = segment_bytes
        self._next_bytes = min(_FIRST_SEGMENT_BYTES, segment_bytes)
        self._segments: deque[Segment] = deque()
        self._made = 0
        self._reading: Segment | None = None
        self._offset = HEADER_BYTES
        self._lock_fd = claim_folder(self.folder) if durable else -1

    @property
    def pending(self) -> int:
        """Entries that the store has not confirmed."""
        return self.appended - self.confirmed

    def append(self, payload: bytes) -> None:
        """Keep one entry (call with `lock` held); it survives `kill -9` on return.

        Raises `SpoolFullError` when the bound or the disk leaves no room: nothing was kept.
        """
        segments = self._segments
        if not segments or not segments[-1].append(payload):
            self._add_segment(len(payload))
            segments[-1].append(payload)
        self.appended += 1

    def sync(self) -> int:
        """Put everything appended so far onto the disk; returns the last number that is."""
        with self.lock:
            reached = self.appended
            unconfirmed = [s for s in self._segments if s.last_seq > self.confirmed]
        for segment in unconfirmed:
            segment.sync()
        return reached

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """Return the next entries in order, and move on; empty when all were read.

        Only the writer thread calls it, without the lock: bytes below `end` never change.
        """
        batch: list[bytes] = []
        size = 0
        while len(batch) < most and size < most_bytes:
            segment = self._reading
            if segment is None or self._offset >= segment.end:
                if not self._advance():
                    break
                continue
            payload, self._offset = segment.read(self._offset)
            batch.append(payload)
            size += len(payload)
        return batch

    def confirm(self, count: int) -> None:
        """Note that the store holds the next `count` entries in order."""
        with self.lock:
            self.confirmed += count

    def rewind(self, *, to_oldest: bool = False) -> None:
        """Read again from the first unconfirmed entry, or from the oldest one still here."""
        with self.lock:
            if to_oldest and self._segments:
                self.confirmed = min(self.confirmed, self._segments[0].first_seq - 1)
            self._reading = None
            for segment in self._segments:
                if segment.last_seq > self.confirmed:
                    self._reading = segment
                    self._offset = segment.offset_of(self.confirmed + 1)
                    break

    def release(self, *, at_once: bool = False) -> None:
        """Remove segments whose entries the store confirmed long enough ago."""
        with self.lock:
            now = monotonic()
            while self._segments and self._segments[0].last_seq <= self.confirmed:
                segment = self._segments[0]
                if segment.confirmed_at is None or segment.confirmed_seq != segment.last_seq:
                    segment.confirmed_at, segment.confirmed_seq = now, segment.last_seq
                if not at_once and now - segment.confirmed_at < RELEASE_AFTER_SECONDS:
                    return
                self._segments.popleft()
                self.bytes_held -= segment.capacity
                if self._reading is segment:
                    self._reading = None
                segment.release()

    def close(self) -> None:
        """Let go of everything; the folder goes too when the store holds all that was in it."""
        if self.pending == 0:
            self.release(at_once=True)
        self.abandon()
        if self._lock_fd >= 0:
            if self.pending == 0:
                remove_folder(self.folder)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def abandon(self) -> None:
        """Close every segment and leave the files: a forked child lets go of its parent's."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._reading = None

    def let_go_of_lock(self) -> None:
        """Close this process's handle on the lock without freeing it for others (fork)."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _advance(self) -> bool:
        """Go on to the next segment that has something to read; False when there is none."""
        with self.lock:
            if self._reading is not None and self._offset < self._reading.end:
                return True  # More was appended since the reader looked.
            following = False
            for segment in self._segments:
                if self._reading is None or following:
                    if segment.last_seq <= self.confirmed:
                        continue
                    self._reading, self._offset = segment, HEADER_BYTES
                    return segment.end > HEADER_BYTES
                following = segment is self._reading
            return False

    def _add_segment(self, payload_bytes: int) -> None:
        needed = HEADER_BYTES + FRAME_BYTES + payload_bytes
        capacity = max(self._next_bytes, needed)
        if self.bytes_held + capacity > self._max_bytes:
            raise SpoolFullError(
                str(self.folder), f"it holds {self.bytes_held} of {self._max_bytes} bytes"
            )
        path = segment_path(self.folder, self._made + 1) if self._durable else None
        try:
            segment = Segment(self.writer_id, self.appended + 1, capacity, path)
        except OSError as full:
            raise SpoolFullError(str(self.folder), full.strerror or str(full)) from full
        self._made += 1
        self._next_bytes = min(self._next_bytes * 2, self._full_segment_bytes)
        self.bytes_held += capacity
        self._segments.append(segment)
