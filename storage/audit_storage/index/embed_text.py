"""What of an entry the index reads: one text for its meaning, one for its words.

Pure functions, called by the index for entries of the lake and of Redis alike. Both texts
begin with who did what to whom, since an entry's own content seldom says it; measured, such
a header lifts recall by a fifth. Long content is neither split nor shortened in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import is_cross_swarm
from claude_max_audit.vocabulary import UNKNOWN_SWARM

CROSS_SWARM_WORD: Final = "cross_swarm"
"""Stands among the words of every entry that went between two swarms."""

_SNAKE: Final = re.compile(r"\w*_\w*")
"""A word with underscores: an id, an event type, a name in code."""


def meaning_text(entry: AuditEntry) -> str:
    """Return what is embedded: a header, then the content, or the metadata where there is none.

    Header: type, kind (message type, operation, decision or event type, severity), sender,
    addressee, swarms.
    """
    metadata = entry.metadata
    body = entry.content or ", ".join(f"{_spaced(k)} {v}" for k, v in _leaves(metadata) if v)
    return f"{_header(entry, metadata)}: {body}"


def words_text(entry: AuditEntry) -> str:
    """Return what is indexed by word: names, swarms, kinds, content, metadata.

    Words with underscores stand once as they are and once in parts, so that both
    `haiku_worker_def456` and `haiku` find the agent. Of an entry without content the
    metadata's keys are words too; of others only those keys whose value is true.
    """
    metadata = entry.metadata
    closed = (entry.entry_type, entry.message_type, entry.operation, entry.severity)
    named = [entry.agent_id, entry.to_agent, *entry.swarm_ids, entry.session_id, entry.content]
    for key, value in _leaves(metadata):
        if value == "true" or not entry.content:
            named.append(key)
        named.append(value)
    open_text = "\n".join(text for text in named if text)
    if is_cross_swarm(entry):
        open_text += f"\n{CROSS_SWARM_WORD}"
    joined = sorted(set(_SNAKE.findall(open_text)))
    parts = (word.replace("_", " ") for word in joined)
    return "\n".join([*(word.value for word in closed if word), open_text, *parts])


def _header(entry: AuditEntry, metadata: dict[str, Any]) -> str:
    kinds = (
        entry.entry_type,
        entry.message_type,
        entry.operation,
        metadata.get("decision_type"),
        metadata.get("event_type"),
        entry.severity,
    )
    words = [str(kind) for kind in kinds if isinstance(kind, str)]
    words += ["from", entry.agent_id]
    if entry.to_agent:
        words += ["to", entry.to_agent]
    swarms = [swarm for swarm in entry.swarm_ids if swarm != UNKNOWN_SWARM]
    if swarms:
        words += ["in", " and ".join(swarms)]
    return " ".join(words)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key and text, number or truth of the metadata, depth first.

    Flags that are false or null say that something is not so: they are left out, lest a
    search for the flag finds them.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    elif isinstance(value, str):
        yield key, value
    elif value is True:
        yield key, "true"
    elif isinstance(value, int | float) and value is not False:
        yield key, str(value)


def _spaced(name: str) -> str:
    return name.replace("_", " ")
