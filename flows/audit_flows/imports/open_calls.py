"""Tool calls that wait for their result, and the lines that wait with them.

An access to context is measured by its result, which stands on a later line. Its draft is
completed when the result comes, or at the end of the file without one. Memory is bounded
by the calls that are open at once. A call id that comes twice belongs to its last call;
the earlier one waits for the end of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from audit_flows.imports.draft import Draft, Found
from audit_flows.imports.tool_calls import ToolCall

PREVIEW_CHARACTERS = 400
"""How much of a result stays with the access: enough to recognise what was read."""


@dataclass(slots=True)
class WaitingLine:
    """A line whose drafts are not all complete: those in `waits` need their result."""

    found: Found
    drafts: list[Draft]
    waits: set[int] = field(default_factory=set)

    def complete(self) -> Found:
        """Return the line with its drafts as they are now."""
        return replace(self.found, drafts=tuple(self.drafts))


@dataclass(slots=True)
class _OpenCall:
    call: ToolCall
    line: WaitingLine
    at: int | None


class OpenCalls:
    """The calls of one file that have no result yet, by their id."""

    def __init__(self) -> None:
        self._open: dict[str, _OpenCall] = {}
        self._waiting: dict[int, WaitingLine] = {}

    def add(self, call: ToolCall, line: WaitingLine, at: int | None) -> None:
        """Remember `call`; `at` is its access among the line's drafts, None for a message."""
        self._open[call.tool_use_id] = _OpenCall(call, line, at)
        if at is not None:
            line.waits.add(at)
            self._waiting[line.found.line] = line

    def call(self, tool_use_id: str) -> ToolCall | None:
        """Return the open call of that id, if there is one."""
        held = self._open.get(tool_use_id)
        return held.call if held else None

    def close(self, tool_use_id: str, outcome: str, text: str) -> Found | None:
        """Complete the call's access with its result; return its line if that made it whole.

        `outcome` is ok, error or refused. A read is as large as what it returned; what an
        update, a write or a delete touched is as large as its input.
        """
        held = self._open.pop(tool_use_id, None)
        if held is None or held.at is None:
            return None
        draft = held.line.drafts[held.at]
        notes: dict[str, Any] = {"outcome": outcome}
        if outcome == "ok" and text:
            notes["result_preview"] = text[:PREVIEW_CHARACTERS]
        held.line.drafts[held.at] = replace(
            draft,
            size_bytes=len(text.encode()) if draft.operation == "read" else draft.size_bytes,
            metadata={**draft.metadata, **notes},
        )
        held.line.waits.discard(held.at)
        if held.line.waits:
            return None
        del self._waiting[held.line.found.line]
        return held.line.complete()

    def at_end(self) -> Iterator[Found]:
        """Yield the lines that still wait, their accesses marked as without a result."""
        for line in self._waiting.values():
            for at in line.waits:
                draft = line.drafts[at]
                line.drafts[at] = replace(
                    draft, metadata={**draft.metadata, "outcome": "unknown"}
                )
            yield line.complete()
        self._open.clear()
        self._waiting.clear()
