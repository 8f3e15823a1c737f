"""Words of an entry, for text queries over what only Redis holds, without the platform.

An entry matches when every word of the query is one of its words or stands inside one. The
platform's index ranks by meaning as well; this is what remains without it.
"""

from __future__ import annotations

import re

from claude_max_audit.entry import AuditEntry

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of `text`, folded to one case."""
    return _WORD.findall(text.casefold())


def searchable_text(entry: AuditEntry) -> str:
    """Return everything of an entry in which people look for words."""
    parts = (
        entry.entry_type,
        entry.agent_id,
        entry.to_agent,
        *entry.swarm_ids,
        entry.message_type,
        entry.operation,
        entry.severity,
        entry.session_id,
        entry.content,
        bytes(entry.metadata_json).decode(),
    )
    return " ".join(part for part in parts if part)


def holds_words(entry: AuditEntry, wanted: list[str]) -> bool:
    """Say whether every wanted word (already folded) stands in the entry."""
    folded = searchable_text(entry).casefold()
    return all(word in folded for word in wanted)
