"""Reads one version of the lake: its files never change, so every answer fits every other.

The log chooses the files, Polars reads just those. Used by `Lake` for questions and by a
`LakeTransaction` for what it must know before it writes. A file that a vacuum took away
meanwhile raises `LakeUnavailableError`; `Lake` then asks a newer view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from datetime import date, datetime

import polars as pl

from audit_storage.lake.delta_log import answering
from audit_storage.lake.lookup import Lookup
from audit_storage.lake.parquet_scan import scan_files
from audit_storage.lake.plan import (
    LakeFile,
    files_for,
    files_for_day,
    files_for_ids,
)
from audit_storage.lake.query import predicate
from audit_storage.lake.schema import FILE_SCHEMA, TRAIL_ORDER, as_frame, entries_of
from audit_storage.layout import ONE_MICROSECOND, span_of_day
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import Query, Span
from claude_max_audit.results import Page

SCAN_ROWS = 50_000
"""Rows in a frame of a scan: about 50 MB of ordinary entries."""

FIRST_FILES = 2
"""Files of which the newest matches are read first: two months hold a page of most questions."""

MANY_ROWS = 2_000
"""Rows beside a page's that are read with it: a few megabytes."""

DayCounts = MutableMapping[str, Mapping[date, int]]
"""File path to rows per UTC day. Files are immutable, so a count once made stays true."""


