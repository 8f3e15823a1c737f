"""What lies in a spool folder: each writer's entries, whether it lives, and what was set aside.

For people who look after a machine: `claude-audit status` shows it. Reads only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from claude_max_audit.spool.folder import (
    REJECTED_NAME,
    adopt_folder,
    segments_in,
    writer_folders,
)
from claude_max_audit.spool.segment import Unfit, number_of, read_frames
from claude_max_audit.spool.tally import Tally, tally_of

Held = Callable[[str], int]
"""Tells the newest number of a writer that the store holds; 0: none."""


@dataclass(frozen=True, slots=True)
class SpooledWriter:
    """One writer's folder. `waiting` are the entries that the store has not answered for.

    None where the store was not there to be asked: what it answered for stays a while too.
    `tally` then goes by what the writer knew; it is of the writer's whole life.
    """

    writer_id: str
    alive: bool
    entries: int
    waiting: int | None
    bytes: int
    tally: Tally


class FolderTally(NamedTuple):
    """What a writer noted, and the bytes of its segments, reserved ones included."""

    tally: Tally
    bytes: int


@dataclass(frozen=True, slots=True)
class SpoolSurvey:
    """All writers of a folder, and the segments that could not be read and were set aside."""

    writers: tuple[SpooledWriter, ...]
    rejected: tuple[str, ...]

    @property
    def entries(self) -> int:
        """Entries that are kept here, answered for or not."""
        return sum(writer.entries for writer in self.writers)

    @property
    def waiting(self) -> int | None:
        """Entries that no store has answered for; None where it was not asked."""
        known = [writer.waiting for writer in self.writers if writer.waiting is not None]
        return sum(known) if len(known) == len(self.writers) else None

    @property
    def tally(self) -> Tally:
        """Calls that were accepted, and where they are: of all writers with a folder here."""
        sums = [sum(numbers) for numbers in zip(*(w.tally for w in self.writers), strict=True)]
        return Tally(*sums) if sums else Tally(0, 0, 0)

    @property
    def bytes(self) -> int:
        """Bytes on the disk, reserved ones included."""
        return sum(writer.bytes for writer in self.writers)


def survey_spool(directory: Path, held: Held | None) -> SpoolSurvey:
    """Look through a spool folder; one that does not exist is empty. `held` asks the store."""
    return SpoolSurvey(
        tuple(_survey(folder, held) for folder in writer_folders(directory)),
        rejected_segments(directory),
    )


def survey_tallies(directory: Path) -> dict[str, FolderTally]:
    """Each writer's noted numbers and its folder's bytes, by writer id.

    For scrapes: it opens no segment and takes no lock, so it costs the same however much lies
    there, and the numbers are at most half a second old.
    """
    found = {}
    for folder in writer_folders(directory):
        try:
            size = sum(segment.stat().st_size for segment in segments_in(folder))
            found[folder.name] = FolderTally(tally_of(folder), size)
        except FileNotFoundError:  # removed meanwhile: all is in the store
            continue
    return found


def rejected_segments(directory: Path) -> tuple[str, ...]:
    """Names of the segments that could not be read and were set aside."""
    rejected = directory / REJECTED_NAME
    return tuple(sorted(path.name for path in rejected.iterdir())) if rejected.is_dir() else ()


def _survey(folder: Path, held: Held | None) -> SpooledWriter:
    answered = None if held is None else held(folder.name)
    entries = waiting = size = newest = 0
    for segment in segments_in(folder):
        try:
            size += segment.stat().st_size
            numbers = [number_of(f) for f in read_frames(segment) if not isinstance(f, Unfit)]
        except FileNotFoundError:  # released meanwhile: the store has it
            continue
        entries += len(numbers)
        newest = max(newest, *numbers, 0)
        waiting += sum(number > (answered or 0) for number in numbers)
    known = None if answered is None and entries > 0 else waiting
    return SpooledWriter(
        folder.name, _is_alive(folder), entries, known, size, _tally(folder, newest, known)
    )


def _tally(folder: Path, newest: int, waiting: int | None) -> Tally:
    """What the writer noted, and what its segments and the store know beyond that."""
    try:
        noted = tally_of(folder)
    except FileNotFoundError:  # removed meanwhile: all is in the store
        noted = Tally(newest, newest, 0)
    accepted = max(noted.accepted, newest)
    written = noted.written if waiting is None else accepted - noted.dropped - waiting
    return noted._replace(accepted=accepted, written=max(written, 0))


def _is_alive(folder: Path) -> bool:
    """Say whether a process holds the writer's lock."""
    lock_fd = adopt_folder(folder)
    if lock_fd is None:
        return True
    os.close(lock_fd)
    return False
