"""Which files of the lake a question has to read, told by the log's statistics alone. Pure.

The log keeps for each file its rows and the least and greatest value of some columns. A file is
left out only when these prove that no row of it can match; nothing here opens a file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from audit_storage.layout import span_of_day
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.query import Query, Span

STATISTICS: tuple[str, ...] = (
    "entry_id",
    "timestamp",
    "entry_type",
    "agent_id",
    "swarm_id",
    "to_agent",
    "session_id",
    "severity",
    "retention",
)
"""Columns whose least and greatest values stand in the log. Never content or metadata: the
log outlives a purge for a while."""


FULL_ROWS = 500_000
"""Rows from which a file is large enough to be left alone by a compaction."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One immutable Parquet file of one month, as the log describes it. Ends are inclusive.

    `least` and `greatest` lack a column whose values are all empty, or that has no statistics.
    """

    path: str
    month: str
    rows: int
    bytes: int
    least: Mapping[str, Any]
    greatest: Mapping[str, Any]
    empty: frozenset[str]
    """Columns in which no row of the file has a value."""

    @property
    def start(self) -> datetime:
        """Time of the oldest row, aware UTC."""
        moment: datetime = self.least["timestamp"]
        return moment

    @property
    def end(self) -> datetime:
        """Time of the newest row, aware UTC."""
        moment: datetime = self.greatest["timestamp"]
        return moment

    def within(self, span: Span) -> bool:
        """Say whether every row lies in the span."""
        return span.start <= self.start and self.end <= span.end

    def touches(self, span: Span) -> bool:
        """Say whether some row may lie in the span."""
        return self.start <= span.end and span.start <= self.end


def file_of(line: Mapping[str, Any], uri: str) -> LakeFile:
    """Read a line of the log's flat list of files; raises `LakeUnavailableError` without
    the statistics that every answer rests on."""
    if line["num_records"] is None or line.get("min.timestamp") is None:
        raise LakeUnavailableError(
            uri, f"{line['path']} has no statistics in the log; another program rewrote it"
        )
    rows = line["num_records"]
    return LakeFile(
        path=line["path"],
        month=line["partition.month"],
        rows=rows,
        bytes=line["size_bytes"],
        least={n: line[f"min.{n}"] for n in STATISTICS if line.get(f"min.{n}") is not None},
        greatest={n: line[f"max.{n}"] for n in STATISTICS if line.get(f"max.{n}") is not None},
        empty=frozenset(n for n in STATISTICS if line.get(f"null_count.{n}") == rows),
    )


def files_for(files: Iterable[LakeFile], query: Query) -> list[LakeFile]:
    """Return the files in which a row may match the query, newest first."""
    chosen = [
        file
        for file in files
        if file.touches(query.span)
        and all(_may_hold(file, key, wanted) for key, wanted in query.where.items())
    ]
    return sorted(chosen, key=lambda file: file.end, reverse=True)


def files_for_day(files: Iterable[LakeFile], day: date) -> list[LakeFile]:
    """Return the files that may hold rows of a UTC day."""
    span = span_of_day(day)
    return [file for file in files if file.touches(span)]


def files_for_ids(files: Iterable[LakeFile], entry_ids: Collection[str]) -> list[LakeFile]:
    """Return the files in whose range of ids one of `entry_ids` lies."""
    ordered = sorted(entry_ids)
    return [file for file in files if _any_between(ordered, file)]


def files_to_join(files: Iterable[LakeFile], month: str) -> list[LakeFile]:
    """Return the small files of a month, oldest first; none where there is but one."""
    small = [file for file in files if file.month == month and file.rows < FULL_ROWS]
    return sorted(small, key=lambda file: (file.start, file.path)) if len(small) > 1 else []


def _any_between(ordered: Sequence[str], file: LakeFile) -> bool:
    at = bisect_left(ordered, file.least["entry_id"])
    return at < len(ordered) and ordered[at] <= file.greatest["entry_id"]


def _may_hold(file: LakeFile, key: str, wanted: tuple[str, ...]) -> bool:
    if key == "participant":
        return _may_hold(file, "agent_id", wanted) or _may_hold(file, "to_agent", wanted)
    if key == "swarm_id" or key not in STATISTICS:
        return True  # swarm_ids is a list, which has no statistics
    if key in file.empty:
        return False
    if key not in file.least:
        return True
    # Code points and UTF-8 bytes sort alike, so Python compares as the writer did.
    return any(file.least[key] <= word <= file.greatest[key] for word in wanted)
