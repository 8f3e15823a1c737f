"""What a tool call is in the trail: an access to context, a delegation, or a request.

The table of the mapping, without state. Tools that only look at context read it, tools
that change it update, write or delete it; calls of other agents and questions to the human
are messages to them; every other tool is itself a partner, addressed as `tool:<name>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audit_flows.imports.block_text import compact_json
from claude_max_audit.vocabulary import OperationType

DELEGATING = frozenset({"Task", "Agent"})
"""Tools that hand a task to a subagent; the second is the newer name of the first."""

PLAN = "ExitPlanMode"
QUESTION = "AskUserQuestion"
HUMAN = "human"

_READ = (
    "Read", "NotebookRead", "Grep", "Glob", "LS", "WebFetch", "WebSearch", "BashOutput",
    "TodoRead", "TaskGet", "TaskList", "TaskOutput", "LSP",
    "ListMcpResourcesTool", "ReadMcpResourceTool",
)  # fmt: skip
_UPDATE = ("Edit", "MultiEdit", "NotebookEdit", "TodoWrite", "TaskUpdate")
_WRITE = ("Write", "TaskCreate")

OPERATIONS = (
    dict.fromkeys(_READ, OperationType.READ)
    | dict.fromkeys(_UPDATE, OperationType.UPDATE)
    | dict.fromkeys(_WRITE, OperationType.WRITE)
)
"""Tools that touch context, and what they do to it."""

_TARGETS = ("file_path", "notebook_path", "path", "url", "pattern", "query")
"""Input fields that name what was touched, the most telling first."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: the tool's name, its id within the conversation, and its input."""

    name: str
    tool_use_id: str
    given: dict[str, Any]

    @property
    def operation(self) -> OperationType | None:
        """What the call does to context, or None when it is a message."""
        if self.name == "Bash" and self._command.split()[:1] == ["rm"]:
            return OperationType.DELETE
        return OPERATIONS.get(self.name)

    @property
    def addressee(self) -> str:
        """Who gets the call: a subagent, the human, or the tool."""
        if self.name in DELEGATING:
            return f"subagent:{delegate_name(self.given) or 'agent'}"
        return HUMAN if self.name in (PLAN, QUESTION) else f"tool:{self.name}"

    @property
    def target(self) -> str | None:
        """What the call touches: a file, a folder, an address, or the pattern looked for."""
        for name in _TARGETS:
            if isinstance(value := self.given.get(name), str) and value:
                return value
        return None

    @property
    def text(self) -> str:
        """The call as a reader of the trail sees it."""
        if self.operation is not None:
            return f"{self.name} {compact_json(self.given)}"
        if self.name in DELEGATING:
            parts = (self.given.get("description"), self.given.get("prompt"))
            return "\n\n".join(str(part) for part in parts if part)
        if self.name == PLAN and "plan" in self.given:
            return f"Plan for approval:\n{self.given['plan']}"
        if self.name == "Bash" and self._command:
            purpose = self.given.get("description")
            return f"{self._command}\n# {purpose}" if purpose else self._command
        return compact_json(self.given)

    @property
    def input_bytes(self) -> int:
        """Bytes of the input as JSON: what an update or a write brings with it."""
        return len(compact_json(self.given).encode())

    @property
    def notes(self) -> dict[str, Any]:
        """What the metadata of the call's entry says of the tool."""
        notes: dict[str, Any] = {"tool": self.name, "tool_use_id": self.tool_use_id}
        if self.operation is not None:
            notes["target"] = self.target
        if self.name in DELEGATING and isinstance(self.given.get("subagent_type"), str):
            notes["subagent_type"] = self.given["subagent_type"]
        return notes

    @property
    def _command(self) -> str:
        command = self.given.get("command")
        return command if isinstance(command, str) else ""


def delegate_name(given: dict[str, Any]) -> str | None:
    """Return a subagent's given name or its type, from a delegating call's input."""
    for key in ("name", "subagent_type"):
        if isinstance(value := given.get(key), str) and value.strip():
            return value
    return None
