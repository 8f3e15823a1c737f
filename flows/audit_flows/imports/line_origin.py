"""Who speaks on a transcript line, to whom, in which swarm, when: the frame of its drafts.

The speaker of a session is `claude` and its principal the `human`; in a subagent's
transcript the speaker is the subagent and its principal `claude`. The swarm is the last
part of the working directory, or the project's folder name on lines that have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from audit_flows.imports.draft import Draft
from audit_flows.imports.draft_id import draft_id
from audit_flows.imports.event_time import TIMESTAMP_SOURCE, StandInClock, parse_timestamp
from audit_flows.imports.line_reader import Line
from audit_flows.imports.subagents import Subagent
from audit_flows.imports.tool_calls import HUMAN
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    SecuritySeverity,
)

SOURCE = "claude-code"
CLAUDE = "claude"
SYSTEM = "system"

_KEPT = ("uuid", "parentUuid", "version", "gitBranch", "requestId", "agentId", "permissionMode")
_USAGE = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineOrigin:
    """The frame of one line's drafts. `own_time` is None when the line states no time."""

    key: tuple[str, ...]
    session_id: str
    swarm_id: str
    speaker: str
    principal: str
    own_time: datetime | None
    timestamp: datetime
    metadata: dict[str, Any]

    def message(
        self,
        sender: str,
        addressee: str | None,
        message_type: MessageType,
        content: str,
        part: str,
        **metadata: Any,
    ) -> Draft:
        """Return a message; `part` tells the line's drafts apart (block and facet)."""
        return self._draft(
            AuditEntryType.MESSAGE,
            sender,
            part,
            metadata,
            to_agent=addressee,
            message_type=message_type,
            content=content,
        )

    def access(
        self, operation: OperationType, addressee: str, content: str, size: int, part: str,
        **metadata: Any,
    ) -> Draft:  # fmt: skip
        """Return the speaker's access to `size` bytes of context through `addressee`."""
        return self._draft(
            AuditEntryType.CONTEXT_ACCESS,
            self.speaker,
            part,
            metadata,
            to_agent=addressee,
            operation=operation,
            content=content,
            size_bytes=size,
        )

    def decision(self, agent: str, kind: str, rationale: str, part: str, **metadata: Any) -> Draft:
        """Return what `agent` decided, told to the speaker."""
        return self._draft(
            AuditEntryType.DECISION,
            agent,
            part,
            {"decision_type": kind, **metadata},
            to_agent=self.speaker,
            content=rationale,
        )

    def security_event(
        self, event_type: str, severity: SecuritySeverity, content: str, part: str,
        details: dict[str, Any],
    ) -> Draft:  # fmt: skip
        """Return a security event about the speaker."""
        return self._draft(
            AuditEntryType.SECURITY_EVENT,
            self.speaker,
            part,
            {"event_type": event_type, "details": details},
            severity=severity,
            content=content,
        )

    def _draft(
        self,
        entry_type: AuditEntryType,
        agent_id: str,
        part: str,
        metadata: dict[str, Any],
        **fields: Any,
    ) -> Draft:
        return Draft(
            entry_type=entry_type,
            agent_id=agent_id,
            entry_id=draft_id(self.own_time, *self.key, part),
            timestamp=self.timestamp,
            swarm_id=self.swarm_id,
            session_id=self.session_id,
            metadata={**self.metadata, **metadata},
            **fields,
        )


def line_origin(
    line: Line,
    event: dict[str, Any],
    path: Path,
    project: str,
    clock: StandInClock,
    subagent: Subagent | None,
) -> LineOrigin:
    """Return the frame of `event`'s drafts; raises `TimestampFault` for an unreadable time.

    `subagent` is the one that speaks, None on the session's own lines.
    """
    own_time = parse_timestamp(event.get("timestamp"))
    metadata = _metadata(line, event, path, None if own_time else clock.mark)
    return LineOrigin(
        key=_key(event),
        session_id=text_of(event, "sessionId") or path.stem,
        swarm_id=_last_part(text_of(event, "cwd")) or project,
        speaker=subagent.name if subagent else CLAUDE,
        principal=CLAUDE if subagent else HUMAN,
        own_time=own_time,
        timestamp=own_time or clock.next(),
        metadata=metadata | (subagent.notes if subagent else {}),
    )


def text_of(event: dict[str, Any], name: str) -> str | None:
    """Return the text under `name`, or None when there is none."""
    value = event.get(name)
    return value if isinstance(value, str) and value.strip() else None


def _key(event: dict[str, Any]) -> tuple[str, ...]:
    """What names the line at its source: its uuid, or what a summary sums up."""
    if uuid := text_of(event, "uuid"):
        return (SOURCE, uuid)
    names = ("type", "sessionId", "timestamp", "leafUuid", "summary")
    return (SOURCE, "", *(str(event.get(name, "")) for name in names))


def _last_part(cwd: str | None) -> str | None:
    if cwd is None:
        return None
    windows = "\\" in cwd and "/" not in cwd
    return (PureWindowsPath(cwd) if windows else PurePosixPath(cwd)).name or None


def _metadata(
    line: Line, event: dict[str, Any], path: Path, stand_in: str | None
) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "source": SOURCE,
        "file": path.name,
        "line": line.number,
        "type": event["type"],
    }
    kept |= {name: value for name in _KEPT if (value := text_of(event, name))}
    kept |= {name: True for name in ("isSidechain", "isMeta") if event.get(name) is True}
    message = event.get("message")
    if isinstance(message, dict):
        kept |= _model_notes(message)
    if stand_in:
        kept[TIMESTAMP_SOURCE] = stand_in
    if line.mended:
        kept["mended"] = "lone surrogates replaced by U+FFFD"
    return kept


def _model_notes(message: dict[str, Any]) -> dict[str, Any]:
    """Model, message id and tokens; one response's lines share a message id and its tokens."""
    notes: dict[str, Any] = {}
    if model := text_of(message, "model"):
        notes["model"] = model
    if message_id := text_of(message, "id"):
        notes["message_id"] = message_id
    usage = message.get("usage")
    if isinstance(usage, dict):
        notes["usage"] = {n: usage[n] for n in _USAGE if isinstance(usage.get(n), int)}
    return notes
