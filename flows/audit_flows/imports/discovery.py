"""Which files under a path hold what: each is told by its first readable lines.

Nothing is guessed from names but the ending: in a folder, `.jsonl` files are looked into
and every other file is left alone and counted. A file given by its own path is always
looked into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from audit_flows.imports.claude_code import BOOKKEEPING, SPEAKING
from audit_flows.imports.line_reader import read_lines
from audit_flows.imports.neutral import MARKS

ENDING = ".jsonl"
_LINES_LOOKED_AT = 50
"""Lines after which a file counts as of no known form."""


class FileForm(StrEnum):
    """What the lines of a file are."""

    NEUTRAL = "neutral events"
    TRANSCRIPT = "Claude Code transcript"
    EMPTY = "empty"
    UNKNOWN = "no known form"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to import: where it is, what it is called in reports, and its bytes."""

    path: Path
    name: str
    form: FileForm
    size: int


@dataclass(frozen=True, slots=True)
class Discovery:
    """What is under a path: files to read in their order, and those that are not."""

    files: tuple[SourceFile, ...]
    left_alone: int
    unreadable: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of all files to read."""
        return sum(file.size for file in self.files)


def discover(path: Path) -> Discovery:
    """Look at `path`, a file or a folder with everything below it.

    Files come in the order of their paths, so that every import takes the same. Raises
    `FileNotFoundError` when there is nothing at `path`; a single file that cannot be read
    is named in `unreadable`, with the reason.
    """
    if not path.exists():
        raise FileNotFoundError(f"nothing to import: {path} does not exist")
    files: list[SourceFile] = []
    left_alone = 0
    unreadable: dict[str, str] = {}
    for candidate in _candidates(path):
        if candidate.suffix != ENDING and candidate != path:
            left_alone += 1
            continue
        name = candidate.name if candidate == path else str(candidate.relative_to(path))
        try:
            files.append(
                SourceFile(candidate, name, _form_of(candidate), candidate.stat().st_size)
            )
        except OSError as fault:
            unreadable[name] = fault.strerror or str(fault)
    return Discovery(tuple(files), left_alone, unreadable)


def _candidates(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from sorted(below for below in path.rglob("*") if not below.is_dir())


def _form_of(path: Path) -> FileForm:
    form = FileForm.EMPTY
    for line in read_lines(path):
        if line.event is not None and (known := _form_of_event(line.event)):
            return known
        form = FileForm.UNKNOWN
        if line.number >= _LINES_LOOKED_AT:
            break
    return form


def _form_of_event(event: dict[str, Any]) -> FileForm | None:
    if event.keys() >= MARKS:
        return FileForm.NEUTRAL
    kind = event.get("type")
    if kind in SPEAKING or kind in BOOKKEEPING:
        return FileForm.TRANSCRIPT
    return None
