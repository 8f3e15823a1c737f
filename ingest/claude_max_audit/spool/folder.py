"""Folders of the spool: one a writer, locked while its process lives.

`{spool_dir}/{writer_id}/lock` is held with flock(2) from before the folder bears its name
until the process ends, however it ends. Whoever gets the lock of a folder may adopt it.
What cannot be read is moved to `{spool_dir}/rejected/` and never deleted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time

from claude_max_audit.spool.segment import DONE_SUFFIX, OPEN_SUFFIX

LOCK_NAME = "lock"
REJECTED_NAME = "rejected"
_UNBORN_SUFFIX = ".new"
_BIRTH_SECONDS = 60.0


def segment_path(folder: Path, number: int) -> Path:
    """Return the path of a writer's segment; names sort in the order of writing."""
    return folder / f"{number:010d}{OPEN_SUFFIX}"


def segments_in(folder: Path) -> list[Path]:
    """Return a writer's segment files in the order in which they were written."""
    return sorted(p for p in folder.iterdir() if p.suffix in (OPEN_SUFFIX, DONE_SUFFIX))


def is_settled(segment: Path, seconds: float) -> bool:
    """Whether the store answered for a segment at least `seconds` ago.

    After a step of the clock it may look younger or older than it is; what looks younger
    than now counts as old, so that nothing stays for ever.
    """
    if segment.suffix != DONE_SUFFIX:
        return False
    return not 0 <= time() - segment.stat().st_mtime < seconds


def settle_file(segment: Path) -> Path:
    """Name a dead writer's segment as one that the store answered for, now."""
    done = segment.with_suffix(DONE_SUFFIX)
    segment.rename(done)
    os.utime(done)
    return done


def rests(folder: Path, seconds: float) -> bool:
    """Whether all in a folder is answered for, some of it less than `seconds` ago."""
    segments = segments_in(folder)
    return all(path.suffix == DONE_SUFFIX for path in segments) and not all(
        is_settled(path, seconds) for path in segments
    )


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
        with suppress(OSError):
            remove_folder(unborn)
        raise
    return lock_fd


def remove_unborn(directory: Path) -> None:
    """Remove the folders of writers that were killed before theirs had its name, or an entry."""
    for folder in directory.glob(f"*{_UNBORN_SUFFIX}"):
        if time() - _age(folder) > _BIRTH_SECONDS and (lock_fd := adopt_folder(folder)):
            try:
                remove_folder(folder)
            finally:
                os.close(lock_fd)


def sync_folder(folder: Path) -> None:
    """Put the names of a writer's segments onto the disk, and the folder's own."""
    for path in (folder, folder.parent):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


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
    with suppress(OSError):
        (folder / LOCK_NAME).unlink(missing_ok=True)
    # Killed here: the next process finds a folder without a lock.
    remove_husk(folder)


def remove_husk(folder: Path) -> None:
    """Remove a folder whose lock is gone already: nobody writes there, and nobody can adopt it.

    One that holds a file stays, because that is not ours to delete.
    """
    if not (folder / LOCK_NAME).exists():
        with suppress(OSError):
            folder.rmdir()


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
