"""Compares what the stores hold of each day: Redis, the lake, the index; names what differs.

Looked at every night, and by hand. It changes nothing. At night it compares ids and reads no
entry; by hand also the bytes of what both Redis and the lake hold. That the lake's entries are
what they were is for `verify` to say. What an archive, a writer or a purge moves meanwhile may
show as a difference; the next look tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from audit_storage.layout import day_is_closed, month_of
from claude_max_audit.entry import decode_entry, entry_hash_of
from claude_max_audit.settings import HOT_STORAGE_DAYS

WAITING = "{:,} entries wait in Redis for the archive"
REDIS_LOST = "Redis lost {:,} archived entries, the lake answers for them"
INDEX_LACKS = "the index lacks {:,} entries, `claude-audit reindex` adds them"
INDEX_FOREIGN = "the index has {:,} entries that the lake has not"
INDEX_STRAY = "the index has {:,} vectors without words"
REDIS_CHANGED = "Redis holds {:,} entries with other bytes than the lake"
"""What may differ: how the words of each difference begin."""

NAMED_IDS = 20
"""Most ids that a difference names, the smallest first; the others are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Entries of one day that one store has and another should have, or should not."""

    what: str
    number: int
    entry_ids: tuple[str, ...]

    def __str__(self) -> str:
        return self.told(NAMED_IDS)

    def told(self, most: int) -> str:
        """Say it in words, with at most so many ids."""
        named = self.entry_ids[:most]
        rest = f" and {self.number - len(named):,} more" if len(named) < self.number else ""
        return f"{self.what.format(self.number)}: {', '.join(named)}{rest}"


@dataclass(frozen=True, slots=True)
class DayTally:
    """Entries of one UTC day in each store (None where a store was not asked), what differs."""

    day: date
    hot: int | None
    lake: int
    index: int | None
    differences: tuple[Difference, ...] = ()

    def differing(self, what: str) -> Difference | None:
        """Return what differs in one way, `WAITING` for one; None where nothing does."""
        return next((one for one in self.differences if one.what.startswith(what)), None)

    @property
    def findings(self) -> tuple[str, ...]:
        """What differs, in words, with the first ids of each."""
        return tuple(map(str, self.differences))


class HotDays(Protocol):
    """What is asked of Redis; `HotStore` is one."""

    def days(self) -> dict[date, int]:
        """Return the entries of each UTC day that has any."""

    def day_ids(self, day: date) -> list[str]:
        """Return the ids of a day."""

    def scan_day(self, day: date) -> Iterator[list[bytes]]:
        """Return the full JSON of a day's entries, some at a time."""


class LakeDays(Protocol):
    """What is asked of the lake; `Lake` is one."""

    def days(self) -> dict[date, int]:
        """Return the entries of each UTC day that has any."""

    def day_ids(self, day: date) -> set[str]:
        """Return the ids of a day."""

    def day_hashes(self, day: date) -> dict[str, str]:
        """Return the `entry_hash` of a day's entries, by id."""


class IndexedMonths(Protocol):
    """What is asked of the index; `EntryIndex` is one."""

    def counts(self) -> dict[str, int]:
        """Return the entries of each month that has any."""

    def ids_by_day(self, month: str) -> dict[date, set[str]]:
        """Return the ids that a month's words hold, by UTC day."""

    def missing(self, month: str, entry_ids: Collection[str]) -> set[str]:
        """Return those ids that a month lacks."""

    def without_words(self, month: str) -> set[str]:
        """Return the ids of which a month has a vector only."""


