"""Search by words and meaning: the index answers for the lake, Redis for what only it holds.

Best matches first. `total_count` is what the index says it found: every entry that holds all
the words, exactly, and a bounded number of neighbours in meaning. Of the entries that only
Redis holds, the newest are read up to a bound, and the answer says when there were more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice

from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from audit_storage.layout import span_of_day
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import AuditError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span
from claude_max_audit.results import AuditQueryResult
from claude_max_audit.settings import HOT_TEXT_ENTRIES


def search_text(
    lake: Lake, hot: HotStore | None, index: EntryIndex, query: Query, limit: int, offset: int
) -> AuditQueryResult:
    """Answer a query that has words; its other filters hold as in any search."""
    assert query.text is not None
    missing: list[str] = []
    filters = query.without_text()
    fresh = _only_in_redis(lake, hot, filters, missing)
    keep = _keeper(lake, filters, {entry.entry_id for entry in fresh})
    found = index.search(query.text, query.span, keep=keep, fresh=fresh)
    missing.extend(found.missing)
    hits = [hit.entry_id for hit in islice(found, offset, offset + limit)]
    entries = {entry.entry_id: entry for entry in fresh}
    archived = [entry_id for entry_id in hits if entry_id not in entries]
    if archived:
        try:
            entries.update(lake.find(archived))
        except AuditError as away:
            missing.append(f"lake: {away}")
    return AuditQueryResult(
        [entries[entry_id] for entry_id in hits if entry_id in entries],
        found.total,
        0.0,
        "chromadb",
        not missing,
        tuple(missing),
    )


def _keeper(
    lake: Lake, filters: Query, fresh: Collection[str]
) -> Callable[[Sequence[str]], Collection[str]] | None:
    """Return what tells the index which ids fit the filters, or None when there are none."""
    if not filters.where and filters.cross_swarm is None and filters.span == Span():
        return None

    def keep(entry_ids: Sequence[str]) -> Collection[str]:
        archived = lake.find([entry_id for entry_id in entry_ids if entry_id not in fresh])
        fitting = {key for key, entry in archived.items() if filters.matches(entry)}
        return fitting | (set(entry_ids) & set(fresh))

    return keep


def _only_in_redis(
    lake: Lake, hot: HotStore | None, filters: Query, missing: list[str]
) -> list[AuditEntry]:
    """Return the newest matches that the lake does not hold, up to the bound."""
    if hot is None:
        return []
    fresh: list[AuditEntry] = []
    try:
        counts = lake.days()
        for day in sorted(hot.days(), reverse=True):
            whole = span_of_day(day)
            span = Span(max(filters.span.start, whole.start), min(filters.span.end, whole.end))
            if span.start > span.end:
                continue
            archived = lake.day_ids(day) if counts.get(day) else set()
            for chunk in hot.scan(filters.within(span)):
                fresh.extend(entry for entry in chunk if entry.entry_id not in archived)
                if len(fresh) > HOT_TEXT_ENTRIES:
                    missing.append(
                        f"redis: only the newest {HOT_TEXT_ENTRIES} entries that are not "
                        "archived yet were searched by words and meaning"
                    )
                    return fresh[:HOT_TEXT_ENTRIES]
    except AuditError as away:
        missing.append(f"redis: {away}")
    return fresh