class LakeView:
    """The lake as of one version; `version` is -1 while there is no table."""

    def __init__(
        self,
        uri: str,
        version: int,
        files: Sequence[LakeFile],
        options: Mapping[str, str],
        day_counts: DayCounts,
        lookup: Lookup | None = None,
    ) -> None:
        self.uri = uri
        self.version = version
        self.files = tuple(files)
        self.options = dict(options)
        self._day_counts = day_counts
        self._lookup = lookup

    def count(self) -> int:
        """Return the number of rows, from the log."""
        return sum(file.rows for file in self.files)

    def days(self, among: Collection[date] | None = None) -> dict[date, int]:
        """Return the exact number of rows of each UTC day that has any, oldest first.

        With `among`, of those days only, and files that hold none of them are not looked at.
        """
        days: dict[date, int] = {}
        for file in self.files:
            if among is not None and not _may_hold(file, among):
                continue
            for day, rows in self._days_of(file).items():
                if among is None or day in among:
                    days[day] = days.get(day, 0) + rows
        return dict(sorted(days.items()))

    def day_ids(self, day: date) -> set[str]:
        """Return the ids of a UTC day's rows."""
        found = self._matches(files_for_day(self.files, day), Query(span=span_of_day(day)))
        return set(self._collect(found.select("entry_id")).get_column("entry_id"))

    def day_hashes(self, day: date) -> dict[str, str]:
        """Return the `entry_hash` of a UTC day's rows, by id."""
        found = self._matches(files_for_day(self.files, day), Query(span=span_of_day(day)))
        return dict(self._collect(found.select("entry_id", "entry_hash")).rows())

    def existing(self, entry_ids: Collection[str]) -> set[str]:
        """Return those of `entry_ids` that the lake holds."""
        found = self._with_ids(self.files, entry_ids).select("entry_id")
        return set(self._collect(found).get_column("entry_id"))

    def find(self, entry_ids: Collection[str]) -> dict[str, AuditEntry]:
        """Return the entries of those of `entry_ids` that the lake holds, by id."""
        rows = self._collect(self._with_ids(self.files, entry_ids))
        return {entry.entry_id: entry for entry in entries_of(rows)}

    def page(self, query: Query, limit: int, offset: int) -> Page:
        """Return one page, newest first by (timestamp, entry_id), and the exact total.

        First the times of the newest matches, which are quickly read; then just the rows
        between the page's first and last time.
        """
        files = self._files_for(query)
        times, total = self._newest_times(files, query, offset + limit)
        of_page = times.slice(offset, limit)
        if not len(of_page):
            return Page([], total)
        span = Span(of_page[-1], of_page[0])
        skip = offset - int((times > span.end).sum())
        near = [file for file in files if file.touches(span)]
        rows = self._matches(near, query.within(span))
        if int((times >= span.start).sum()) > offset + limit + MANY_ROWS:
            rows = self._chosen(rows, skip, limit)  # very many share an instant
            skip = 0
        frame = self._collect(rows).sort(TRAIL_ORDER, descending=True)
        return Page(entries_of(frame.slice(skip, limit)), total)

    def count_matches(self, query: Query) -> int:
        """Return the exact number of rows that match; from the log where it can tell."""
        return self._count(self._files_for(query), query)

    def months_by(self, key: str, query: Query) -> dict[tuple[str, str], int]:
        """Return the exact number of matches of each month and value of a column."""
        counts: dict[tuple[str, str], int] = {}
        files = [file for file in self._files_for(query) if key not in file.empty]
        within = [file for file in files if file.within(query.span)]
        others = [file for file in files if not file.within(query.span)]
        # A file is of one month, so no row's time is read but where the span ends within one.
        for among, asked in ((within, query.within(Span())), (others, query)):
            months = {file.path.rpartition("/")[2]: file.month for file in among}
            for path, value, rows in self._values_of(among, key, asked):
                at = months[path.rpartition("/")[2]], value
                counts[at] = counts.get(at, 0) + rows
        return counts

    def _values_of(
        self, files: Sequence[LakeFile], key: str, query: Query
    ) -> list[tuple[str, str, int]]:
        """Count each file's values of a column."""
        if not files:
            return []
        condition = predicate(query)
        rows = self.rows_of(files, path_column="path").filter(pl.col(key).is_not_null())
        rows = rows if condition is None else rows.filter(condition)
        return self._collect(rows.group_by("path", key).len()).rows()

    def scan(
        self,
        query: Query,
        chunk: int = SCAN_ROWS,
        *,
        condition: pl.Expr | None = None,
        among: Sequence[LakeFile] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Give all matches in frames of about `chunk` rows, oldest first, in trail order.

        `condition` narrows the matches, `among` the files that are looked at. Only one frame,
        and the times of one day, are in memory. Small days come several to a frame; a single
        instant's rows are never split.
        """
        chosen = files_for(self.files if among is None else among, query)
        for span in self._stretches(chosen, query.span, chunk):
            at = [file for file in chosen if file.touches(span)]
            yield from self._scan_span(at, query.within(span), chunk, condition)

    def _stretches(
        self, files: Sequence[LakeFile], within: Span, chunk: int
    ) -> Iterator[Span]:
        """Cut a span into days, and join small ones up to `chunk` rows: a file with many days
        is then read a few times and not once for each."""
        counts: dict[date, int] = {}
        for file in files:
            for day, rows in self._days_of(file).items():
                counts[day] = counts.get(day, 0) + rows
        first, last, rows = None, None, 0
        for day in [day for day in sorted(counts) if _overlap(span_of_day(day), within)]:
            if first is None or last is None or rows + counts[day] > chunk:
                if first is not None and last is not None:
                    yield _from_day_to_day(first, last, within)
                first, rows = day, 0
            last, rows = day, rows + counts[day]
        if first is not None and last is not None:
            yield _from_day_to_day(first, last, within)

    def matching(self, file: LakeFile, condition: pl.Expr) -> int:
        """Return the number of a file's rows for which an expression holds."""
        rows = self.rows_of([file]).filter(condition).select(pl.len())
        return int(self._collect(rows).item())

    def _scan_span(
        self, files: Sequence[LakeFile], query: Query, chunk: int, condition: pl.Expr | None
    ) -> Iterator[pl.DataFrame]:
        one_day = query.span.start.date() == query.span.end.date()
        if not one_day or sum(file.rows for file in files) <= chunk:
            spans = [query.span]
        else:
            spans = self._cut(files, query, chunk)
        for span in spans:
            found = self._matches(files, query.within(span))
            if condition is not None:
                found = found.filter(condition)
            frame = self._collect(found.select(FILE_SCHEMA.names)).sort(TRAIL_ORDER)
            if frame.height:
                yield frame
            del frame  # whoever took it has it; the next one needs the room

    def _cut(self, files: Sequence[LakeFile], query: Query, rows: int) -> list[Span]:
        """Cut a span so that about `rows` matches fall into each piece."""
        times = self._collect(self._matches(files, query).select("timestamp")).to_series().sort()
        starts: list[datetime] = times.gather_every(rows).unique().sort().to_list()
        if not starts:
            return []
        ends = [start - ONE_MICROSECOND for start in starts[1:]]
        return [Span(a, b) for a, b in zip(starts, [*ends, query.span.end], strict=True)]

    def _newest_times(
        self, files: Sequence[LakeFile], query: Query, wanted: int
    ) -> tuple[pl.Series, int]:
        """Return the times of the `wanted` newest matches and of all that share the oldest one's,
        newest first, and the exact total.

        `files` come newest first; those that are older than what was found are only counted.
        """
        times, total, at, step = _NO_ROWS.get_column("timestamp"), 0, 0, FIRST_FILES
        while at < len(files) and not _are_older(files[at], times, wanted):
            found = self._matches(files[at : at + step], query).select("timestamp")
            of_these = self._collect(found).to_series()
            total += len(of_these)
            times = _newest(pl.concat([times, of_these]), wanted)
            at, step = at + step, 4 * step
        return times, total + self._count(files[at:], query)

    def _count(self, files: Sequence[LakeFile], query: Query) -> int:
        total = 0
        if _filters_time_only(query):
            total = sum(file.rows for file in files if file.within(query.span))
            files = [file for file in files if not file.within(query.span)]
        if files:
            total += int(self._collect(self._matches(files, query).select(pl.len())).item())
        return total

    def _chosen(self, rows: pl.LazyFrame, skip: int, limit: int) -> pl.LazyFrame:
        """Narrow rows to `limit` of the newest but for the first `skip`, by their ids alone."""
        keys = self._collect(rows.select(TRAIL_ORDER)).sort(TRAIL_ORDER, descending=True)
        ids = keys.slice(skip, limit).get_column("entry_id")
        return rows.filter(pl.col("entry_id").is_in(ids.implode()))

    def _with_ids(
        self, files: Sequence[LakeFile], entry_ids: Collection[str]
    ) -> pl.LazyFrame:
        wanted = list(entry_ids)
        chosen = self._narrow(files_for_ids(files, wanted), "entry_id", wanted)
        return self.rows_of(chosen).filter(pl.col("entry_id").is_in(wanted))

    def _files_for(self, query: Query) -> list[LakeFile]:
        """Return the files in which a row may match, newest first, by statistics and keys."""
        chosen = files_for(self.files, query)
        for key, wanted in query.where.items():
            chosen = self._narrow(chosen, key, wanted)
        return chosen

    def _narrow(
        self, files: list[LakeFile], key: str, wanted: Collection[str]
    ) -> list[LakeFile]:
        if self._lookup is None:
            return files
        if key == "participant":
            either = {
                file.path
                for column in ("agent_id", "to_agent")
                for file in self._lookup.narrow(files, column, wanted)
            }
            return [file for file in files if file.path in either]
        return self._lookup.narrow(files, key, wanted)

    def _matches(self, files: Sequence[LakeFile], query: Query) -> pl.LazyFrame:
        condition = predicate(query)
        rows = self.rows_of(files)
        return rows if condition is None else rows.filter(condition)

    def rows_of(
        self, files: Sequence[LakeFile], path_column: str | None = None
    ) -> pl.LazyFrame:
        """Return a lazy frame over the rows of some of the files, to be read at once; in
        `path_column`, if any, stands the file that a row is from."""
        if not files:
            return _NO_ROWS.lazy()
        places = [f"{self.uri}/{file.path}" for file in files]
        return scan_files(places, self.options, path_column=path_column)

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        with answering(self.uri):
            return rows.collect()

    def _days_of(self, file: LakeFile) -> Mapping[date, int]:
        if file.path not in self._day_counts:
            self._day_counts[file.path] = self._count_days(file)
        return self._day_counts[file.path]

    def _count_days(self, file: LakeFile) -> dict[date, int]:
        if file.start.date() == file.end.date():
            return {file.start.date(): file.rows}
        days = pl.col("timestamp").dt.date().alias("day")
        counted = self._collect(self.rows_of([file]).select(days).group_by("day").len())
        return dict(counted.rows())


def _may_hold(file: LakeFile, days: Collection[date]) -> bool:
    return any(file.start.date() <= day <= file.end.date() for day in days)


def _filters_time_only(query: Query) -> bool:
    return not query.where and query.cross_swarm is None


def _newest(times: pl.Series, wanted: int) -> pl.Series:
    """Return the `wanted` newest times and all that equal the last of them, newest first."""
    oldest = times.top_k(wanted).min()
    if oldest is None:
        return times.clear()
    return times.filter(times >= oldest).sort(descending=True)


def _are_older(file: LakeFile, times: pl.Series, wanted: int) -> bool:
    """Say whether all rows of a file are older than the `wanted` newest times, newest first."""
    return len(times) >= wanted and (not wanted or file.end < times[wanted - 1])


def _overlap(one: Span, other: Span) -> Span | None:
    start, end = max(one.start, other.start), min(one.end, other.end)
    return Span(start, end) if start <= end else None


def _from_day_to_day(first: date, last: date, within: Span) -> Span:
    start, end = span_of_day(first).start, span_of_day(last).end
    return Span(max(start, within.start), min(end, within.end))


_NO_ROWS = as_frame(FILE_SCHEMA.empty_table())
