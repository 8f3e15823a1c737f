"""A hold reaches what only Redis has: entries that would expire without an archive stay.

`claude-audit hold place` calls it after the hold itself is durable. With a cold tier no entry in
Redis expires before it was read back from the lake, where the hold keeps it, and nothing is left
to do here. Auditors with `storage_backend="redis"` give an entry its expiry at once.
"""

from __future__ import annotations

from audit_storage.lake.lake import Lake
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query


def keep_in_redis(lake: Lake, hot: HotStore, query: Query) -> int:
    """Take the expiry from every match that the lake lacks; returns how many had one.

    May be repeated. What comes later expires as before, unless an archive runs in time.
    """
    kept = 0
    for entries in hot.scan(query):
        archived = lake.existing([entry.entry_id for entry in entries])
        kept += hot.keep([entry for entry in entries if entry.entry_id not in archived])
    return kept
