"""Search over hot and cold together: every match once, newest first, with the exact total.

Each UTC day is answered by one tier. Redis answers the days that the lake lacks and those
of which it still holds every archived entry; the lake answers the rest. A day that the lake
answers may have late entries in Redis only: they are told apart by id. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import AuditError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import BEGINNING, END, Query, Span
from claude_max_audit.results import AuditQueryResult, Page

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A span of time that one tier answers whole; `late` days of it need a look at Redis."""

    span: Span
    from_lake: bool
    late: tuple[date, ...] = ()


def search_both(
    lake: Lake, hot: HotStore | None, query: Query, limit: int, offset: int, now: datetime
) -> AuditQueryResult:
    """Answer a query without words; `hot` None leaves the lake alone.

    A tier that fails is named in `missing` and the other still answers.
    """
    missing: list[str] = []
    stretches, asked_lake = _plan(lake, hot, query.span, now, missing)
    entries: list[AuditEntry] = []
    total = 0
    for stretch in stretches:
        skip, stop = max(0, offset - total), max(0, offset + limit - total)
        page = _ask(lake, hot, query.within(stretch.span), stretch, skip, stop, missing)
        entries.extend(page.entries)
        total += page.total
    source = "redis+lake" if hot is not None and asked_lake else "lake" if asked_lake else "redis"
    return AuditQueryResult(entries, total, 0.0, source, not missing, tuple(missing))


def plan_stretches(
    span: Span, lake_days: set[date], hot_days: set[date], complete: set[date]
) -> list[Stretch]:
    """Cut `span` into stretches, newest first, each answered by one tier.

    A lake day that Redis does not hold completely is the lake's; every other day on which
    Redis has entries is Redis'. Empty days go with their neighbours.
    """
    cold = lake_days - complete
    days = sorted(
        day
        for day in cold | hot_days
        if span.start <= _last_instant(day) and _first_instant(day) <= span.end
    )
    stretches: list[Stretch] = []
    for from_lake, group in groupby(days, key=cold.__contains__):
        run = list(group)
        start = _first_instant(run[0]) if stretches else span.start
        late = tuple(day for day in run if day in hot_days) if from_lake else ()
        if stretches:
            before = stretches[-1]
            ended = Span(before.span.start, start - _MICROSECOND)
            stretches[-1] = replace(before, span=ended)
        stretches.append(Stretch(Span(start, span.end), from_lake, late))
    return stretches[::-1] or [Stretch(span, from_lake=False)]


def _plan(
    lake: Lake, hot: HotStore | None, span: Span, now: datetime, missing: list[str]
) -> tuple[list[Stretch], bool]:
    """Decide who answers what; returns the stretches and whether the lake is asked."""
    try:
        counts = lake.days()
    except AuditError as away:
        missing.append(f"lake: {away}")
        return ([Stretch(span, from_lake=False)] if hot is not None else []), False
    if hot is None:
        return [Stretch(span, from_lake=True)], True
    complete = hot.complete_days(counts, now)
    stretches = plan_stretches(span, set(counts), set(hot.days()), complete)
    return stretches, any(stretch.from_lake for stretch in stretches)


def _ask(
    lake: Lake,
    hot: HotStore | None,
    query: Query,
    stretch: Stretch,
    skip: int,
    stop: int,
    missing: list[str],
) -> Page:
    """Return entries `skip` to `stop` of a stretch, newest first, and the number of all."""
    try:
        if not stretch.from_lake:
            return hot.page(query, stop - skip, skip) if hot is not None else Page([], 0)
        late = list(_late_entries(lake, hot, query, stretch.late))
        if not late:
            return lake.page(query, stop - skip, skip)
        page = lake.page(query, stop, 0)
    except AuditError as away:
        tier = "lake" if stretch.from_lake else "redis"
        first, last = _day_or_open(stretch.span.start), _day_or_open(stretch.span.end)
        missing.append(f"{tier}, {first} to {last}: {away}")
        return Page([], 0)
    merged = sorted([*page.entries, *late], key=newest_first, reverse=True)
    return Page(merged[skip:stop], page.total + len(late))


def _late_entries(
    lake: Lake, hot: HotStore | None, query: Query, days: tuple[date, ...]
) -> Iterator[AuditEntry]:
    """Yield the matches that only Redis holds of days that the lake answers."""
    if hot is None:
        return
    for day in days:
        span = Span(
            max(query.span.start, _first_instant(day)), min(query.span.end, _last_instant(day))
        )
        archived: set[str] | None = None
        for chunk in hot.scan(query.within(span)):
            if archived is None:
                archived = lake.day_ids(day)
            yield from (entry for entry in chunk if entry.entry_id not in archived)


def newest_first(entry: AuditEntry) -> tuple[datetime, str]:
    """Return the key by which every tier orders entries, descending."""
    return entry.timestamp, entry.entry_id


def _first_instant(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _last_instant(day: date) -> datetime:
    return datetime.combine(day, time.max, tzinfo=UTC)


def _day_or_open(moment: datetime) -> str:
    return "open" if moment in (BEGINNING, END) else moment.date().isoformat()
