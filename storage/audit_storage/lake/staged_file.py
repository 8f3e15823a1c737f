"""A file of the lake in the making, and how its bytes come to the storage under its final name.

In a folder it is written beside its final name and renamed. In an object store a rename is a copy
and a deletion, and a half-written object is never seen; so there it is written to a nameless file
on this machine, which a stopped process leaves nowhere, and uploaded once. `LakePart` writes
through it, `Lookup` writes its key files by `store`.
"""

from __future__ import annotations

import io
import os
import tempfile
from hashlib import sha256
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.fs as pa_fs

PIECE_BYTES = 4 * 1024 * 1024
"""Bytes read, or sent, at once."""


class StagedFile(Protocol):
    """Takes bytes through `sink`; nobody reads them before `finish`."""

    sink: pa.NativeFile

    def sum(self) -> str:
        """Close the sink; return the SHA-256 (hex) of what was written, read back."""

    def finish(self, path: str) -> int:
        """Give the file its final name; returns its size. Its bytes are with the storage then."""

    def discard(self) -> None:
        """Close and delete the file, wherever it is by now."""


def stage(folder: pa_fs.FileSystem, path: str, *, local: bool) -> StagedFile:
    """Open a file to be written, `path` being its name until it is finished."""
    return _InPlace(folder, path) if local else _Uploaded(folder)


class _InPlace:
    """Lies in the table's folder from the start."""

    def __init__(self, folder: pa_fs.FileSystem, path: str) -> None:
        self._folder = folder
        self._path = path
        self.sink = folder.open_output_stream(path)

    def sum(self) -> str:
        self.sink.close()
        return sum_of(self._folder, self._path)

    def finish(self, path: str) -> int:
        self.sink.close()
        # Killed here: an orphan without a sum in its name.
        self._folder.move(self._path, path)
        self._path = path
        return int(self._folder.get_file_info(path).size)

    def discard(self) -> None:
        self.sink.close()
        self._folder.delete_file(self._path)


class _Uploaded:
    """Lies in a nameless file of this machine until it is sent."""

    def __init__(self, folder: pa_fs.FileSystem) -> None:
        self._folder = folder
        self._path: str | None = None
        self._bytes = tempfile.TemporaryFile(prefix="audit-part-")  # noqa: SIM115
        # A descriptor of its own, because closing the sink closes what is below it.
        self.sink = pa.PythonFile(os.fdopen(os.dup(self._bytes.fileno()), "wb"), mode="w")

    def sum(self) -> str:
        self.sink.close()
        self._bytes.seek(0)
        return _sum_of(self._bytes)

    def finish(self, path: str) -> int:
        self.sink.close()
        self._path = path
        size = self._bytes.seek(0, io.SEEK_END)
        self._bytes.seek(0)
        store(self._folder, path, self._bytes)
        # Killed here: an orphan; killed while sending: parts of an upload that nobody can read.
        self._bytes.close()
        return size

    def discard(self) -> None:
        self.sink.close()
        self._bytes.close()
        if self._path is not None:
            self._folder.delete_file(self._path)


def store(folder: pa_fs.FileSystem, path: str, source: BinaryIO) -> None:
    """Write a file from `source`, piece by piece. In an object store it appears whole."""
    # The table's file system takes bytes and no Arrow buffers; what passes through a buffer that
    # is larger than each piece comes to it as bytes.
    with folder.open_output_stream(path, buffer_size=2 * PIECE_BYTES) as sink:
        while piece := source.read(PIECE_BYTES):
            sink.write(piece)


def sum_of(folder: pa_fs.FileSystem, path: str) -> str:
    """Return the SHA-256 (hex) of a file's bytes. Reads them once, some 1 GB/s on a local disk."""
    with folder.open_input_file(path) as source:
        return _sum_of(source)


def _sum_of(source: BinaryIO | pa.NativeFile) -> str:
    total = sha256()
    while piece := source.read(PIECE_BYTES):
        total.update(piece)
    return total.hexdigest()
