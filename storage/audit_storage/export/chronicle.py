"""The whole trail as one stream: hot and cold together, in order, each entry once.

The export reads it. Frames hold the entry's fields in the lake's types, in (timestamp,
entry_id) order within and between them; memory is bounded by one frame of either tier and by
the ids of one day, whatever the trail's length.

An archive may move a day from Redis to the lake while it is read. So of each day that Redis
holds, the entries that the lake lacks are copied aside first and the lake is read after,
leaving out copies that have arrived there meanwhile: an entry may move, it cannot slip through.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import date, datetime
from tempfile import SpooledTemporaryFile
from typing import IO

import msgspec
import polars as pl

from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import TRAIL_ORDER, to_frame
from audit_storage.layout import ONE_MICROSECOND, span_of_day
from claude_max_audit.entry import ENTRY_FIELDS, AuditEntry, decode_entry
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span

COPY_MEMORY_BYTES = 32 * 1024 * 1024
"""Most of a day's unarchived entries held in memory; more of them go to a temporary file."""

HOT_CHUNK = 2_000
"""Entries per answer of Redis: a few megabytes, so that no one waits behind an export."""


def read_chronicle(
    lake: Lake, hot: HotStore | None, query: Query
) -> Generator[pl.DataFrame, None, None]:
    """Give every entry that matches `query` (its words are ignored), oldest first.

    Raises what the stores raise; a caller that did not see the end has seen a part only.
    """
    start = query.span.start
    for day in _days(hot, query.span):
        assert hot is not None  # no days without it
        whole = span_of_day(day)
        if start < whole.start:
            yield from _cold(lake, query.within(Span(start, whole.start - ONE_MICROSECOND)))
        of_day = Span(max(start, whole.start), min(query.span.end, whole.end))
        yield from _read_day(lake, hot, query.within(of_day), day)
        if whole.end >= query.span.end:
            return
        start = whole.end + ONE_MICROSECOND
    yield from _cold(lake, query.within(Span(start, query.span.end)))


def _days(hot: HotStore | None, span: Span) -> list[date]:
    if hot is None:
        return []
    first, last = span.start.date(), span.end.date()
    return sorted(day for day in hot.days() if first <= day <= last)


def _cold(lake: Lake, query: Query) -> Iterator[pl.DataFrame]:
    for frame in lake.scan(query):
        yield frame.select(ENTRY_FIELDS)


def _read_day(lake: Lake, hot: HotStore, query: Query, day: date) -> Iterator[pl.DataFrame]:
    archived = lake.day_ids(day)
    if archived.issuperset(hot.day_ids(day)):
        yield from _cold(lake, query)
        return
    with HotCopy() as copy:
        for entries in hot.scan(query, chunk=HOT_CHUNK):
            copy.add([entry for entry in entries if entry.entry_id not in archived])
        # From here on, what leaves Redis is in the copy, and perhaps in the lake as well.
        yield from merge_ordered(_cold(lake, query), copy.frames(lake.day_ids(day)))


class HotCopy:
    """Holds entries that come newest first, and gives them back oldest first."""

    def __init__(self) -> None:
        self._file: IO[bytes] = SpooledTemporaryFile(COPY_MEMORY_BYTES)  # noqa: SIM115
        self._ends: list[int] = [0]

    def __enter__(self) -> HotCopy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, newest_first: list[AuditEntry]) -> None:
        """Copy entries that are older than all those before."""
        lines = [msgspec.json.encode(entry) for entry in reversed(newest_first)]
        self._file.write(b"\n".join(lines))
        self._ends.append(self._file.tell())

    def frames(self, leave_out: set[str]) -> Iterator[pl.DataFrame]:
        """Give the entries but those with an id of `leave_out`, oldest first."""
        for start, end in zip(reversed(self._ends[:-1]), reversed(self._ends[1:]), strict=True):
            self._file.seek(start)
            entries = [decode_entry(line) for line in self._file.read(end - start).splitlines()]
            kept = [entry for entry in entries if entry.entry_id not in leave_out]
            if kept:
                yield to_frame(kept, snapshot="").select(ENTRY_FIELDS)


def merge_ordered(
    one: Iterator[pl.DataFrame], other: Iterator[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """Merge two streams of frames, each in trail order; holds one frame of each."""
    left, right = _next(one), _next(other)
    while left is not None and right is not None:
        bound = min(_last(left), _last(right))
        (left_now, left_later), (right_now, right_later) = _cut(left, bound), _cut(right, bound)
        yield pl.concat([left_now, right_now]).sort(TRAIL_ORDER)
        left = left_later if left_later.height else _next(one)
        right = right_later if right_later.height else _next(other)
    for frame, rest in ((left, one), (right, other)):
        if frame is not None:
            yield frame
            yield from rest


def _next(frames: Iterator[pl.DataFrame]) -> pl.DataFrame | None:
    return next((frame for frame in frames if frame.height), None)


def _last(frame: pl.DataFrame) -> tuple[datetime, str]:
    moment, entry_id = frame.select(TRAIL_ORDER).row(-1)
    return moment, entry_id


def _cut(frame: pl.DataFrame, bound: tuple[datetime, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    moment, entry_id = bound
    at, key = pl.col("timestamp"), pl.col("entry_id")
    rows = frame.filter((at < moment) | ((at == moment) & (key <= entry_id))).height
    return frame.head(rows), frame.slice(rows)
