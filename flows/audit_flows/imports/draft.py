"""A draft: what one imported event says, before the auditor makes an entry of it.

Readers of files make drafts; `import_path` hands them to the auditor. A draft is a frozen
value: it reads no clock and no store, and it never names who imports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    SecuritySeverity,
)

_REFUSED_IN_IDS = re.compile(r"[\x00-\x1f\x7f*?\[\]\\]")
"""What the auditor refuses in ids: control characters and Redis' glob characters."""

_IDENTIFIERS = (
    "agent_id", "from_agent", "to_agent", "swarm_id", "from_swarm", "to_swarm", "session_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The arguments of `auditor.sync.record` for one entry; None means not given.

    `entry_id` is made from the event's source, so that the same event always has the same
    id. `timestamp` is aware UTC. `size_bytes` is what the source says, or the bytes of the
    context that was touched.
    """

    entry_type: AuditEntryType
    agent_id: str
    entry_id: str
    timestamp: datetime
    content: str | None = None
    swarm_id: str | None = None
    from_swarm: str | None = None
    to_swarm: str | None = None
    to_agent: str | None = None
    message_type: MessageType | None = None
    operation: OperationType | None = None
    session_id: str | None = None
    size_bytes: int | None = None
    severity: SecuritySeverity | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments to record this draft with, without the empty ones.

        A message's agent is also its `from_agent`, as with `log_message`. Characters that no
        id may hold are percent-encoded here, and `encoded_ids` in the metadata keeps each id
        as the source wrote it.
        """
        given = {
            name: value for name in _FIELDS if (value := getattr(self, name)) is not None
        }
        if self.entry_type is AuditEntryType.MESSAGE:
            given["from_agent"] = self.agent_id
        unsafe = {n: given[n] for n in _IDENTIFIERS if n in given and not _is_safe(given[n])}
        if unsafe:
            given |= {name: percent_encoded(text) for name, text in unsafe.items()}
            given["metadata"] = {**self.metadata, "encoded_ids": unsafe}
        return given


_FIELDS = tuple(f.name for f in fields(Draft))


def percent_encoded(identifier: str) -> str:
    """Return `identifier` with refused characters as `%` and their UTF-8 bytes in hex."""
    return _REFUSED_IN_IDS.sub(lambda found: f"%{ord(found[0]):02X}", identifier)


def _is_safe(identifier: str) -> bool:
    return _REFUSED_IN_IDS.search(identifier) is None


@dataclass(frozen=True, slots=True)
class Found:
    """What one line of one file gave: drafts, or the reason why it was passed over.

    Every line is found exactly once. A line whose tool call waits for its result comes
    later than its neighbours; `size` (bytes with the line's end) adds up to the file's.
    """

    line: int
    size: int
    drafts: tuple[Draft, ...] = ()
    passed_over: str | None = None
    timed: bool = True
    """False when the source gives no time and the drafts' time is the import's."""
