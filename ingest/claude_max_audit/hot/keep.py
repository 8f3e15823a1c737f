"""Takes the expiry from entries that must stay, and from every set through which they are found.

A legal hold calls it for what the lake lacks. May be repeated, beside writers too; a writer without
an archive that adds to one of the sets later gives that set, not the entry, an expiry again.
"""

from __future__ import annotations

from collections.abc import Sequence

from claude_max_audit.entry import AuditEntry, epoch_us
from claude_max_audit.hot.keys import (
    DAYS,
    KINDS,
    content_key,
    content_name,
    day_key,
    day_of,
    entry_key,
    index_keys,
    touched_key,
)
from claude_max_audit.hot.link import RedisLink


def keep(link: RedisLink, entries: Sequence[AuditEntry]) -> int:
    """Let these entries stay until an archive releases them; returns how many had an expiry.

    The sets go first: cut before the entries, the next call does the same again.
    """
    sets = {DAYS, KINDS}
    for entry in entries:
        day = day_of(epoch_us(entry.timestamp))
        content = content_key(day, content_name(entry.content_hash))
        sets |= {day_key(day), touched_key(day), content, *index_keys(entry)}
    link.ask([("PERSIST", key) for key in sorted(sets)])
    return sum(link.ask([("PERSIST", entry_key(entry.entry_id)) for entry in entries]))
