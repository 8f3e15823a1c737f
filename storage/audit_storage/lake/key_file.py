"""The keys of one Parquet file, small enough to be asked instead of it: is this hash in there?

Pure bytes: made by `encode_keys`, asked through `KeyFile`. A key is the first 64 bits of the
SHA-256 of a hash, an id or a name, so keys are spread evenly whatever the ids look like.
The high bits choose a bucket of some 64 keys, the next 16 are kept there, sorted; so one answer
reads a few hundred bytes, and one absent key in a thousand seems to be there.

    header    magic, rows, SHA-256 of the Parquet file's path, keys and bucket bits per column, CRC
    columns   for each: where each bucket begins, the CRC of each bucket, the buckets

An answer is given only by a bucket whose CRC fits, so a damaged file never hides an entry.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol
from zlib import crc32

import numpy as np

KEY_COLUMNS: tuple[str, ...] = ("content_hash", "entry_id", "agent_id", "to_agent", "session_id")
"""The columns whose values are looked up over years, and that no statistics can place: agents
and sessions come and go, but their names lie between the least and the greatest of any file."""

BUCKET_KEYS = 64
"""Keys in a bucket: fewer, and the CRCs weigh; more, and absent keys seem present more often."""

_MAGIC = b"auditky2"
_HEADER = struct.Struct("<8sI32s" + "IB" * len(KEY_COLUMNS))
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
_PRINT_BITS = 16

_SEED = 0x41554454
"""Where each bucket's CRC starts, with its number: a file of zeros must fit nowhere."""


class DamagedKeysError(ValueError):
    """These bytes are not the keys of that file; make them anew."""


class Source(Protocol):
    """Bytes that are read in pieces: a mapped file, or one in an object store."""

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Return `nbytes` from `offset` on, fewer at the end."""


def key_of(value: str) -> int:
    """Return the 64-bit key of a hash or an id."""
    return int.from_bytes(sha256(value.encode()).digest()[:8], "big")


def encode_keys(path: str, rows: int, columns: Mapping[str, Sequence[str]]) -> bytes:
    """Return the key file of the Parquet file at `path`, from all values of its key columns,
    each at least once."""
    shape: list[int] = []
    bodies: list[bytes] = []
    for name in KEY_COLUMNS:
        values = columns[name]
        keys = np.frombuffer(
            b"".join(sha256(value.encode()).digest()[:8] for value in values), dtype=">u8"
        )
        keys = np.unique(keys.astype(np.uint64))
        bits = max(0, (len(keys) // BUCKET_KEYS).bit_length())
        shape += [len(keys), bits]
        bodies.append(_column(keys, bits))
    header = _HEADER.pack(_MAGIC, rows, _name(path), *shape)
    return b"".join([header, _CRC.pack(crc32(header)), *bodies])


def _column(keys: np.ndarray, bits: int) -> bytes:
    buckets = np.arange((1 << bits) + 1, dtype=np.uint64)
    high = keys >> np.uint64(64 - bits) if bits else np.zeros(len(keys), np.uint64)
    starts = np.searchsorted(high, buckets).astype("<u4")
    prints = (keys >> np.uint64(64 - bits - _PRINT_BITS)).astype("<u2").tobytes()
    sums = [
        crc32(prints[2 * int(starts[at]) : 2 * int(starts[at + 1])], _SEED + at)
        for at in range(1 << bits)
    ]
    return b"".join([starts.tobytes(), np.array(sums, "<u4").tobytes(), prints])


class KeyFile:
    """A key file that is open. Raises `DamagedKeysError` where its bytes do not fit."""

    def __init__(self, source: Source, path: str, rows: int) -> None:
        self._source = source
        header = source.read_at(HEADER_BYTES, 0)
        if len(header) != HEADER_BYTES:
            raise DamagedKeysError(f"{path}: no whole header")
        magic, counted, name, *shape = _HEADER.unpack_from(header)
        [stored] = _CRC.unpack_from(header, _HEADER.size)
        if (magic, counted, name) != (_MAGIC, rows, _name(path)):
            raise DamagedKeysError(f"{path}: these are the keys of another file or version")
        if stored != crc32(header[: _HEADER.size]):
            raise DamagedKeysError(f"{path}: the header was changed")
        self._path = path
        self._bits: dict[str, int] = {}
        self._places: dict[str, int] = {}
        at = HEADER_BYTES
        for number, column in enumerate(KEY_COLUMNS):
            keys, bits = shape[2 * number : 2 * number + 2]
            self._bits[column], self._places[column] = bits, at
            at += _CRC.size * (2 * (1 << bits) + 1) + 2 * keys
        self.bytes = at

    def may_hold(self, column: str, key: int) -> bool:
        """Say whether a row of the file may have the key; False is certain."""
        bits = self._bits[column]
        bucket = key >> (64 - bits)
        wanted = struct.pack("<H", (key >> (64 - bits - _PRINT_BITS)) & 0xFFFF)
        prints = self._bucket(column, bucket)
        return any(prints[at : at + 2] == wanted for at in range(0, len(prints), 2))

    def check(self) -> None:
        """Read every bucket; raises `DamagedKeysError` at the first that does not fit."""
        for column, bits in self._bits.items():
            for bucket in range(1 << bits):
                self._bucket(column, bucket)

    def _bucket(self, column: str, bucket: int) -> bytes:
        buckets, at = 1 << self._bits[column], self._places[column]
        ends = self._source.read_at(8, at + 4 * bucket)
        stored = self._source.read_at(4, at + 4 * (buckets + 1 + bucket))
        if len(ends) != 8 or len(stored) != 4:
            raise DamagedKeysError(f"{self._path}: the file is cut short")
        start, end = struct.unpack("<II", ends)
        if not start <= end <= start + 64 * BUCKET_KEYS:
            raise DamagedKeysError(f"{self._path}: bucket {bucket} has no place")
        prints = self._source.read_at(2 * (end - start), at + 4 * (2 * buckets + 1) + 2 * start)
        if crc32(prints, _SEED + bucket) != _CRC.unpack(stored)[0]:
            raise DamagedKeysError(f"{self._path}: bucket {bucket} was changed")
        return bytes(prints)


def _name(path: str) -> bytes:
    return sha256(path.encode()).digest()
