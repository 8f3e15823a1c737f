"""Neutral events: JSON lines with one event of any agent system on each.

The form: source, session, seq (unique with the two before it), timestamp (ISO 8601 or
null), from_agent, to_agent, swarm, kind, message_type, operation, content, size_bytes and
metadata. Values are kept as the source states them, also times known to be wrong. An event
that breaks the form is passed over with the reason; it is never bent into shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from audit_flows.imports.draft import Draft, Found
from audit_flows.imports.draft_id import draft_id
from audit_flows.imports.event_time import (
    TIMESTAMP_SOURCE,
    StandInClock,
    TimestampFault,
    parse_timestamp,
)
from audit_flows.imports.line_reader import Line, read_lines
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    SecuritySeverity,
)

MARKS = frozenset({"source", "session", "seq", "kind", "from_agent"})
"""Keys by which a line is known to be a neutral event."""

_TEXT_OR_NULL = ("to_agent", "swarm", "content", "message_type", "operation")
Word = TypeVar("Word", AuditEntryType, MessageType, OperationType, SecuritySeverity)


class EventFault(ValueError):
    """An event breaks the form; the message is the reason."""


def read_neutral(path: Path, clock: StandInClock) -> Iterator[Found]:
    """Yield what each line of a file of neutral events gives, in the file's order."""
    for line in read_lines(path):
        if line.event is None:
            yield Found(line.number, line.size, passed_over=line.fault)
            continue
        try:
            draft, timed = _draft(line, line.event, clock)
        except (EventFault, TimestampFault) as fault:
            yield Found(line.number, line.size, passed_over=str(fault))
        else:
            yield Found(line.number, line.size, (draft,), timed=timed)


def _draft(line: Line, event: dict[str, Any], clock: StandInClock) -> tuple[Draft, bool]:
    _check_types(event)
    kind = _word("kind", event.get("kind"), AuditEntryType)
    own_time = parse_timestamp(event.get("timestamp"))
    metadata = _metadata(line, event, None if own_time else clock.mark)
    from_swarm, to_swarm = _swarms(kind, event, metadata)
    return Draft(
        entry_type=kind,
        agent_id=event["from_agent"],
        entry_id=draft_id(own_time, "event", event["source"], event["session"], event["seq"]),
        content=event.get("content"),
        swarm_id=event.get("swarm"),
        from_swarm=from_swarm,
        to_swarm=to_swarm,
        to_agent=event.get("to_agent"),
        message_type=_needed(kind, AuditEntryType.MESSAGE, event, "message_type", MessageType),
        operation=_needed(
            kind, AuditEntryType.CONTEXT_ACCESS, event, "operation", OperationType
        ),
        session_id=event["session"],
        size_bytes=event.get("size_bytes"),
        severity=_severity(kind, metadata),
        metadata=metadata,
        timestamp=own_time or clock.next(),
    ), own_time is not None


def _check_types(event: dict[str, Any]) -> None:
    for name in ("source", "session", "from_agent"):
        value = event.get(name)
        if value is None or value == "":
            raise EventFault(f"{name} is missing")
        if not isinstance(value, str):
            raise EventFault(f"{name} is not text")
    if not _is_whole(event.get("seq")):
        raise EventFault("seq is not a whole number")
    for name in _TEXT_OR_NULL:
        if not isinstance(event.get(name), str | None):
            raise EventFault(f"{name} is neither text nor null")
    if not _is_whole(event.get("size_bytes", 0)) and event["size_bytes"] is not None:
        raise EventFault("size_bytes is not a whole number")
    if not isinstance(event.get("metadata"), dict | None):
        raise EventFault("metadata is not an object")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _word(name: str, value: Any, known: type[Word]) -> Word:
    try:
        return known(value)
    except ValueError:
        raise EventFault(f"{name} is {'missing' if value is None else 'unknown'}") from None


def _needed(
    kind: AuditEntryType,
    needed_by: AuditEntryType,
    event: dict[str, Any],
    name: str,
    known: type[Word],
) -> Word | None:
    """Return the word under `name`; only entries of the kind `needed_by` must have it."""
    if event.get(name) is None and kind is not needed_by:
        return None
    return _word(name, event.get(name), known)


def _metadata(line: Line, event: dict[str, Any], stand_in: str | None) -> dict[str, Any]:
    """The event's own metadata, verbatim, with `source` and `seq` flat beside it.

    Should the event's own metadata use one of our names, its value moves to `displaced`.
    """
    own: dict[str, Any] = event.get("metadata") or {}
    ours: dict[str, Any] = {"source": event["source"], "seq": event["seq"]}
    if stand_in:
        ours[TIMESTAMP_SOURCE] = stand_in
    if line.mended:
        ours["mended"] = "lone surrogates replaced by U+FFFD"
    displaced = {name: own[name] for name in ours if name in own and own[name] != ours[name]}
    return {**own, **ours, **({"displaced": displaced} if displaced else {})}


def _swarms(
    kind: AuditEntryType, event: dict[str, Any], metadata: dict[str, Any]
) -> tuple[str | None, str | None]:
    """Sender's and addressee's swarm of a message that crosses from one to the other."""
    start, end = event.get("swarm"), metadata.get("to_swarm")
    crosses = kind is AuditEntryType.MESSAGE and isinstance(end, str) and start and end
    return (start, str(end)) if crosses and start != end else (None, None)


def _severity(kind: AuditEntryType, metadata: dict[str, Any]) -> SecuritySeverity | None:
    """A security event's severity, which the form keeps in the metadata."""
    if kind is not AuditEntryType.SECURITY_EVENT:
        return None
    return _word("severity", metadata.get("severity"), SecuritySeverity)
