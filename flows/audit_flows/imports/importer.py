"""The import: every event of every file under a path becomes one entry, once.

Reads line by line and records as it reads, so files may be larger than memory. Ids come
from the events, and what the stores or this import already have is not recorded again: an
import that was stopped is simply started again. What the auditor refuses is passed over
with its reason; no failure of a store is swallowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from audit_flows.imports.claude_code import read_transcript
from audit_flows.imports.delegation import DelegationIndex
from audit_flows.imports.discovery import Discovery, FileForm, SourceFile, discover
from audit_flows.imports.draft import Draft, Found
from audit_flows.imports.event_time import StandInClock, stand_in_clock
from audit_flows.imports.line_reader import read_lines
from audit_flows.imports.neutral import read_neutral
from audit_flows.imports.report import ImportReport, Tally
from claude_max_audit.vocabulary import AuditEntryType

LINES_AT_ONCE = 500
"""Lines between two questions to the stores: one round trip each, and progress to see."""

NO_KNOWN_FORM = "no event of a known form"
REPEATED = "repeats an event of this import (same id)"

Known = Callable[[Sequence[str]], set[str]]
"""Tells which of these entry ids the stores already have, hot and cold."""

Progress = Callable[[int, int, int], None]
"""Is told bytes done, bytes in all, and entries recorded so far."""


class Records(Protocol):
    """What an import needs of `auditor.sync`."""

    def record(self, /, entry_type: AuditEntryType, agent_id: str, **fields: Any) -> str:
        """Take one entry; raises `TypeError` or `ValueError` naming what does not fit."""


class Auditor(Protocol):
    """What an import needs of the auditor."""

    @property
    def sync(self) -> Records:
        """The calls for plain threads."""


def read_path(
    path: str | Path, *, untimed_from: datetime | None = None
) -> Iterator[tuple[SourceFile, Found]]:
    """Yield what every line of every file under `path` gives, without recording anything."""
    yield from _read(discover(Path(path)), stand_in_clock(untimed_from), {})


def import_path(
    auditor: Auditor,
    path: str | Path,
    *,
    known: Known,
    untimed_from: datetime | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Record every event under `path` (a file or a folder) that is not there yet.

    `untimed_from` is the instant from which events without a time follow each other in the
    files' order; without it they get the time of the import. Returns when the auditor has
    accepted everything; flush it to have everything in the stores. Raises
    `FileNotFoundError` when `path` is not there, and what the auditor or `known` raise when
    a store fails; then nothing is lost, and the same call goes on where it stopped.
    """
    found = discover(Path(path))
    run = _Import(auditor, known, found, progress)
    chunk: list[tuple[SourceFile, Found]] = []
    for item in _read(found, stand_in_clock(untimed_from), run.tally.unreadable):
        chunk.append(item)
        if len(chunk) >= LINES_AT_ONCE:
            run.take(chunk)
            chunk = []
    run.take(chunk)
    return run.tally.report()


class _Import:
    """One run: the auditor, the ids seen in it, and the counts."""

    def __init__(
        self, auditor: Auditor, known: Known, found: Discovery, progress: Progress | None
    ) -> None:
        self.tally = Tally(found.left_alone, found.unreadable)
        self.tally.files = len(found.files)
        self.tally.empty_files = sum(file.form is FileForm.EMPTY for file in found.files)
        self._record = auditor.sync.record
        self._known = known
        self._progress = progress
        self._size = found.size
        self._done = 0
        self._seen: set[int] = set()

    def take(self, chunk: Sequence[tuple[SourceFile, Found]]) -> None:
        """Record the new entries of some lines and count all of them."""
        ids = [draft.entry_id for _, found in chunk for draft in found.drafts]
        there = self._known(ids) if ids else set()
        for file, found in chunk:
            self._take_line(f"{file.name}:{found.line}", found, there)
            self._done += found.size
        if self._progress is not None:
            done = min(self._done, self._size)
            self._progress(done, self._size, self.tally.entries.total())

    def _take_line(self, place: str, found: Found, there: set[str]) -> None:
        if found.passed_over is not None:
            self.tally.passed_over(found.passed_over, place)
            return
        fresh = [draft for draft in found.drafts if self._first_time(draft)]
        faults = [fault for draft in fresh if (fault := self._keep(draft, found, there))]
        if len(faults) < len(fresh):
            self.tally.gave_entries()
        elif faults:
            self.tally.passed_over(f"refused: {faults[0].split(' ')[0]}", place, faults[0])
        else:
            self.tally.passed_over(REPEATED, place)

    def _first_time(self, draft: Draft) -> bool:
        """Say whether this import has not met the event yet; about 100 bytes an entry."""
        number = int(draft.entry_id.replace("-", ""), 16)
        if number in self._seen:
            return False
        self._seen.add(number)
        return True

    def _keep(self, draft: Draft, found: Found, there: set[str]) -> str | None:
        """Record a draft unless it is there; return why the auditor refuses it, if it does."""
        if draft.entry_id in there:
            self.tally.already_there += 1
        else:
            try:
                self._record(**draft.arguments())
            except (TypeError, ValueError) as refused:
                return str(refused)
            self.tally.entries[draft.entry_type.value] += 1
        if found.timed:
            self.tally.timed(draft.timestamp)
        else:
            self.tally.untimed += 1
        return None


def _read(
    discovery: Discovery, clock: StandInClock, unreadable: dict[str, str]
) -> Iterator[tuple[SourceFile, Found]]:
    """Yield all lines; a file that fails midway goes into `unreadable` with the reason."""
    index = DelegationIndex()
    for file in discovery.files:
        try:
            for found in _lines_of(file, clock, index):
                yield file, found
        except OSError as fault:
            unreadable[file.name] = fault.strerror or str(fault)


def _lines_of(file: SourceFile, clock: StandInClock, index: DelegationIndex) -> Iterator[Found]:
    if file.form is FileForm.NEUTRAL:
        return read_neutral(file.path, clock)
    if file.form is FileForm.TRANSCRIPT:
        return read_transcript(file.path, clock, index)
    return (
        Found(line.number, line.size, passed_over=line.fault or NO_KNOWN_FORM)
        for line in read_lines(file.path)
    )
