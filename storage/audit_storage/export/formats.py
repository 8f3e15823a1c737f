"""The forms in which a trail leaves the system: jsonl, json and csv, plain or .zst, and parquet.

The export opens one writer per file and hands it frames of the lake's columns in order;
each writer holds one frame at a time and never seeks. Text is UTF-8 without a byte order
mark. Nothing is altered for the sake of whoever opens the file: an audit record is verbatim,
so a CSV cell that begins with `=` is written as it was logged (see docs/export.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from audit_storage.atomic_file import HashedFile
from audit_storage.lake.part import RANDOM, RANDOM_LEVEL, REPEATING
from audit_storage.lake.schema import FILE_SCHEMA, entries_of
from claude_max_audit.entry import ENTRY_FIELDS

PARQUET_COMPRESSION_LEVEL = 3
"""Of zstd, as in the lake: past it files shrink little and writing slows."""

EXPORT_SCHEMA = pa.schema([FILE_SCHEMA.field(name) for name in ENTRY_FIELDS])
"""The entry's fields in the lake's types, without the columns that only the lake needs."""

_REPEATING = [name for name in REPEATING if name in EXPORT_SCHEMA.names or "." in name]
_LEVELS = {
    name: RANDOM_LEVEL if name in RANDOM else PARQUET_COMPRESSION_LEVEL
    for name in [*EXPORT_SCHEMA.names, "swarm_ids.list.element"]
}
_CSV_TIME = "%Y-%m-%dT%H:%M:%S%.6fZ"
_json = msgspec.json.Encoder().encode


class Sink(Protocol):
    """Takes bytes in order."""

    def write(self, data: bytes) -> object:
        """Append `data`."""


class FormatWriter(Protocol):
    """Writes frames to an open file; the file is whole after `finish`."""

    def write(self, frame: pl.DataFrame) -> None:
        """Append the frame's rows."""

    def finish(self) -> None:
        """Write what the format ends with; without any row the file is empty but valid."""


class JsonLinesWriter:
    """One entry's full JSON a line, each ended by LF (jsonlines.org); no entry, no byte."""

    def __init__(self, file: Sink) -> None:
        self._file = file

    def write(self, frame: pl.DataFrame) -> None:
        """Append one line per row."""
        if frame.height:
            self._file.write(b"\n".join(full_json(frame)) + b"\n")

    def finish(self) -> None:
        """Do nothing: the last line is ended already."""


class JsonArrayWriter:
    """One JSON array (RFC 8259) of the same objects, one a line; `[]` without any."""

    def __init__(self, file: Sink) -> None:
        self._file = file
        self._lead = b"[\n"

    def write(self, frame: pl.DataFrame) -> None:
        """Append one element per row."""
        if frame.height:
            self._file.write(self._lead + b",\n".join(full_json(frame)))
            self._lead = b",\n"

    def finish(self) -> None:
        """Close the array."""
        self._file.write(b"[]\n" if self._lead == b"[\n" else b"\n]\n")


class CsvWriter:
    """RFC 4180: a header of the entry's fields, CRLF, quotes where they are needed.

    Times are ISO 8601 with six decimals and `Z`; `swarm_ids` and `metadata` are JSON text.
    A missing value is an empty cell, an empty text is `""`.
    """

    def __init__(self, file: Sink) -> None:
        self._file = file
        header = pl.DataFrame(schema=dict.fromkeys(ENTRY_FIELDS, pl.String))
        self._file.write(header.write_csv(line_terminator="\r\n").encode())

    def write(self, frame: pl.DataFrame) -> None:
        """Append one record per row."""
        text = _as_text(frame).write_csv(
            include_header=False, line_terminator="\r\n", quote_style="necessary"
        )
        self._file.write(text.encode())

    def finish(self) -> None:
        """Do nothing: the last record is ended already."""


class ParquetWriter:
    """The entry's fields in the lake's own types, zstd, one row group per frame."""

    def __init__(self, file: HashedFile) -> None:
        self._writer = pq.ParquetWriter(
            pa.PythonFile(file, mode="w"),
            EXPORT_SCHEMA,
            compression="zstd",
            compression_level=_LEVELS,
            use_dictionary=_REPEATING,
        )

    def write(self, frame: pl.DataFrame) -> None:
        """Append one row group."""
        if frame.height:
            table = frame.select(EXPORT_SCHEMA.names).to_arrow().cast(EXPORT_SCHEMA)
            self._writer.write_table(table)

    def finish(self) -> None:
        """Write the footer."""
        self._writer.close()


class ZstdWriter:
    """Another writer's bytes in Zstandard (RFC 8878), one frame: what `zstd -d` reads."""

    def __init__(self, inner: Callable[[Sink], FormatWriter], file: HashedFile) -> None:
        self._stream = pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd")
        self._inner = inner(self._stream)

    def write(self, frame: pl.DataFrame) -> None:
        """Append the frame's rows."""
        self._inner.write(frame)

    def finish(self) -> None:
        """End the format, then the compressed frame."""
        self._inner.finish()
        self._stream.close()


FORMATS: dict[str, Callable[[HashedFile], FormatWriter]] = {
    "jsonl": JsonLinesWriter,
    "json": JsonArrayWriter,
    "csv": CsvWriter,
    "parquet": ParquetWriter,
    "jsonl.zst": partial(ZstdWriter, JsonLinesWriter),
    "json.zst": partial(ZstdWriter, JsonArrayWriter),
    "csv.zst": partial(ZstdWriter, CsvWriter),
}
"""Name of a format, which is also its file's ending, to its writer."""


def full_json(frame: pl.DataFrame) -> list[bytes]:
    """Return each row's full JSON with the `entry_hash` that is stored, right or wrong.

    An export shows what the trail holds; whether it holds is for verify to say.
    """
    return [_json(entry) for entry in entries_of(frame)]


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the CSV's cells: times as ISO 8601, lists as JSON text."""
    times = [name for name, kind in frame.schema.items() if kind == pl.Datetime("us", "UTC")]
    lists = [_json(swarms).decode() for swarms in frame.get_column("swarm_ids").to_list()]
    return frame.with_columns(
        *(pl.col(name).dt.strftime(_CSV_TIME) for name in times),
        pl.Series("swarm_ids", lists, dtype=pl.String),
    ).select(ENTRY_FIELDS)


def check_format(name: str) -> str:
    """Return `name`; raises `ValueError` naming the known formats."""
    if name not in FORMATS:
        raise ValueError(f"format {name!r} is unknown; known are {', '.join(FORMATS)}")
    return name
