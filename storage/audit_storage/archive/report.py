"""What the archive says it did, and the one finding that stops it for good. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from audit_storage.archive.gaps import Gap
from claude_max_audit.errors import TerminalError


class LakeDamagedError(TerminalError):
    """Archived rows of a day do not give the bytes that their hashes were made of."""

    def __init__(self, uri: str, day: date, entry_id: str) -> None:
        self.uri = uri
        self.day = day
        self.entry_id = entry_id
        super().__init__(
            f"the lake at {uri} holds {entry_id} of {day} with other contents than its "
            "entry_hash says; nothing of the day was released from Redis. Run "
            "`claude-audit verify`, and restore the day's files before archiving again."
        )


@dataclass(frozen=True, slots=True)
class DayReport:
    """What was done for one day. `bytes` and `files` are of the new commit; `already` counts
    entries that the lake held before; `quarantined` all bad ones of the day that Redis held.

    `version` and `merkle_root` (hex) are None when nothing new was committed. `index_error`
    tells why the semantic index lacks the day; it is rebuilt from the lake. `gaps` are numbers
    that the day's writers used and the lake lacks, looked for when something new came.
    """

    day: date
    archived: int = 0
    already: int = 0
    quarantined: int = 0
    bytes: int = 0
    files: int = 0
    merkle_root: str | None = None
    version: int | None = None
    snapshot: str | None = None
    released: int = 0
    seconds: float = 0.0
    index_error: str | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What one run did, day by day, oldest first; without days there was nothing to do."""

    days: tuple[DayReport, ...] = ()

    @property
    def archived(self) -> int:
        """Entries that this run brought to the lake."""
        return sum(day.archived for day in self.days)

    @property
    def quarantined(self) -> int:
        """Entries that were found bad."""
        return sum(day.quarantined for day in self.days)

    @property
    def bytes(self) -> int:
        """Bytes that this run wrote to the lake."""
        return sum(day.bytes for day in self.days)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Numbers of writers that the lake lacks, each gap once."""
        return tuple(dict.fromkeys(gap for day in self.days for gap in day.gaps))

    @property
    def index_behind(self) -> tuple[date, ...]:
        """Days that the semantic index lacks."""
        return tuple(day.day for day in self.days if day.index_error is not None)
