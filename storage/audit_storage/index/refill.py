"""Gives the index of a month what it lacks of the lake, of which it is a view.

The job `reindex` calls it. Killed anywhere and run again, it goes on: what is in already is not
embedded anew.
"""

from __future__ import annotations

from collections.abc import Callable

from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import entries_of
from audit_storage.layout import month_of, span_of_day
from claude_max_audit.query import Query

CHUNK_ROWS = 5_000
"""Entries compared and handed to the index at once: half a minute of embedding at most."""

Progress = Callable[[int], None]
"""Told after each chunk: the month's entries that were looked at so far."""


def refill_month(
    lake: Lake, index: EntryIndex, month: str, progress: Progress | None = None
) -> int:
    """Add what the index lacks of a "YYYY-MM" month; returns how many entries.

    Raises `MonthDamagedError` where the month cannot be read: drop it, and call again.
    """
    added = looked_at = 0
    for day in lake.days():
        if month_of(day) != month:
            continue
        for rows in lake.scan(Query(span=span_of_day(day)), CHUNK_ROWS):
            lacking = index.missing(month, rows["entry_id"].to_list())
            if lacking:
                chosen = rows.filter(rows["entry_id"].is_in(list(lacking)))
                added += index.add(entries_of(chosen))
            looked_at += rows.height
            if progress is not None:
                progress(looked_at)
    return added
