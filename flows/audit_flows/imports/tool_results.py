"""What a tool's result is in the trail: an answer, an error, a decision or a refusal.

The result of an access to context completes the access and is no entry of its own, unless
it failed. A human's no is kept twice, for the two questions asked of a trail: as a decision
of the human and as a security event about the agent that was refused.
"""

from __future__ import annotations

from typing import Any

from audit_flows.imports.block_text import BlockText
from audit_flows.imports.draft import Draft
from audit_flows.imports.line_origin import LineOrigin
from audit_flows.imports.refusals import (
    BY_HUMAN,
    Refusal,
    interrupted_by_human,
    refusal_of_call,
    rejected_by_human,
)
from audit_flows.imports.tool_calls import HUMAN, PLAN, QUESTION, ToolCall
from claude_max_audit.vocabulary import MessageType


def outcome_of(failed: bool, text: str) -> str:
    """Return ok, error or refused."""
    if not failed:
        return "ok"
    refused = refusal_of_call(text) or interrupted_by_human(text)
    return "refused" if refused else "error"


def result_drafts(
    origin: LineOrigin, call: ToolCall, result: BlockText, failed: bool, part: str
) -> list[Draft]:
    """Return the entries of one result; none for that of an access that went well."""
    notes: dict[str, Any] = {
        "tool": call.name,
        "tool_use_id": call.tool_use_id,
        **result.notes,
        **({"is_error": True} if failed else {}),
    }
    decision = _decision(origin, call, result.text, failed, part, notes)
    refusal = refusal_of_call(result.text) if failed else None
    drafts = [decision] if decision else []
    if decision is None and (failed or call.operation is None):
        kind = MessageType.ERROR if failed else MessageType.RESPONSE
        drafts.append(
            origin.message(call.addressee, origin.speaker, kind, result.text, part, **notes)
        )
    if refusal is not None:
        drafts.append(_refused(origin, call, result.text, refusal, f"{part}:security"))
    return drafts


def _decision(
    origin: LineOrigin, call: ToolCall, text: str, failed: bool, part: str, notes: dict[str, Any]
) -> Draft | None:
    """The human's decision that a result tells, if it tells one."""
    if failed and rejected_by_human(text):
        kind, rationale = "tool_use_rejected", f"{call.name}: {text}"
    elif failed and interrupted_by_human(text):
        kind, rationale = "tool_use_interrupted", f"{call.name}: {text}"
    elif call.name == PLAN and not failed:
        kind, rationale = "plan_approved", text
    elif call.name == QUESTION and not failed:
        kind, rationale = "question_answered", text
    else:
        return None
    return origin.decision(HUMAN, kind, rationale, part, **notes)


def _refused(
    origin: LineOrigin, call: ToolCall, text: str, refusal: Refusal, part: str
) -> Draft:
    details = {
        "tool": call.name,
        "tool_use_id": call.tool_use_id,
        "target": call.target or call.text[:200],
        "refused_by": refusal.refused_by,
    }
    content = text if refusal is not BY_HUMAN else f"{call.name}: {text}"
    return origin.security_event(refusal.event_type, refusal.severity, content, part, details)
