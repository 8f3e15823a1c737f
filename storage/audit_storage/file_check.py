"""Holds each Parquet file of the lake against what the log says of it. Reads every byte once.

`verify` calls it first and then reads only the files that passed as readable. Memory is bounded
by one row group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audit_storage.findings import Findings
from audit_storage.lake_plan import LakeFile
from audit_storage.lake_transaction import LakeTransaction
from audit_storage.layout import month_of
from claude_max_audit.errors import LakeUnavailableError


def readable_files(
    reader: LakeTransaction,
    files: list[LakeFile],
    findings: Findings,
    progress: Callable[[int], None] | None = None,
) -> list[LakeFile]:
    """Return the files that can be read to the end; `progress` is told the rows read so far."""
    sound = []
    read = 0
    for file in files:
        try:
            rows = _check(reader, file, findings)
        except (LakeUnavailableError, pa.ArrowException, OSError, ValueError) as broken:
            findings.add("unreadable_file", file.path, str(broken))
            continue
        sound.append(file)
        read += rows
        if progress is not None:
            progress(read)
    return sound


def _check(reader: LakeTransaction, file: LakeFile, findings: Findings) -> int:
    rows = 0
    seen: dict[str, tuple[Any, Any]] = {}
    for group in reader.read_rows(file):
        group.validate(full=True)  # also that texts are UTF-8
        rows += group.num_rows
        for name in ("timestamp", *file.least):
            _widen(seen, name, group.column(name))
    if rows != file.rows:
        findings.add("file_rows", file.path, f"{rows} rows, the log says {file.rows}")
    if rows:
        _check_extremes(file, seen, findings)
    return rows


def _widen(seen: dict[str, tuple[Any, Any]], name: str, column: pa.ChunkedArray) -> None:
    if column.null_count == len(column):
        return
    extremes = pc.min_max(column).as_py()
    least, greatest = seen.get(name, (extremes["min"], extremes["max"]))
    seen[name] = (min(least, extremes["min"]), max(greatest, extremes["max"]))


def _check_extremes(
    file: LakeFile, seen: dict[str, tuple[Any, Any]], findings: Findings
) -> None:
    oldest, newest = seen["timestamp"]
    for month in sorted({month_of(oldest), month_of(newest)} - {file.month}):
        findings.add("month", file.path, f"a timestamp is of {month}")
    for name, (least, greatest) in seen.items():
        if not file.least[name] <= least <= greatest <= file.greatest[name]:
            findings.add(
                "file_statistics",
                file.path,
                f"{name} runs from {least} to {greatest}, "
                f"the log says {file.least[name]} to {file.greatest[name]}",
            )
