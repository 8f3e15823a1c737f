"""The spool: this process's write-ahead log, which holds what the store may not have.

One folder a writer, `{spool_dir}/{writer_id}/`, with numbered segments and a lock that dies
with the process. Callers append under `lock`; one writer thread reads in order, confirms,
and tidies. A segment that the store answered for stays for a while, because the store may
still lose it. With `durable=False` the same segments live in memory only.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from claude_max_audit.settings import KEEP_BYTES, KEEP_SECONDS, SEGMENT_BYTES, SPOOL_BYTES
from claude_max_audit.spool.folder import claim_folder, remove_folder, sync_folder
from claude_max_audit.spool.full import FullSegments
from claude_max_audit.spool.kept import Kept
from claude_max_audit.spool.room import Room
from claude_max_audit.spool.segment import HEADER_BYTES, Segment, number_of
from claude_max_audit.spool.tally import Tally, note_tally

_RENEW_SECONDS = 600.0
"""Age at which a segment with room left is given up, so that no answered entry stays long."""


class Spool:
    """An ordered queue of canonical bytes on disk (or in memory), written and read in place.

    `appended` and `confirmed` count this spool's entries from 1; what lies between them is
    not in the store. `dropped` counts those that the owner gave up for want of room. Only the
    writer thread calls `read`, `confirm`, `rewind` and `tidy`.
    """

    def __init__(
        self,
        directory: Path,
        writer_id: str,
        *,
        durable: bool = True,
        synced: bool = False,
        max_bytes: int = SPOOL_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        keep_seconds: float = KEEP_SECONDS,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        """Make the writer's folder and lock it; raises `OSError` when it cannot be made.

        With `synced`, somebody calls `sync`. Answered segments are kept for `keep_seconds`
        (0: not at all) while they have no more than `keep_bytes`, and for `LOSS_SECONDS` in
        any case that leaves room for new ones.
        """
        self.writer_id = writer_id
        self.folder = directory / writer_id
        self.lock = threading.Lock()
        self.waits_for_lock = False
        self.appended = 0
        self.confirmed = 0
        self.dropped = 0
        self.timed = (0, 0)
        """Calls that were timed, and the nanoseconds that they took together."""
        self._noted = Tally(0, 0, 0)
        self._synced = synced
        self._segments: deque[Segment] = deque()
        self._kept = Kept(keep_seconds, keep_bytes)
        self._room = Room(
            self.folder,
            durable=durable,
            max_bytes=max_bytes,
            segment_bytes=segment_bytes,
            kept=self._kept,
        )
        self._full = FullSegments()
        self._unsynced: list[Segment] = []
        self._folder_synced = 0
        self._unsure: tuple[int, OSError] | None = None
        self._files = threading.Lock()
        self._renewing = False
        self._reading: Segment | None = None
        self._offset = HEADER_BYTES
        self._lock_fd = claim_folder(self.folder) if durable else -1

    @property
    def pending(self) -> int:
        """Entries that the store has not confirmed."""
        return self.appended - self.confirmed

    def tally(self) -> Tally:
        """What was accepted and where it is; of one moment if called with `lock` held."""
        # Each number is looked at once, for it may change meanwhile: what is written first,
        # which is never more than what is appended.
        written, dropped, appended = self.confirmed, self.dropped, self.appended
        return Tally(appended + dropped, written, dropped, *self.timed)

    def note_tally(self) -> None:
        """Have the tally where others can read it, if it has changed."""
        tally = self.tally()
        if self._lock_fd >= 0 and tally != self._noted:
            note_tally(self._lock_fd, tally)
            self._noted = tally

    @property
    def bytes_held(self) -> int:
        """Bytes that the segments take, kept ones included."""
        return self._room.bytes_held

    @property
    def keeps(self) -> bool:
        """Whether entries are still here that the store answered for and may yet lose."""
        with self.lock:
            return len(self._kept) > 0 or (
                len(self._segments) > 0 and self._segments[0].first_seq <= self.confirmed
            )

    def append(self, payload: bytes) -> None:
        """Keep one entry (call with `lock` held); it survives `kill -9` on return.

        Raises `SpoolFullError` when the bound or the disk leaves no room: nothing was kept.
        """
        segments = self._segments
        if not segments or self._renewing or not segments[-1].append(payload):
            self._add_segment(len(payload))
            segments[-1].append(payload)
            self._renewing = False
        self.appended += 1

    def sync(self) -> None:
        """Put everything appended so far onto the disk; `failure_of` says what went wrong."""
        with self._files:  # Meanwhile no segment is folded or removed.
            with self._its_turn():
                unsynced, made = list(self._unsynced), self._room.made
            try:
                for segment in unsynced:
                    segment.sync()
                if self._folder_synced != made:
                    sync_folder(self.folder)
                    self._folder_synced = made
            except OSError as failure:
                with self._its_turn():
                    self._unsure = self.appended, failure
                    self._renewing = True
            with self._its_turn():
                newest = self._segments[-1] if self._segments else None
                self._unsynced = [s for s in self._unsynced if s is newest or s not in unsynced]

    def failure_of(self, number: int) -> OSError | None:
        """Why this entry may not be on the disk although it was synced; None if it is.

        After a failed fdatasync the system may take the same bytes for written, so nothing
        that was appended before it is ever called safe. It is still carried to the store.
        """
        unsure = self._unsure
        return unsure[1] if unsure is not None and number <= unsure[0] else None

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """Return the next entries in order, and move on; empty when all were read.

        Reads without the lock: bytes below `end` never change.
        """
        batch: list[bytes] = []
        while len(batch) < most and most_bytes > 0:
            segment = self._reading
            if segment is None or self._offset >= segment.end:
                if not self._advance():
                    break
                self._full.fold(self._reading, self._unsynced)
                continue
            start = self._offset
            self._offset = segment.read_into(batch, start, most, most_bytes)
            most_bytes -= self._offset - start
        return batch

    def confirm(self, count: int) -> None:
        """Note that the store holds the next `count` entries in order.

        Takes no lock: callers that log without a pause hold it most of the time, and nobody
        else changes the number.
        """
        self.confirmed += count

    @contextmanager
    def _its_turn(self) -> Iterator[None]:
        """Hold the lock, on a thread that is not a caller's: those step back meanwhile."""
        self.waits_for_lock = True
        with self.lock:
            self.waits_for_lock = False
            yield

    def rewind(self, *, to_oldest: bool = False) -> None:
        """Read again from the first unconfirmed entry, or from the oldest one still here."""
        with self._its_turn():
            if to_oldest:
                self._segments.extendleft(reversed(self._kept.take_all()))
                if self._segments:
                    self.confirmed = min(self.confirmed, self._segments[0].first_seq - 1)
            self._reading = None
            for segment in self._segments:
                if segment.last_seq > self.confirmed:
                    self._reading = segment
                    self._offset = segment.offset_of(self.confirmed + 1)
                    break

    def oldest_number(self) -> int | None:
        """The writer's number of the oldest entry that is still here; None if there is none."""
        with self._its_turn():
            for segment in (*self._kept, *self._segments):
                if segment.end > HEADER_BYTES:
                    return number_of(segment.read(HEADER_BYTES)[0])
        return None

    def prepare(self) -> None:
        """Make the next segment before it is needed, so that no caller waits for the disk."""
        newest = self._segments[-1] if self._segments else None
        if newest is None or self._room.has_spare or newest.end < newest.capacity // 2:
            return
        with self._its_turn():
            reserved = self._room.reserve_spare()
        if reserved is not None:
            spare = self._room.make_spare(*reserved)
            with self._its_turn():
                self._room.keep_spare(*reserved, spare)

    def tidy(self, *, releasing: bool = True) -> None:
        """Let full segments go from memory, and answered ones from the disk in their time.

        Without `releasing` nothing leaves the disk: the store does not answer, and may have
        lost what it answered before.
        """
        with self._files:
            self._full.fold(self._reading, self._unsynced, unread=True)
            for segment in self._newly_answered():
                segment.fold()
                segment.settle()
                with self._its_turn():
                    self._kept.add(segment)
            if releasing:
                with self._its_turn():
                    expired = self._kept.take_expired()
                    self._room.bytes_held -= sum(segment.capacity for segment in expired)
                for segment in expired:
                    segment.release()

    def close(self) -> None:
        """Let go of everything; what the store may lack or lose stays for who comes next."""
        self.note_tally()
        with self._files:
            if self.pending == 0:
                for segment in self._segments:
                    segment.settle()
                    self._kept.add(segment)
                self._segments.clear()
                for segment in self._kept.take_expired(closing=True):
                    segment.release()
            self._room.close(removing=True)
            for segment in self._segments:
                segment.cut()
        self.abandon()
        if self._lock_fd >= 0:
            remove_folder(self.folder)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def abandon(self) -> None:
        """Close every segment and leave the files: a forked child lets go of its parent's."""
        for segment in (*self._kept.take_all(), *self._segments):
            segment.close()
        self._room.close(removing=False)
        self._segments.clear()
        self._reading = None

    def let_go_of_lock(self) -> None:
        """Close this process's handle on the lock without freeing it for others (fork)."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _advance(self) -> bool:
        """Go on to the next segment that has something to read; False when there is none.

        Takes no lock, as a busy caller would not let go of it: it looks at the segments
        first, and only the last of those may still grow.
        """
        segments, before = tuple(self._segments), self._reading
        if before is not None and self._offset < before.end:
            return True  # More was appended since the reader looked.
        following = before is None
        for segment in segments:
            if following and segment.last_seq > self.confirmed:
                self._reading, self._offset = segment, HEADER_BYTES
                if before is not None:
                    self._full.add(before)
                return True
            following = following or segment is before
        return False

    def _newly_answered(self) -> list[Segment]:
        """Segments whose entries are all confirmed, and which are no longer appended to."""
        answered: list[Segment] = []
        with self._its_turn():
            while self._segments and self._segments[0].last_seq <= self.confirmed:
                segment = self._segments[0]
                if len(self._segments) == 1:
                    if monotonic() - segment.made_at < _RENEW_SECONDS:
                        break  # It is still being appended to.
                    if segment in self._unsynced:
                        self._unsynced.remove(segment)
                elif segment in self._unsynced:
                    break
                self._segments.popleft()
                if self._reading is segment:
                    self._reading = None
                answered.append(segment)
        return answered

    def _add_segment(self, payload_bytes: int) -> None:
        segment = self._room.segment_for(payload_bytes, self.appended + 1)
        if self._segments:
            self._full.add(self._segments[-1])
        self._segments.append(segment)
        if self._synced:
            self._unsynced.append(segment)
