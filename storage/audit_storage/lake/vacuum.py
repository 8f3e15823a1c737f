"""Deletes the bytes of files that the lake's newest version does not name; no row leaves by it.

`Lake.vacuum_now` calls it. What a hold protects and the newest version lacks keeps its file: a
hold that is placed after a purge's commit and before its vacuum still saves the bytes. Killed
anywhere, the next vacuum finds what is left.
"""

from __future__ import annotations

import polars as pl
import pyarrow.fs as pa_fs

from audit_storage.lake.delta_log import DeltaTable, answering
from audit_storage.lake.parquet_scan import scan_files
from audit_storage.lake.view import LakeView

ORPHAN_HOURS = 24
"""Age at which a file that no version names is surely not an archive still at work."""


def vacuum(
    table: DeltaTable,
    view: LakeView,
    folder: pa_fs.FileSystem,
    held: pl.Expr | None,
    *,
    keep_hours: int = 0,
) -> list[str]:
    """Delete the files that commits took out `keep_hours` ago or earlier, and orphans that are
    older than `ORPHAN_HOURS`; return their paths. `held` says which rows a hold protects."""
    with answering(view.uri):
        found = _parquet_files(folder)
        listed = {file.path for file in view.files}
        # The log's own vacuum is only asked what it would delete: it cannot spare a file.
        removed = table.vacuum(keep_hours, dry_run=True, enforce_retention_duration=False)
        orphans = table.vacuum(
            ORPHAN_HOURS, dry_run=True, enforce_retention_duration=False, full=True
        )
        chosen = sorted((found & {*removed, *orphans}) - listed)
        gone = []
        for path in chosen:
            if held is not None and _holds_something(view, path, held, was_listed=path in removed):
                continue
            folder.delete_file(path)
            # Killed here: the others are found again by the next vacuum.
            gone.append(path)
    return gone


def _parquet_files(folder: pa_fs.FileSystem) -> set[str]:
    everything = folder.get_file_info(pa_fs.FileSelector("", recursive=True))
    return {
        info.path
        for info in everything
        if info.type is pa_fs.FileType.File and info.path.startswith("month=")
    }


def _holds_something(view: LakeView, path: str, held: pl.Expr, *, was_listed: bool) -> bool:
    """Say whether the file has protected rows that the view lacks.

    One that was part of the lake and cannot be read counts as having some; one that never was,
    and is half written, does not: what it was to hold is still where it came from.
    """
    rows = scan_files([f"{view.uri}/{path}"], view.options)
    try:
        ids = rows.filter(held).select("entry_id").collect().get_column("entry_id").to_list()
    except (pl.exceptions.PolarsError, OSError):
        return was_listed
    return len(view.existing(ids)) < len(set(ids))
