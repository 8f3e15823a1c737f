"""What is said on a transcript line: by the human, the agent, or the program itself.

Each function gives one draft of what was said, or several where a refusal of the service
is both an error message and a security event. Tool calls and results are elsewhere.
"""

from __future__ import annotations

from typing import Any

from audit_flows.imports.block_text import BlockText, compact_json
from audit_flows.imports.draft import Draft
from audit_flows.imports.line_origin import SYSTEM, LineOrigin, text_of
from audit_flows.imports.refusals import INTERRUPTED, Refusal, refusal_of_request
from claude_max_audit.vocabulary import MessageType

_TOLD_NOT_ASKED = ("<command-", "<local-command-", INTERRUPTED)
"""How texts begin that the program writes in the human's name."""

_NOTIFICATION = "<task-notification>"
_BY_PROGRAM = ("isMeta", "isCompactSummary")
_SYNTHETIC = "<synthetic>"
_ENVELOPE = frozenset(
    {
        "content", "cwd", "gitBranch", "isMeta", "isSidechain", "level", "parentUuid",
        "sessionId", "slug", "subtype", "timestamp", "toolUseID", "type", "userType", "uuid",
        "version",
    }
)  # fmt: skip
"""Fields of a system line that are not what it says."""


def told_to_speaker(
    origin: LineOrigin, event: dict[str, Any], said: BlockText, part: str, **notes: Any
) -> Draft:
    """Return the principal's words to the speaker, or the program's in the user's place."""
    notes |= said.notes
    by_program = any(event.get(mark) is True for mark in _BY_PROGRAM)
    if by_program or said.text.startswith(_NOTIFICATION):
        return origin.message(
            SYSTEM, origin.speaker, MessageType.INFORM, said.text, part, **notes
        )
    asked = not said.text.startswith(_TOLD_NOT_ASKED)
    kind = MessageType.REQUEST if asked else MessageType.INFORM
    return origin.message(origin.principal, origin.speaker, kind, said.text, part, **notes)


def queued_prompt(
    origin: LineOrigin, event: dict[str, Any], attachment: dict[str, Any], said: BlockText
) -> Draft:
    """Return what the human typed while the agent worked; it stands on no other line."""
    by_program = attachment.get("commandMode") == "task-notification"
    shown = {**event, "isMeta": by_program or attachment.get("isMeta") is True}
    return told_to_speaker(origin, shown, said, "0", queued=True)


def spoken(origin: LineOrigin, event: dict[str, Any], text: str, part: str) -> list[Draft]:
    """Return the speaker's words to its principal; an API error is an error message."""
    if not _is_api_error(event, text):
        return [
            origin.message(origin.speaker, origin.principal, MessageType.RESPONSE, text, part)
        ]
    error, status = event.get("error"), event.get("apiErrorStatus")
    message = origin.message(
        origin.speaker, origin.principal, MessageType.ERROR, text, part, is_error=True
    )
    refusal = refusal_of_request(error, status, text)
    return [message, *_security(origin, refusal, text, part, {"error": error, "status": status})]


def thought(origin: LineOrigin, text: str, part: str) -> Draft:
    """Return the speaker's thinking, which is addressed to nobody."""
    return origin.message(
        origin.speaker, None, MessageType.INFORM, text, part, block="thinking"
    )


def system_said(origin: LineOrigin, event: dict[str, Any]) -> list[Draft]:
    """Return what the program tells the speaker; a failed request is an error message."""
    subtype = event.get("subtype")
    notes = {name: event[name] for name in ("subtype", "level") if name in event}
    text = text_of(event, "content") or f"{subtype or 'system'}: {compact_json(_rest(event))}"
    failed = subtype == "api_error"
    message = origin.message(
        SYSTEM,
        origin.speaker,
        MessageType.ERROR if failed else MessageType.INFORM,
        text,
        "0",
        **notes,
    )
    if not failed:
        return [message]
    cause = event.get("error")
    status = cause.get("status") if isinstance(cause, dict) else None
    refusal = refusal_of_request(None, status, text)
    return [message, *_security(origin, refusal, text, "0", {"status": status})]


def summed_up(origin: LineOrigin, summary: str) -> Draft:
    """Return a session's summary, which is addressed to nobody."""
    return origin.message(
        SYSTEM, None, MessageType.INFORM, summary, "0", rule="session summary"
    )


def _is_api_error(event: dict[str, Any], text: str) -> bool:
    if event.get("isApiErrorMessage") is True:
        return True
    message = event.get("message")
    by_program = isinstance(message, dict) and message.get("model") == _SYNTHETIC
    return by_program and (text.startswith("API Error") or "limit reached" in text)


def _security(
    origin: LineOrigin, refusal: Refusal | None, text: str, part: str, facts: dict[str, Any]
) -> list[Draft]:
    if refusal is None:
        return []
    details = {name: value for name, value in facts.items() if value is not None}
    details["refused_by"] = refusal.refused_by
    return [
        origin.security_event(
            refusal.event_type, refusal.severity, text, f"{part}:security", details
        )
    ]


def _rest(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in _ENVELOPE}
