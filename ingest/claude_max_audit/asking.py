"""What the auditor answers: searches, exports, figures, and the keeper's two jobs.

Every call first gives the process's own entries a moment to reach the store, so that a
caller reads what it wrote; what could not be asked is named in `missing`, never left out
in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import AuditError, PlatformMissingError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, check_page, parse_query
from claude_max_audit.results import AuditQueryResult, PerformanceMetrics
from claude_max_audit.settings import HOT_TEXT_ENTRIES
from claude_max_audit.trail import Trail
from claude_max_audit.words import holds_words, words_of

_log = logging.getLogger("claude_max_audit")

SETTLE_SECONDS = 2.0
"""How long a search waits for the process's own entries before it says they are missing."""

EXPORT_FORMATS = ("jsonl", "json", "csv", "parquet", "jsonl.zst", "json.zst", "csv.zst")
"""What an export may be written as."""


def search(
    trail: Trail,
    query: Mapping[str, Any],
    time_range: tuple[Any, Any] | None,
    limit: int,
    offset: int,
) -> AuditQueryResult:
    """Ask every tier that the trail uses; raises `TypeError`, `ValueError` for a bad query."""
    asked = parse_query(query, time_range)
    check_page(limit, offset)
    started = perf_counter()
    missing = _settle(trail)
    hot = _answering(trail, missing)
    if trail.uses_cold_tier:
        try:
            found = trail.cold_tier("searching the archive").search(asked, limit, offset, hot)
        except PlatformMissingError as absent:
            _log.warning("only Redis is searched: %s", absent)
            missing.append(f"lake: {absent}")
            found = _search_hot(hot, asked, limit, offset)
    else:
        found = _search_hot(hot, asked, limit, offset)
    missing.extend(found.missing)
    return AuditQueryResult(
        entries=found.entries,
        total_count=found.total_count,
        query_time_ms=(perf_counter() - started) * 1000,
        source=found.source,
        complete=found.complete and not missing,
        missing=tuple(missing),
    )


def export(
    trail: Trail,
    swarm_id: str | None,
    format: str,
    start: datetime | date | None,
    end: datetime | date | None,
    output_path: str | Path | None,
) -> str:
    """Export one swarm's trail, or all; raises when a part of it cannot be read."""
    if format not in EXPORT_FORMATS:
        raise ValueError(f"format {format!r} is unknown; known are {', '.join(EXPORT_FORMATS)}")
    query = parse_query({} if swarm_id is None else {"swarm_id": swarm_id}, (start, end))
    trail.flush()
    path = None if output_path is None else Path(output_path)
    cold = trail.cold_tier("exporting")
    return str(cold.export(query, format, path, trail.hot))


def metrics(trail: Trail) -> PerformanceMetrics:
    """Return the figures; what a store that is away would have told is 0, with a note."""
    notes: list[str] = []
    accepted, written, spooled, dropped = trail.counts
    rate, agents, hot_entries, cross_swarm, cold_entries = 0.0, 0, 0, 0, 0
    if trail.hot is not None:
        try:
            figures = trail.hot.figures(datetime.now(UTC))
            rate = figures.entries_last_minute / 60
            agents, hot_entries = figures.active_agents, figures.entries
            cross_swarm = figures.cross_swarm_messages
        except AuditError as away:
            notes.append(str(away))
    if trail.uses_cold_tier:
        try:
            cold_entries = trail.cold_tier("counting the archive").count()
        except AuditError as away:
            notes.append(str(away))
    return PerformanceMetrics(
        messages_per_second=rate,
        avg_log_latency_ms=trail.mean_latency_ms,
        active_agents=agents,
        total_entries_hot=hot_entries,
        total_entries_cold=cold_entries,
        cross_swarm_messages=cross_swarm,
        accepted=accepted,
        spooled=spooled,
        written=written,
        dropped=dropped,
        batch_queue=spooled,
        degraded=trail.degraded_by is not None,
        notes=tuple(notes),
    )


def citation_of(trail: Trail, entry_id: str) -> str:
    """Return a stored entry's citation; raises `KeyError` for an id that no tier holds."""
    missing = _settle(trail)
    hot = _answering(trail, missing)
    if hot is not None:
        found = hot.find([entry_id]).get(entry_id)
        if found is not None:
            return found.citation
    if trail.uses_cold_tier:
        archived = trail.cold_tier("looking up archived entries").find(entry_id)
        if archived is not None:
            return archived.citation
    unseen = f" (not searched: {'; '.join(missing)})" if missing else ""
    raise KeyError(f"no entry {entry_id!r} in the trail{unseen}")


def archive(trail: Trail, days_old: int) -> int:
    """Archive the days that ended `days_old` days ago or earlier; 0 takes the open one too."""
    _check_days("days_old", days_old)
    trail.flush()
    if trail.hot is None:
        return 0  # Without Redis, entries went to the lake as they were written.
    now = datetime.now(UTC)
    older_than = now - timedelta(days=days_old) if days_old else None
    return trail.cold_tier("archiving").archive(trail.hot, older_than)


def purge(trail: Trail, older_than_days: int | None) -> int:
    """Purge what is past its retention, by calendar years unless days are named."""
    if older_than_days is not None:
        _check_days("older_than_days", older_than_days)
    return trail.cold_tier("purging").purge(older_than_days, trail.hot)


def _settle(trail: Trail) -> list[str]:
    """Wait a moment for this process's own entries; returns what is missing without them."""
    if not trail.pending:
        return []
    try:
        trail.flush(SETTLE_SECONDS)
    except AuditError as away:
        return [f"spool: {away}"]
    return []


def _answering(trail: Trail, missing: list[str]) -> HotStore | None:
    """Return the hot store if it answers; else note that its days are missing."""
    if trail.hot is None:
        return None
    try:
        trail.hot.ping()
    except AuditError as away:
        missing.append(f"redis: {away}")
        return None
    return trail.hot


def _search_hot(hot: HotStore | None, query: Query, limit: int, offset: int) -> AuditQueryResult:
    """Ask Redis alone; words are looked for in its newest entries."""
    if hot is None:
        return AuditQueryResult([], 0, 0.0, "redis")
    if query.text is None:
        page = hot.page(query, limit, offset)
        return AuditQueryResult(list(page.entries), page.total, 0.0, "redis")
    wanted = words_of(query.text)
    seen = 0
    found: list[AuditEntry] = []
    missing: tuple[str, ...] = ()
    for chunk in hot.scan(query.without_text()):
        room = HOT_TEXT_ENTRIES - seen
        found.extend(entry for entry in chunk[:room] if holds_words(entry, wanted))
        seen += len(chunk)
        if seen > HOT_TEXT_ENTRIES:
            missing = (f"redis: words were looked for in the newest {HOT_TEXT_ENTRIES} entries",)
            break
    return AuditQueryResult(
        found[offset : offset + limit], len(found), 0.0, "redis", not missing, missing
    )


def _check_days(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of days, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
