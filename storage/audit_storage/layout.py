"""Where everything of the lake lies, and how its parts are named. Pure: touches nothing.

Every path, table URI, file name and transaction id of the lake is made here and nowhere else,
so that what one part writes another finds. Places are object-store URIs or absolute folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from claude_max_audit.query import Span

ENTRIES, JOBS, QUARANTINE = "entries", "jobs", "quarantine"
LEDGER, HOLDS, RECEIPTS, LOOKUP = "ledger", "holds", "receipts", "lookup"

KEYS_SUFFIX = ".keys"
"""Ends the name of every key file in `lookup`."""

_FILE_TYPE = ".zstd.parquet"
_SUM = re.compile(rf"-([0-9a-f]{{64}}){re.escape(_FILE_TYPE)}\Z").search

ONE_MICROSECOND = timedelta(microseconds=1)
ONE_DAY = timedelta(days=1)


def place(lake_uri: str, part: str) -> str:
    """Return where a part of the lake lies: `entries`, `jobs`, `quarantine`, `ledger`, ..."""
    return f"{lake_uri.rstrip('/')}/{part}"


def local_folder(uri: str) -> str | None:
    """Return the folder behind a place on this machine, or None for an object store."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else None


def probe_table(table_uri: str) -> str:
    """Return a fresh place beside a table, where its object store may be tried."""
    return f"{table_uri.rpartition('/')[0]}/probe/{uuid4()}"


def month_of(day: date) -> str:
    """Return the partition of a day (or of an aware UTC instant): "YYYY-MM"."""
    return f"{day.year:04d}-{day.month:02d}"


def days_of_month(month: str) -> Iterator[date]:
    """Give every day of a "YYYY-MM" month, in order."""
    day = date.fromisoformat(f"{month}-01")
    while month_of(day) == month:
        yield day
        day += ONE_DAY


def span_of_day(day: date) -> Span:
    """Return the first and the last microsecond of a UTC day."""
    return Span(
        datetime.combine(day, time.min, tzinfo=UTC), datetime.combine(day, time.max, tzinfo=UTC)
    )


def day_is_closed(day: date, at: datetime) -> bool:
    """Say whether the UTC day had ended at `at`."""
    return span_of_day(day).end < at


def new_file(month: str) -> str:
    """Return a fresh path, relative to the table, for a Parquet file of one month to be
    written; finished, it becomes the `summed_file`."""
    return f"month={month}/part-{uuid4()}{_FILE_TYPE}"


def summed_file(path: str, sha256: str) -> str:
    """Return the path of a finished file: its name tells the SHA-256 (hex) of its bytes."""
    return f"{path.removesuffix(_FILE_TYPE)}-{sha256}{_FILE_TYPE}"


def sum_in_name(path: str) -> str | None:
    """Return the SHA-256 (hex) that a file's name tells; None where another program wrote it."""
    found = _SUM(path)
    return found[1] if found else None


def keys_file(path: str) -> str:
    """Return the path, relative to the lake, of the key file of a Parquet file of the table."""
    return f"{LOOKUP}/{path.rpartition('/')[2]}{KEYS_SUFFIX}"


def new_keys_file() -> str:
    """Return a fresh path, relative to the lake, for a key file to be written."""
    return f"{LOOKUP}/{uuid4()}{KEYS_SUFFIX}"


def archive_app(day: date) -> str:
    """Return the application id under which the commits of one day's archive are counted."""
    return f"archive/{day.isoformat()}"


def quarantine_app(day: date) -> str:
    """Return the application id under which one day's rejected entries are counted."""
    return f"quarantine/{day.isoformat()}"


def writer_app(writer_id: str) -> str:
    """Return the application id of a writer that appends to the lake without Redis."""
    return f"writer/{writer_id}"


HOLDS_APP = "holds"
"""The application id under which placed holds are counted in the lake's own log."""


def hold_app(hold_id: str) -> str:
    """Return the application id under which the two events of one hold are counted."""
    return f"hold/{hold_id}"


def snapshot_name(app: str, version: int) -> str:
    """Return the name, kept with each row, of the commit that brought it to the lake."""
    return f"{app}/{version}"
