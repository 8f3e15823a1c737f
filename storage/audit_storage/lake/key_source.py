"""Where the bytes of a key file come from: a file of this machine, or an object read in blocks.

`Lookup` opens them for `KeyFile`, which asks for a few bytes here and there. Of an object whole
blocks are fetched and kept, because a request costs more than the bytes it brings.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs

from audit_storage.lake.key_file import Source

BLOCK_BYTES = 64 * 1024
"""Bytes fetched at once: the keys of 15,000 entries, or the beginning of a larger file's."""

KEPT_BLOCKS = 8
"""Blocks kept of one key file: at most 512 KiB, the whole of an ordinary month's."""


def open_source(folder: pa_fs.FileSystem, name: str, local: str | None) -> Source:
    """Open a key file by its name in `folder`; `local` is that folder's path on this machine."""
    if local is not None:
        mapped: Source = pa.memory_map(str(Path(local, name)))
        return mapped
    return BlockSource(folder.open_input_file(name))


class BlockSource:
    """An object that never changes, read block by block. Safe to use from several threads."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self._blocks: dict[int, bytes] = {}

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Return `nbytes` from `offset` on, fewer at the end."""
        first, last = offset // BLOCK_BYTES, (offset + max(nbytes, 1) - 1) // BLOCK_BYTES
        found = b"".join(self._block(number) for number in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return found[start : start + nbytes]

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            block = self._file.read_at(BLOCK_BYTES, number * BLOCK_BYTES)
            while len(self._blocks) >= KEPT_BLOCKS:
                # The oldest; another thread may have taken it, and then there is room.
                self._blocks.pop(next(iter(self._blocks), -1), None)
            self._blocks[number] = block
        return block
