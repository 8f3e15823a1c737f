"""The calendar months (UTC) into which the index is cut: their names, locks and damage.

A month is written, rebuilt and dropped as one. Writers of a month exclude each other, and
readers of its vectors, in all processes; a lock dies with the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from claude_max_audit.errors import AuditError, TransientError
from claude_max_audit.query import Span

MONTH_PATTERN: Final = re.compile(r"\d{4}-\d{2}")


class MonthDamagedError(AuditError):
    """A month of the index cannot be read. Nothing is lost: it can be rebuilt from the lake."""

    def __init__(self, month: str, reason: object) -> None:
        self.month = month
        self.reason = str(reason)
        super().__init__(
            f"the index of {month} cannot be read ({reason}); the trail has lost nothing: "
            "run the job reindex, which rebuilds it from the lake"
        )


class MonthUnavailableError(TransientError):
    """A month of the index could not be used now: its disk is full, locked or away."""

    def __init__(self, month: str, reason: object) -> None:
        self.month = month
        self.reason = str(reason)
        super().__init__(f"the index of {month} cannot be used now: {reason}")


def month_of(moment: datetime) -> str:
    """Return the month of an aware UTC datetime, as "YYYY-MM"."""
    return f"{moment.year:04d}-{moment.month:02d}"


def months_within(span: Span, months: Iterable[str]) -> list[str]:
    """Return those of `months` that share an instant with `span`, in order."""
    first, last = month_of(span.start), month_of(span.end)
    return sorted(month for month in months if first <= month <= last)


@contextmanager
def month_lock(folder: Path, month: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the month's lock in `folder`, alone or among readers; waits for it.

    Threads of one process exclude each other too. The lock's file stays: removing it would
    let two processes lock two files of one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f".{month}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
