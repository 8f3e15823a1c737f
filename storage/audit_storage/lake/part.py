"""Writes one Parquet file of the lake, run by run, and tells the log what is in it.

Memory is bounded by one run. A part is nothing to readers until its `add_action` is committed;
left behind by a crash it is an orphan that a later vacuum removes.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from audit_storage.lake.delta_log import AddAction
from audit_storage.lake.plan import STATISTICS
from audit_storage.lake.schema import FILE_ORDER, FILE_SCHEMA
from audit_storage.lake.staged_file import stage
from audit_storage.layout import new_file, summed_file

ROW_GROUP_ROWS = 16_384
"""Rows whose least and greatest values a reader can skip by: a few per run, some 3 MB each."""

COMPRESSION_LEVEL = 3
"""zstd level: past it files shrink by a few percent and writing takes twice as long."""

PACKED_LEVEL = 12
"""zstd level of the contents in a file that is made once and kept for years: a tenth smaller than
at level 3, read as fast, written five times slower."""

RANDOM_LEVEL = 1
"""zstd level of columns that are random hexadecimal digits. It looks for long repetitions only:
the short ones that level 3 finds among such digits take more room than the digits themselves."""

PAGE_BYTES = 4 * 1024 * 1024
"""Most of a column that is compressed together. A row group's texts are about so large; pages of
the usual 1 MB repeat what they have in common."""

_UNCOUNTED = ("content", "metadata")  # their extremes would put whole texts into the footer
_UNIQUE = (
    "entry_id", "timestamp", "content", "content_hash", "size_bytes", "metadata", "citation",
    "parent_id", "recorded_at", "writer_seq", "entry_hash",
)  # fmt: skip
RANDOM = ("entry_id", "content_hash", "citation", "entry_hash")
"""Columns that are hexadecimal digits for the most part, all different."""

_ENCODINGS = {
    # Lengths apart from the texts, and what a text shares with the one before it left out.
    "content": "DELTA_LENGTH_BYTE_ARRAY",
    "content_hash": "DELTA_LENGTH_BYTE_ARRAY",
    "entry_hash": "DELTA_LENGTH_BYTE_ARRAY",
    "entry_id": "DELTA_BYTE_ARRAY",
    "citation": "DELTA_BYTE_ARRAY",
    # High bytes, which are nearly all the same, apart from the low ones.
    "timestamp": "BYTE_STREAM_SPLIT",
    "recorded_at": "BYTE_STREAM_SPLIT",
}
_LEVELS = {
    name: RANDOM_LEVEL if name in RANDOM else COMPRESSION_LEVEL for name in FILE_SCHEMA.names
} | {"swarm_ids.list.element": COMPRESSION_LEVEL}
REPEATING = [
    *(name for name in FILE_SCHEMA.names if name not in (*_UNIQUE, "swarm_ids")),
    "swarm_ids.list.element",
]
"""Columns of few different values, which a dictionary makes small."""


class LakePart:
    """One Parquet file in the making."""

    def __init__(
        self,
        filesystem: pa_fs.FileSystem,
        month: str,
        *,
        local: bool,
        content_level: int = COMPRESSION_LEVEL,
    ) -> None:
        self.month = month
        self.path = new_file(month)
        self.rows = 0
        self.bytes = 0
        self._least: dict[str, Any] = {}
        self._greatest: dict[str, Any] = {}
        self._nulls = dict.fromkeys(STATISTICS, 0)
        self._file = stage(filesystem, self.path, local=local)
        self._writer = pq.ParquetWriter(
            self._file.sink,
            FILE_SCHEMA,
            compression="zstd",
            compression_level=_LEVELS | {"content": content_level},
            data_page_size=PAGE_BYTES,
            column_encoding=_ENCODINGS,
            use_dictionary=REPEATING,
            write_statistics=[name for name in FILE_SCHEMA.names if name not in _UNCOUNTED],
            store_schema=False,
        )

    def write_run(self, rows: pa.Table) -> None:
        """Append rows of `FILE_SCHEMA` as they come: sorted as `sorted_run` does it."""
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self.rows += rows.num_rows
        for name in STATISTICS:
            self._count(name, rows.column(name))

    def close(self) -> None:
        """Finish the file: after this its bytes are all with the storage, and their SHA-256 is
        in its name, where the log keeps it as long as the file."""
        self._writer.close()
        finished = summed_file(self.path, self._file.sum())
        # Killed here: an orphan without a sum in its name, or nothing at all.
        self.bytes = self._file.finish(finished)
        self.path = finished

    def discard(self) -> None:
        """Close and delete the file, for a commit that will not be."""
        if not self._file.sink.closed:
            self._writer.close()
        self._file.discard()

    def add_action(self, *, data_change: bool = True) -> AddAction:
        """Return the log's line for this file: size, rows and the extremes of its columns."""
        statistics = {
            "numRecords": self.rows,
            "minValues": {k: _as_json(v) for k, v in self._least.items()},
            "maxValues": {k: _as_json(v) for k, v in self._greatest.items()},
            "nullCount": self._nulls,
        }
        return AddAction(
            self.path,
            self.bytes,
            {"month": self.month},
            int(time.time() * 1000),
            data_change,
            json.dumps(statistics),
        )

    def _count(self, name: str, column: pa.ChunkedArray) -> None:
        self._nulls[name] += column.null_count
        if column.null_count == len(column):
            return
        extremes = pc.min_max(column).as_py()
        least, greatest = extremes["min"], extremes["max"]
        self._least[name] = min(self._least.get(name, least), least)
        self._greatest[name] = max(self._greatest.get(name, greatest), greatest)


def sorted_run(rows: pa.Table) -> pa.Table:
    """Return rows in the order that a run of a file has."""
    return rows.sort_by([(name, "ascending") for name in FILE_ORDER])


def _as_json(value: Any) -> Any:
    """Statistics write times as ISO 8601 with microseconds and Z (Delta protocol)."""
    if isinstance(value, datetime):
        return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    return value
