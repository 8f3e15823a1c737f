"""One segment of the spool: a fixed stretch of bytes that holds frames, oldest first.

Format (all integers little-endian): a header of 32 bytes (magic `CMASPL01`, the writer's id
in 16 ASCII characters, the first sequence number as u64), then frames: length u32, CRC-32
(IEEE 802.3) of the payload u32, payload (an entry's canonical bytes). A length of zero ends
the frames; the file is allocated whole, so that a full disk shows when the segment is
made and never as a signal while an agent logs.

The payload is copied in before its length, so a process killed at any instruction leaves
either a whole frame, or none, or one whose CRC does not fit: the torn last frame. A file that
ends in `.wal` may hold entries that the store lacks; in `.done`, the store answered for all.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from zlib import crc32

import msgspec

_log = logging.getLogger("claude_max_audit")

MAGIC = b"CMASPL01"
OPEN_SUFFIX = ".wal"
DONE_SUFFIX = ".done"
_HEADER = struct.Struct("<8s16sQ")
_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _FRAME.size
_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of madvise(2), which Python 3.11 does not name."""

_WARM_BYTES = 256 * 1024
"""Sixty-four pages: a fifth of a millisecond at most."""

_ENTRY_START = b'{"entry_id":"'


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why the rest of a segment file cannot be read: kept aside and reported, never deleted."""

    path: Path
    offset: int
    reason: str


class Segment:
    """A segment that this process appends to and reads from.

    One thread at a time appends; another may read what lies below `end` meanwhile, and folds,
    settles and releases segments that are full. With `path` None the bytes are this process's
    memory only.
    """

    def __init__(
        self, writer_id: str, first_seq: int, capacity: int, path: Path | None = None
    ) -> None:
        """Allocate `capacity` bytes; raises `OSError` (ENOSPC) when the disk has no room."""
        self.path = path
        self.capacity = capacity
        self.end = HEADER_BYTES
        self.made_at = monotonic()
        self.settled_at = 0.0
        self._fd = -1
        self._bytes: mmap.mmap | None
        if path is None:
            self._bytes = mmap.mmap(-1, capacity)
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _allocate(self._fd, capacity)
                self._bytes = mmap.mmap(self._fd, capacity, flags=_SHARED)
            except BaseException:
                os.close(self._fd)
                path.unlink(missing_ok=True)
                raise
        self._writer_id = writer_id.encode()
        self.begin_at(first_seq)

    def begin_at(self, first_seq: int) -> None:
        """Number the first entry, before there is one."""
        assert self._bytes is not None, "a new segment is in memory"
        self.first_seq = first_seq
        self.last_seq = first_seq - 1
        self._bytes[:HEADER_BYTES] = _HEADER.pack(MAGIC, self._writer_id, first_seq)

    def warm(self) -> None:
        """Have every page ready to be written to, so that no caller waits for the system to
        make it so: half a microsecond an entry. The interpreter is held meanwhile, so it is
        offered to others after each piece. Where the system cannot do it (before Linux 5.14),
        callers do it as they go."""
        data = self._bytes
        assert data is not None, "a new segment is in memory"
        with suppress(OSError):
            for start in range(0, self.capacity, _WARM_BYTES):
                data.madvise(_POPULATE_WRITE, start, min(_WARM_BYTES, self.capacity - start))
                sleep(0)

    def append(self, payload: bytes) -> bool:
        """Add one frame; False when it does not fit. Durable against `kill -9` on return."""
        start = self.end
        stop = start + FRAME_BYTES + len(payload)
        if stop > self.capacity:
            return False
        data = self._bytes
        assert data is not None, "only the newest segment is appended to"
        data[start + FRAME_BYTES : stop] = payload
        # Killed here: the length is still zero, and the frame was never there.
        _FRAME.pack_into(data, start, len(payload), crc32(payload))
        self.last_seq += 1
        self.end = stop
        return True

    def read(self, offset: int) -> tuple[bytes, int]:
        """Return the payload of the frame at `offset` and the offset of the next."""
        data = self._bytes or self._unfold()
        length, _ = _FRAME.unpack_from(data, offset)
        start = offset + FRAME_BYTES
        return data[start : start + length], start + length

    def read_into(self, batch: list[bytes], offset: int, most: int, most_bytes: int) -> int:
        """Add payloads from `offset` on until `batch` has `most`, or that many bytes more.

        Returns the offset of the next frame.
        """
        data = self._bytes or self._unfold()
        end = min(self.end, offset + most_bytes)
        while offset < end and len(batch) < most:
            start = offset + FRAME_BYTES
            offset = start + _LENGTH.unpack_from(data, offset)[0]
            batch.append(data[start:offset])
        return offset

    def offset_of(self, seq: int) -> int:
        """Return where the frame with this number begins; `seq` lies within the segment."""
        data = self._bytes or self._unfold()
        offset = HEADER_BYTES
        for _ in range(seq - self.first_seq):
            offset += FRAME_BYTES + int(_FRAME.unpack_from(data, offset)[0])
        return offset

    def sync(self) -> None:
        """Put what is below `end` onto the disk (fdatasync); nothing to do in memory."""
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def fold(self) -> None:
        """Let go of the memory and the descriptor of a full segment; reading maps it again."""
        if self.path is not None:
            self.close()

    def cut(self) -> None:
        """Give back the room that the segment did not need; nothing is appended any more."""
        if self.path is not None and self._is_there():
            with self._told_if_it_fails("cut"):
                os.truncate(self.path, self.end)

    def settle(self) -> None:
        """Name the file as one that the store answered for, now."""
        self.settled_at = monotonic()
        self.cut()
        if self.path is None or not self._is_there():
            return
        # Killed here or before: whoever adopts it sends it once more.
        done = self.path.with_suffix(DONE_SUFFIX)
        with self._told_if_it_fails("renamed"):
            try:
                self.path.rename(done)
                os.utime(done)
            finally:
                if done.exists():  # A failed call may have done its work.
                    self.path = done

    def close(self) -> None:
        """Let go of the memory and the file, which stays."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def release(self) -> None:
        """Close and remove the file: the store keeps every frame."""
        self.close()
        if self.path is not None:
            with self._told_if_it_fails("removed"):
                self.path.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        """Whether nobody has removed the file; what is mapped is still read if somebody did."""
        if self.path is not None and self.path.exists():
            return True
        _log.error("the spool segment %s has vanished; no program may remove it", self.path)
        return False

    @contextmanager
    def _told_if_it_fails(self, what: str) -> Iterator[None]:
        """Tidying up is never worth an entry: whoever adopts the folder does it then."""
        try:
            yield
        except OSError as failure:
            _log.warning("the spool segment %s could not be %s: %s", self.path, what, failure)

    def _unfold(self) -> mmap.mmap:
        assert self.path is not None, "memory is never folded"
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._bytes = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        return self._bytes


