"""Folders of the spool: one a writer, locked while its process lives.

`{spool_dir}/{writer_id}/lock` is held with flock(2) from before the folder bears its name
until the process ends, however it ends. Whoever gets the lock of a folder may adopt it.
What cannot be read is moved to `{spool_dir}/rejected/` and never deleted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK_NAME = "lock"
REJECTED_NAME = "rejected"
_SEGMENT_SUFFIX = ".wal"
_UNBORN_SUFFIX = ".new"


def segment_path(folder: Path, number: int) -> Path:
    """Return the path of a writer's segment; names sort in the order of writing."""
    return folder / f"{number:010d}{_SEGMENT_SUFFIX}"


def segments_in(folder: Path) -> list[Path]:
    """Return a writer's segment files in the order in which they were written."""
    return sorted(folder.glob(f"*{_SEGMENT_SUFFIX}"))


def claim_folder(folder: Path) -> int:
    """Make a new writer's folder, locked; returns the lock's file descriptor.

    The folder takes its name only once the lock is held, so that nobody adopts it between.
    """
    unborn = folder.with_name(folder.name + _UNBORN_SUFFIX)
    unborn.mkdir(mode=0o700, parents=True)
    lock_fd = os.open(unborn / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unborn.rename(folder)
    except BaseException:
        os.close(lock_fd)
        raise
    return lock_fd


def adopt_folder(folder: Path) -> int | None:
    """Lock a dead writer's folder; None when its writer lives or somebody was faster."""
    try:
        lock_fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock_fd)
        return None
    return lock_fd


def writer_folders(directory: Path) -> Iterator[Path]:
    """Yield the folders of all writers, dead or alive, oldest first."""
    if not directory.is_dir():
        return
    found = [
        path
        for path in directory.iterdir()
        if path.is_dir() and path.name != REJECTED_NAME and path.suffix != _UNBORN_SUFFIX
    ]
    yield from sorted(found, key=_age)


def set_aside(segment: Path) -> Path:
    """Move a segment that cannot be read whole to where people find it; returns its place."""
    rejected = segment.parent.parent / REJECTED_NAME
    rejected.mkdir(mode=0o700, exist_ok=True)
    target = rejected / f"{segment.parent.name}-{segment.name}"
    segment.rename(target)
    return target


def remove_folder(folder: Path) -> None:
    """Remove a writer's folder if no segment is left in it."""
    if segments_in(folder):
        return
    (folder / LOCK_NAME).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        return  # Somebody put a file there; it is not ours to delete.


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
