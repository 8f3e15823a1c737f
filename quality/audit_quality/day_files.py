"""The Parquet files that hold rows of a day: what their bytes give, and their rows, chunk by chunk.

Every file is summed and its schema read before its rows are; one that is damaged is told in its
line and the rows of the others are still looked at. A storage that does not answer is no damage
and raises `LakeUnavailableError`. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from audit_storage.lake.delta_log import answering
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.schema import FILE_SCHEMA, as_frame
from audit_storage.lake.staged_file import sum_of
from audit_storage.layout import archive_app, span_of_day, sum_in_name
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.query import Span

_EMPTY = as_frame(FILE_SCHEMA.empty_table())


class DayFiles:
    """Some files of one version of the lake. `lines` has one row a file, for the suite `files`;
    it is complete when the rows were read."""

    def __init__(self, uri: str, folder: pa_fs.FileSystem, files: Sequence[LakeFile]) -> None:
        self._uri = uri
        self._folder = folder
        self._lines = {file.path: _line(file) for file in files}
        self.files = tuple(files)

    def lines(self) -> pl.DataFrame:
        """Return what was found of each file."""
        return pl.DataFrame(list(self._lines.values()), schema=_LINE, orient="row")

    def sound(self) -> list[LakeFile]:
        """Return the files that could be read to their end and have the lake's columns."""
        return [
            file
            for file in self.files
            if (line := self._lines[file.path])["readable"] == line["schema"] == "fits"
        ]

    def rows_of_day(self, day: date) -> Iterator[pl.DataFrame]:
        """Give the rows that happened on a UTC day, or that its archive brought, in the order
        of the files, in frames of `schema.FILE_SCHEMA`."""
        span = span_of_day(day)
        time = pl.col("timestamp")
        brought = pl.col("snapshot").str.starts_with(f"{archive_app(day)}/")
        wanted = time.is_null() | time.is_between(span.start, span.end) | brought.fill_null(True)
        for file in self.files:
            for rows in _ahead(self._rows(file, span)):
                chosen = rows.select(wanted).to_series()
                if chosen.any():
                    yield rows if chosen.all() else rows.filter(chosen)

    def _rows(self, file: LakeFile, span: Span | None) -> Iterator[pl.DataFrame]:
        line = self._lines[file.path]
        with answering(self._uri):
            if self._folder.get_file_info(file.path).type is pa_fs.FileType.NotFound:
                line.update(
                    there="the log names it and it is not there", readable="it is not there"
                )
                return
            expected = sum_in_name(file.path)
            summed = sum_of(self._folder, file.path)
        if expected is not None and summed != expected:
            line["bytes"] = f"their SHA-256 is {summed}"
        try:
            yield from self._read(file, span, line)
        except (pa.ArrowException, OSError, LakeUnavailableError) as broken:
            if line["bytes"] == "fits" and line["schema"] == "fits":
                raise LakeUnavailableError(self._uri, str(broken)) from broken
            line["readable"] = str(broken).strip().splitlines()[0]

    def _read(
        self, file: LakeFile, span: Span | None, line: dict[str, Any]
    ) -> Iterator[pl.DataFrame]:
        with self._folder.open_input_file(file.path) as source:
            parquet = pq.ParquetFile(source)
            line["rows_in_file"] = parquet.metadata.num_rows
            line["schema"] = _difference(parquet.schema_arrow)
            for group in range(parquet.num_row_groups):
                if span is None or _touches(parquet.metadata.row_group(group), span):
                    yield _as_lake_rows(parquet.read_row_group(group))


def _ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Give the frames while the next one is being read: unpacking leaves Python's lock."""
    with ThreadPoolExecutor(1, thread_name_prefix="day-files") as reader:
        waiting = reader.submit(next, frames, None)
        while (frame := waiting.result()) is not None:
            waiting = reader.submit(next, frames, None)
            yield frame


_LINE = {
    "path": pl.String,
    "there": pl.String,
    "bytes": pl.String,
    "readable": pl.String,
    "schema": pl.String,
    "rows_in_file": pl.Int64,
    "rows_in_log": pl.Int64,
}


def _line(file: LakeFile) -> dict[str, Any]:
    fitting = dict.fromkeys(("there", "bytes", "readable", "schema"), "fits")
    return {"path": file.path, **fitting, "rows_in_file": None, "rows_in_log": file.rows}


def _difference(schema: pa.Schema) -> str:
    """Say what a file's columns have differently from the lake's."""
    there, agreed = dict(_types(schema)), dict(_types(FILE_SCHEMA))
    told = [f"lacks {name}" for name in agreed if name not in there]
    told += [f"has {name} besides" for name in there if name not in agreed]
    told += [
        f"{name} is {there[name]} and not {agreed[name]}"
        for name in agreed
        if name in there and there[name] != agreed[name]
    ]
    return ", ".join(told) or "fits"


def _types(schema: pa.Schema) -> Iterator[tuple[str, str]]:
    """Names and types, with the two ways to write text and lists taken as one."""
    for field in schema:
        told = str(field.type).replace("large_", "").replace("string_view", "string")
        yield field.name, "list<string>" if told.startswith("list<") and "string" in told else told


def _touches(group: Any, span: Span) -> bool:
    """Say whether a row group may hold rows of the span; without statistics it may."""
    for at in range(group.num_columns):
        column = group.column(at)
        if column.path_in_schema == "timestamp":
            seen = column.statistics
            if seen is None or not seen.has_min_max:
                return True
            return bool(seen.min <= span.end and span.start <= seen.max)
    return True


def _as_lake_rows(rows: pa.Table) -> pl.DataFrame:
    """Give the rows the lake's columns: one that is missing is empty, one too many left out."""
    if rows.schema.equals(FILE_SCHEMA):
        return as_frame(rows)
    frame = as_frame(rows)
    return frame.select(
        (
            pl.col(name).cast(kind, strict=False) if name in frame.columns else pl.lit(None, kind)
        ).alias(name)
        for name, kind in _EMPTY.schema.items()
    )