def read_frames(path: Path) -> Iterator[bytes | Unfit]:
    """Yield every whole payload of a dead process's segment file, in order.

    A torn last frame is passed over in silence: its `log_*` never returned. Any other frame
    that does not fit yields an `Unfit`, and reading goes on at the next whole entry.
    """
    data = path.read_bytes()
    if not any(data[HEADER_BYTES:]):
        return  # Killed while the segment was being made: it held nothing yet.
    if data[: len(MAGIC)] != MAGIC:
        yield Unfit(path, 0, "is not a spool segment of this version")
        return
    at = HEADER_BYTES
    while at + FRAME_BYTES <= len(data):
        payload = _whole_frame(data, at)
        if payload is not None:
            yield payload
            at += FRAME_BYTES + len(payload)
            continue
        behind = _next_whole_entry(data, at + FRAME_BYTES)
        if behind is None:
            return
        yield Unfit(path, at, f"bytes {at} to {behind} are not a whole frame")
        at = behind


def _whole_frame(data: bytes, at: int) -> bytes | None:
    """Return the payload of the frame at `at`, or None when its length or CRC does not fit."""
    if at + FRAME_BYTES > len(data):
        return None
    length, checksum = _FRAME.unpack_from(data, at)
    payload = data[at + FRAME_BYTES : at + FRAME_BYTES + length]
    if length == 0 or len(payload) < length or crc32(payload) != checksum:
        return None
    return payload


def _next_whole_entry(data: bytes, start: int) -> int | None:
    """Return the offset of the next frame from `start` on that holds a whole entry."""
    at = data.find(_ENTRY_START, start + FRAME_BYTES)
    while at >= 0:
        if _whole_frame(data, at - FRAME_BYTES) is not None:
            return at - FRAME_BYTES
        at = data.find(_ENTRY_START, at + 1)
    return None


class _Numbered(msgspec.Struct):
    writer_seq: int = 0


def number_of(payload: bytes) -> int:
    """The writer's number of an entry; raises `ValueError` for bytes that are not one."""
    return msgspec.json.decode(payload, type=_Numbered).writer_seq


def header_of(path: Path) -> tuple[str, int] | None:
    """Return (writer id, first sequence number) of a segment file, or None if it has none."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or head[: len(MAGIC)] != MAGIC:
        return None
    _, writer_id, first_seq = _HEADER.unpack(head)
    return writer_id.decode(), first_seq


_SHARED = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


def _allocate(fd: int, size: int) -> None:
    """Reserve `size` bytes of disk, so that writing into the mapping cannot fail later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    os.ftruncate(fd, size)  # No reservation on this system: a full disk may surface late.
