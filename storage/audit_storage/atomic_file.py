"""A file that is either whole under its final name or not there at all.

The export writes through it. Sequence of system calls, each followed by what a stop there
leaves behind:

    open(O_EXCL) + flock   a partial file, swept by the next export into the folder
    write ... fsync        the same
    link or rename         the whole file under its final name (link: plus the partial name)
    fsync(folder)          the same, after a power cut too

A partial file is locked for as long as its writer lives, so a sweep takes dead ones only.
Never overwrites unless told to, even when two writers aim at one name at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

PARTIAL_SUFFIX = ".audit-partial"
"""Ends the name of every file being written; the sweep touches no other."""

FILE_MODE = 0o600
"""An export holds what agents said: readable by its owner, who may then share it."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class HashedFile:
    """Takes bytes in order, and knows their number and SHA-256. Cannot seek or be read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._digest = sha256()
        self.bytes_written = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """Append `data`; durable only when the file has been published."""
        self._digest.update(data)
        self.bytes_written += self._raw.write(data)
        return len(data)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._raw.flush()

    def close(self) -> None:
        """Do nothing: the file is closed by `atomic_file`, after its fsync."""

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of everything written so far."""
        return self._digest.hexdigest()

    # The three questions that a file's users ask before they write.
    def readable(self) -> bool:
        """Say no."""
        return False

    def seekable(self) -> bool:
        """Say no."""
        return False

    def writable(self) -> bool:
        """Say yes."""
        return True


@contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[HashedFile]:
    """Write `path` whole: what is written in the block appears when the block ends well.

    When the block raises, nothing is left. Raises `FileExistsError` when `path` exists and
    `overwrite` is False, else the `OSError` of the folder.
    """
    partial, raw = _open_partial(path)
    try:
        with raw:
            yield (hashed := HashedFile(raw))
            hashed.flush()
            os.fsync(raw.fileno())
            _publish(partial, path, overwrite=overwrite)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    _sync_folder(path.parent)


def sweep_partials(folder: Path) -> list[Path]:
    """Remove the partial files of dead writers from `folder`; return their paths."""
    swept: list[Path] = []
    for partial in folder.glob(f".*{PARTIAL_SUFFIX}"):
        try:
            with partial.open("rb") as raw:
                fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()
        except OSError:  # its writer lives, it has just gone, or it is not ours to remove
            continue
        swept.append(partial)
    return swept


def _open_partial(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        # A name of fixed length, so that a long final name does not become too long.
        partial = path.with_name(f".{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
        raw = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb")
        with suppress(OSError):  # a file system without locks: no sweep there can lock either
            fcntl.flock(raw, fcntl.LOCK_EX)
        if os.fstat(raw.fileno()).st_nlink:
            return partial, raw
        raw.close()  # a sweep took it between our open and our lock


def _publish(partial: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        partial.replace(path)
        return
    try:
        os.link(partial, path)  # fails where the name is taken, at the very instant
    except OSError as refused:
        if refused.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        partial.replace(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
