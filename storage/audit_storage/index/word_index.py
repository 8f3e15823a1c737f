"""The word index: one SQLite file of words per month, in one folder.

Called by `index`. Writers of a month exclude each other by the month's lock; readers in any
process see it before or after a write, never in between. A file that cannot be read is
damage to a view, raised as `MonthDamagedError`; the cure is to drop the month and add it
again from the lake.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from audit_storage.index.month import (
    MONTH_PATTERN,
    MonthDamagedError,
    MonthUnavailableError,
    month_lock,
)
from audit_storage.index.word_table import WordRow, WordTable

BUSY_SECONDS: Final = 30.0
"""How long a reader waits for a writer's commit, and a commit for the readers before it."""

_SUFFIX: Final = ".sqlite"
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""SQLite's result codes that tell of the disk or of other users, not of the file's bytes."""


class WordIndex:
    """The months' files in `folder`, each opened for the one call that needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def months(self) -> list[str]:
        """Return the months that have a file, in order."""
        names = (path.stem for path in self._folder.glob(f"*{_SUFFIX}"))
        return sorted(name for name in names if MONTH_PATTERN.fullmatch(name))

    def add(self, month: str, rows: Sequence[WordRow]) -> int:
        """Index the rows whose ids the month does not have yet; return how many were new."""
        with month_lock(self._folder, month), self._opened(month, create=True) as table:
            return table.add(rows)

    @contextmanager
    def reading(self, month: str) -> Iterator[WordTable]:
        """Open a month for reading; an absent one is empty. Keep it open for short."""
        with self._opened(month) as table:
            yield table

    def forget(self, month: str, ids: Collection[str]) -> int:
        """Erase these entries from the month's file; return how many it had."""
        if month not in self.months():
            return 0
        with month_lock(self._folder, month), self._opened(month) as table:
            return table.forget(ids)

    def drop(self, month: str) -> None:
        """Remove the month's file, damaged or not."""
        with month_lock(self._folder, month):
            for suffix in (_SUFFIX, f"{_SUFFIX}-journal"):
                (self._folder / f"{month}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _opened(self, month: str, *, create: bool = False) -> Iterator[WordTable]:
        path = self._folder / f"{month}{_SUFFIX}"
        place = str(path) if create or path.exists() else ":memory:"
        try:
            with closing(sqlite3.connect(place, timeout=BUSY_SECONDS)) as connection:
                table = WordTable(connection)
                if create or place == ":memory:":
                    table.create()
                yield table
        except sqlite3.DatabaseError as failure:
            passing = getattr(failure, "sqlite_errorcode", 0) & 0xFF in _PASSING
            kind = MonthUnavailableError if passing else MonthDamagedError
            raise kind(month, failure) from failure
