"""Export: everything that matches a query, hot and cold, in one file that is whole or absent.

The auditor, the command line and the export flow call `export_trail`. It streams: memory does
not grow with the trail. It never alters an entry, never overwrites unless told to, and raises
rather than leaving out a part that could not be read. Formats are in `export_formats`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from audit_storage.atomic_file import atomic_file, sweep_partials
from audit_storage.export.chronicle import read_chronicle
from audit_storage.export.formats import FORMATS, check_format
from audit_storage.export.manifest import Manifest, manifest_path, write_manifest
from audit_storage.lake.lake import Lake
from audit_storage.layout import span_of_day
from audit_storage.read_ahead import read_ahead
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span

Progress = Callable[[int], None]
"""Is told the number of rows written so far, now and then."""

_MAX_NAME = 64
"""Longest part of a default file name that comes from a swarm's name."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Where an export lies and what it holds."""

    path: Path
    manifest_path: Path
    rows: int
    size_bytes: int
    sha256: str
    format: str


@dataclass(slots=True)
class _Tally:
    """What was seen while the rows went by; the only thing here that changes."""

    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None


def export_trail(
    lake: Lake,
    hot: HotStore | None,
    query: Query,
    format: str,
    output_path: Path | None,
    *,
    exports_dir: Path,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write every match to one file with its manifest; both are durable on return.

    Without `output_path` the file gets a new name under `exports_dir`, which is made. Raises
    `ValueError` for an unknown format or a query with words to find, `FileExistsError` when
    the file is there already and `overwrite` is False, another `OSError` when it cannot be
    written, and what the stores raise when they cannot be read; no file is left then.
    """
    check_format(format)
    if query.text is not None:
        raise ValueError(
            "an export takes every entry that fits its filters and cannot search by words; "
            "leave text_query out"
        )
    started = datetime.now(UTC)
    if output_path is None:
        exports_dir.mkdir(parents=True, exist_ok=True)
        output_path = exports_dir / default_name(query, format, started)
    path = output_path.absolute()
    with _explained(path):
        _check_place(path, overwrite=overwrite)
        sweep_partials(path.parent)
        return _write(lake, hot, query, format, path, started, overwrite, progress)


def expected_rows(lake: Lake, hot: HotStore | None, query: Query) -> int:
    """Return about how many rows an export will have: for a bar, quick and not exact.

    Late entries of a day that the lake holds already are not counted.
    """
    rows = lake.count_matches(query)
    if hot is not None:
        archived = lake.days()
        for day in (day for day in hot.days() if day not in archived):
            of_day = span_of_day(day)
            start, end = max(query.span.start, of_day.start), min(query.span.end, of_day.end)
            rows += hot.count(query.within(Span(start, end))) if start <= end else 0
    return rows


def default_name(query: Query, format: str, at: datetime) -> str:
    """Return the name of an export that names none: its swarms, the UTC time, the format."""
    swarms = "+".join(query.where.get("swarm_id", ("all",)))
    safe = re.sub(r"[^A-Za-z0-9_+-]", "_", swarms)[:_MAX_NAME]
    return f"audit-{safe}-{at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.{format}"


def _write(
    lake: Lake,
    hot: HotStore | None,
    query: Query,
    format: str,
    path: Path,
    started: datetime,
    overwrite: bool,
    progress: Progress | None,
) -> ExportReport:
    tally = _Tally()
    with atomic_file(path, overwrite=overwrite) as file:
        writer = FORMATS[format](file)
        with closing(read_ahead(read_chronicle(lake, hot, query))) as frames:
            for frame in frames:
                writer.write(frame)
                _count(tally, frame.get_column("timestamp"))
                if progress is not None:
                    progress(tally.rows)
        writer.finish()
        if overwrite:
            # An older manifest never stands beside a file that it does not describe.
            manifest_path(path).unlink(missing_ok=True)
    # If we stop here, the file is whole and has no manifest; the same export run again with
    # `overwrite` writes both.
    manifest = Manifest(
        file=path.name,
        format=format,
        rows=tally.rows,
        size_bytes=file.bytes_written,
        sha256=file.sha256,
        query=query.as_dict(),
        sources=("lake",) if hot is None else ("redis", "lake"),
        first_timestamp=tally.first,
        last_timestamp=tally.last,
        lake_version=lake.version(),
        created_at=started,
    )
    return ExportReport(
        path, write_manifest(path, manifest), tally.rows, manifest.size_bytes, file.sha256, format
    )


def _count(tally: _Tally, moments: pl.Series) -> None:
    if len(moments):
        tally.rows += len(moments)
        tally.first = tally.first or moments[0]
        tally.last = moments[-1]


def _check_place(path: Path, *, overwrite: bool) -> None:
    """Refuse early, before the trail is read, what the end would refuse."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if not overwrite and path.exists():
        raise FileExistsError(errno.EEXIST, "exists", str(path))


_REMEDIES: dict[type[OSError], str] = {
    FileExistsError: "it exists already; choose another output path, or give overwrite=True",
    IsADirectoryError: "it is a folder; give the path of a file in it",
    FileNotFoundError: "its folder does not exist; create it, or choose another output path",
    NotADirectoryError: "its folder is a file; choose another output path",
    PermissionError: "this user may not write there; choose another output path",
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the target into one of the same kind that tells the remedy."""
    try:
        yield
    except OSError as failed:
        if failed.errno is None:  # of a store, not of the file
            raise
        remedy = _REMEDIES.get(type(failed), f"{failed.strerror}; nothing was left behind")
        # Python makes of the number the same kind of OSError again.
        raise OSError(failed.errno, f"cannot export to {path}: {remedy}") from failed
