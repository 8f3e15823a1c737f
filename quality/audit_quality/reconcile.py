"""Compares what the stores hold of each day: Redis, the lake, the index.

A simple count, to be looked at every night: it changes nothing and reads no entry. Equal counts
are no proof (that is what `verify` is for), unequal ones are always worth a look.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from audit_storage.layout import month_of


@dataclass(frozen=True, slots=True)
class DayTally:
    """Entries of one UTC day in each store; None where a store was not asked."""

    day: date
    hot: int | None
    lake: int
    index: int | None

    @property
    def findings(self) -> tuple[str, ...]:
        """What does not agree, in words. A day whose hot copies have expired agrees."""
        found = []
        if self.hot and self.hot > self.lake:
            found.append(f"{self.hot - self.lake:,} entries wait in Redis for the archive")
        if self.hot and self.hot < self.lake:
            found.append(f"Redis holds only {self.hot:,} of {self.lake:,} archived entries")
        if self.index is not None and self.index < self.lake:
            found.append(f"the index lacks {self.lake - self.index:,} entries")
        return tuple(found)


class HotDays(Protocol):
    """What is asked of Redis; `HotStore` is one."""

    def days(self) -> dict[date, int]:
        """Return the entries of each UTC day that has any."""


class LakeDays(Protocol):
    """What is asked of the lake; `Lake` is one."""

    def days(self) -> dict[date, int]:
        """Return the entries of each UTC day that has any."""

    def day_ids(self, day: date) -> set[str]:
        """Return the ids of a day."""


class IndexedMonths(Protocol):
    """What is asked of the index; `EntryIndex` is one."""

    def counts(self) -> dict[str, int]:
        """Return the entries of each month that has any."""

    def missing(self, month: str, entry_ids: Collection[str]) -> set[str]:
        """Return those ids that a month lacks."""


def reconcile(
    lake: LakeDays, hot: HotDays | None, index: IndexedMonths | None
) -> tuple[DayTally, ...]:
    """Return the counts of every day that Redis or the lake holds, oldest first.

    The index counts by month, so its days are looked at only in months where it holds fewer
    than the lake. Raises what the stores raise when they cannot be read.
    """
    archived = lake.days()
    held = {} if hot is None else hot.days()
    behind = _months_behind(archived, index)
    return tuple(
        DayTally(
            day=day,
            hot=None if hot is None else held.get(day, 0),
            lake=archived.get(day, 0),
            index=_indexed(lake, index, day, archived.get(day, 0), behind),
        )
        for day in sorted({*archived, *held})
    )


def _months_behind(archived: dict[date, int], index: IndexedMonths | None) -> set[str]:
    if index is None:
        return set()
    expected: dict[str, int] = {}
    for day, rows in archived.items():
        expected[month_of(day)] = expected.get(month_of(day), 0) + rows
    counts = index.counts()
    return {month for month, rows in expected.items() if counts.get(month, 0) < rows}


def _indexed(
    lake: LakeDays, index: IndexedMonths | None, day: date, rows: int, behind: set[str]
) -> int | None:
    if index is None:
        return None
    if not rows or month_of(day) not in behind:
        return rows
    return rows - len(index.missing(month_of(day), lake.day_ids(day)))
