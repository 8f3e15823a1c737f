"""Numbers of writers that no entry has and nothing explains: entries that disappeared.

Every writer numbers its entries from 1 without a gap. A number that the lake lacks between others
may wait in Redis, be in quarantine, have been purged, or be told by an `audit_gap` entry of its
writer; only what is none of these is missing. Called by the quality checks; reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Protocol

import msgspec
import polars as pl

from audit_storage.archive.gaps import Gap, gaps_of_day
from audit_storage.lake.delta_log import answering
from audit_storage.lake.view import LakeView
from claude_max_audit.query import Query

_TOLD_GAPS = Query({"event_type": ("audit_gap",)})
_DECODE = msgspec.json.Decoder().decode


class HotNumbers(Protocol):
    """What is asked of Redis; `HotStore` is one."""

    def days(self) -> dict[date, int]:
        """Return the entries of each UTC day that has any."""

    def scan_day(self, day: date) -> Iterator[list[bytes]]:
        """Give the JSON texts of a UTC day's entries."""


def missing_numbers(
    view: LakeView,
    day: date,
    hot: HotNumbers | None,
    rejected: Iterable[bytes],
    purged: Sequence[date],
) -> tuple[Gap, ...]:
    """Return what is missing between the numbers of those who wrote on a UTC day.

    `rejected` are the texts in quarantine, `purged` the days of which entries were purged.
    Without Redis, what waits there counts as missing.
    """
    gaps = gaps_of_day(view, day)
    if not gaps:
        return ()
    writers = {gap.writer_id for gap in gaps}
    writers -= _writers_near(view, writers, purged)
    ranges: dict[str, list[tuple[int, int]]] = {writer: [] for writer in writers}
    for writer, first, last in (
        *_told(view),
        *_numbers(rejected),
        *(_waiting(view, hot) if hot is not None and writers else ()),
    ):
        if writer in ranges:
            ranges[writer].append((first, last))
    return tuple(
        rest
        for gap in gaps
        if gap.writer_id in writers
        for rest in _without(gap, sorted(ranges[gap.writer_id]))
    )


def count_of(gaps: Iterable[Gap]) -> int:
    """Return how many numbers the gaps have together."""
    return sum(gap.last_seq - gap.first_seq + 1 for gap in gaps)


def _writers_near(view: LakeView, writers: set[str], purged: Sequence[date]) -> set[str]:
    """Return those who wrote around a purged day: what they lack may be what was purged."""
    if not purged or not writers:
        return set()
    day = pl.col("timestamp").dt.date()
    rows = view.rows_of(view.files).filter(pl.col("writer_id").is_in(list(writers)))
    with answering(view.uri):
        spans = rows.group_by("writer_id").agg(day.min().alias("a"), day.max().alias("b")).collect()
    near = timedelta(days=1)
    return {
        writer
        for writer, first, last in spans.rows()
        if any(first - near <= one <= last + near for one in purged)
    }


def _told(view: LakeView) -> Iterator[tuple[str, int, int]]:
    for rows in view.scan(_TOLD_GAPS):
        for metadata in rows.get_column("metadata"):
            details = _DECODE(metadata).get("details")
            try:
                yield details["writer_id"], details["first_seq"], details["last_seq"]
            except (TypeError, KeyError):
                continue  # an entry of that name which the library did not write


def _waiting(view: LakeView, hot: HotNumbers) -> Iterator[tuple[str, int, int]]:
    archived = view.days()
    for day, entries in hot.days().items():
        if entries > archived.get(day, 0):
            for texts in hot.scan_day(day):
                yield from _numbers(texts)


def _numbers(texts: Iterable[bytes]) -> Iterator[tuple[str, int, int]]:
    for text in texts:
        try:
            entry: Any = _DECODE(text)
            yield entry["writer_id"], entry["writer_seq"], entry["writer_seq"]
        except (msgspec.DecodeError, TypeError, KeyError):
            continue  # unreadable: it explains nothing


def _without(gap: Gap, ranges: Sequence[tuple[int, int]]) -> Iterator[Gap]:
    start = gap.first_seq
    for first, last in ranges:
        if last < start or first > gap.last_seq:
            continue
        if first > start:
            yield Gap(gap.writer_id, start, first - 1)
        start = max(start, last + 1)
    if start <= gap.last_seq:
        yield Gap(gap.writer_id, start, gap.last_seq)