def reconcile(
    lake: LakeDays,
    hot: HotDays | None,
    index: IndexedMonths | None,
    now: datetime,
    *,
    hot_days: int = HOT_STORAGE_DAYS,
    quarantined: Collection[str] = (),
    thorough: bool = False,
) -> tuple[DayTally, ...]:
    """Return a tally of every day that some store holds, oldest first.

    Redis may lack a day's archived entries once it ended `hot_days` before `now`; entries in
    quarantine wait for no archive. The index is asked for its ids in months whose number
    differs from the lake's, and in every month if `thorough`; then the bytes in Redis are compared
    with the lake's hashes, too. Raises what the stores raise
    when they cannot be read.
    """
    archived = lake.days()
    held = {} if hot is None else hot.days()
    indexed = {} if index is None else dict(_indexed(lake, index, archived, thorough))
    tallies = []
    for day in sorted({*archived, *held, *indexed}):
        in_lake, in_index = archived.get(day, 0), indexed.get(day)
        found = list(in_index.differences if in_index else ())
        if hot is not None:
            expected = not day_is_closed(day, now - timedelta(days=hot_days))
            found = [*_hot_differences(lake, hot, day, expected, quarantined), *found]
            if thorough and day in held and day in archived:
                found += _changed(lake, hot, day)
        tallies.append(
            DayTally(
                day=day,
                hot=None if hot is None else held.get(day, 0),
                lake=in_lake,
                index=None if index is None else in_index.number if in_index else in_lake,
                differences=tuple(found),
            )
        )
    return tuple(tallies)


def _hot_differences(
    lake: LakeDays, hot: HotDays, day: date, expected: bool, quarantined: Collection[str]
) -> Iterator[Difference]:
    """Compare Redis with the lake; `expected` says that Redis should still have the day."""
    in_redis, in_lake = set(hot.day_ids(day)), lake.day_ids(day)
    waiting = in_redis - in_lake - set(quarantined)
    yield from _named(WAITING, waiting)
    if expected:
        gone = in_lake - in_redis
        yield from _named(REDIS_LOST, gone)


def _changed(lake: LakeDays, hot: HotDays, day: date) -> Iterator[Difference]:
    """Compare the bytes of what both hold: those in Redis must give the hash in the lake."""
    hashes = lake.day_hashes(day)
    changed = set()
    for texts in hot.scan_day(day):
        for text in texts:
            try:
                entry = decode_entry(text)
            except ValueError:
                continue  # An unreadable one is among those that wait, or that Redis lost.
            stored = hashes.get(entry.entry_id)
            if stored is not None and entry_hash_of(entry.canonical_bytes()) != stored:
                changed.add(entry.entry_id)
    yield from _named(REDIS_CHANGED, changed)


@dataclass(frozen=True, slots=True)
class _IndexedDay:
    number: int
    differences: tuple[Difference, ...]


def _indexed(
    lake: LakeDays, index: IndexedMonths, archived: Mapping[date, int], thorough: bool
) -> Iterator[tuple[date, _IndexedDay]]:
    """Give the days of those months that are worth looking at, and are not as the lake's."""
    expected: dict[str, int] = {}
    for day, rows in archived.items():
        expected[month_of(day)] = expected.get(month_of(day), 0) + rows
    counts = index.counts()
    for month in sorted({*expected, *counts}):
        if thorough or counts.get(month, 0) != expected.get(month, 0):
            by_day = index.ids_by_day(month)
            days = {day for day in archived if month_of(day) == month} | set(by_day)
            first = min(days, default=date.fromisoformat(f"{month}-01"))
            # A vector does not tell its day: what only has one stands at the month's first.
            stray = index.without_words(month)
            for day in sorted(days | {first} if stray else days):
                found = by_day.get(day, set())
                yield day, _indexed_day(lake, index, day, found, stray if day == first else set())


def _indexed_day(
    lake: LakeDays, index: IndexedMonths, day: date, in_index: set[str], stray: set[str]
) -> _IndexedDay:
    in_lake, month = lake.day_ids(day), month_of(day)
    lacking = index.missing(month, in_lake)
    foreign = in_index - in_lake
    anew = f"`claude-audit reindex --month {month} --rebuild` makes the month anew"
    differences = (
        *_named(INDEX_LACKS, lacking),
        *_named(f"{INDEX_FOREIGN}, {anew}", foreign),
        *_named(f"{INDEX_STRAY}, {anew}", stray),
    )
    return _IndexedDay(len(in_lake) - len(lacking) + len(foreign), differences)


def _named(what: str, entry_ids: Iterable[str]) -> Iterator[Difference]:
    ordered = sorted(entry_ids)
    if ordered:
        yield Difference(what, len(ordered), tuple(ordered[:NAMED_IDS]))
