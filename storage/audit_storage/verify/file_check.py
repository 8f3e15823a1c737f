"""Holds each Parquet file of the lake against what the log says of it. Reads every byte twice.

First its bytes, against the SHA-256 in its name, which finds every flipped bit whether or not it
changes what is read; then its rows, against the log's statistics. `verify` calls it first and
then asks only the files that can be read to their end. Memory is bounded by one chunk of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow.fs as pa_fs

from audit_storage.lake.delta_log import answering
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.schema import FILE_SCHEMA
from audit_storage.lake.staged_file import sum_of
from audit_storage.lake.view import LakeView
from audit_storage.layout import month_of, sum_in_name
from audit_storage.verify.findings import Findings
from claude_max_audit.errors import LakeUnavailableError

CHUNK_ROWS = 32_768
"""Rows read at once: a row group as the lake writes them."""


@contextmanager
def reading(findings: Findings, where: str) -> Iterator[None]:
    """Take down what cannot be read as a finding, and end the block there."""
    try:
        yield
    # Polars panics, beside all exceptions, over some damages.
    except (LakeUnavailableError, pl.exceptions.PanicException) as broken:
        findings.add("unreadable_file", where, str(broken))


def readable_files(
    view: LakeView,
    files: Sequence[LakeFile],
    folder: pa_fs.FileSystem,
    findings: Findings,
    progress: Callable[[int], None],
) -> list[tuple[LakeFile, int]]:
    """Return the files that can be read to the end, with the rows that they really hold.

    `progress` is told the rows read so far.
    """
    sound: list[tuple[LakeFile, int]] = []
    for file in files:
        with reading(findings, file.path):
            if _is_there(view, file, folder, findings):
                sound.append((file, _check_rows(view, file, findings)))
        progress(sum(rows for _, rows in sound))
    return sound


def unsummed_note(files: Sequence[LakeFile]) -> list[str]:
    """Tell of files without a SHA-256 in their name, whose bytes have nothing to fit to."""
    without = [file.path for file in files if sum_in_name(file.path) is None]
    if not without:
        return []
    return [
        f"{len(without):,} files have no SHA-256 in their name, so only their rows were checked; "
        f"another program or an older version wrote them: {_named(without)}"
    ]


def _named(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")


def _is_there(
    view: LakeView, file: LakeFile, folder: pa_fs.FileSystem, findings: Findings
) -> bool:
    """Sum the file's bytes, if it is there at all."""
    expected = sum_in_name(file.path)
    with answering(view.uri):
        if folder.get_file_info(file.path).type is pa_fs.FileType.NotFound:
            detail = f"{file.rows} entries from {file.start} to {file.end} were in it"
            findings.add("missing_file", file.path, detail)
            return False
        if expected is not None and (computed := sum_of(folder, file.path)) != expected:
            detail = f"written with SHA-256 {expected}, now {computed}"
            findings.add("file_bytes", file.path, detail)
    return True


def _check_rows(view: LakeView, file: LakeFile, findings: Findings) -> int:
    rows = 0
    seen: dict[str, tuple[Any, Any]] = {}
    for chunk in _chunks(view, file):
        rows += chunk.height
        for name in file.least:
            _widen(seen, name, chunk.get_column(name))
    if rows != file.rows:
        findings.add("file_rows", file.path, f"{rows} rows, the log says {file.rows}")
    if rows:
        _check_extremes(file, seen, findings)
    return rows


def _chunks(view: LakeView, file: LakeFile) -> Iterator[pl.DataFrame]:
    rows = view.rows_of([file]).select(FILE_SCHEMA.names)
    at = 0
    while True:
        with answering(view.uri):
            chunk = rows.slice(at, CHUNK_ROWS).collect()
        yield chunk
        at += chunk.height
        if chunk.height < CHUNK_ROWS:
            return


def _widen(seen: dict[str, tuple[Any, Any]], name: str, column: pl.Series) -> None:
    least, greatest = column.min(), column.max()
    if least is None or greatest is None:
        return
    so_far = seen.get(name, (least, greatest))
    seen[name] = (min(so_far[0], least), max(so_far[1], greatest))


def _check_extremes(
    file: LakeFile, seen: dict[str, tuple[Any, Any]], findings: Findings
) -> None:
    if "timestamp" in seen:
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
