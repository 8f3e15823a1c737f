"""Which subagent speaks on a line, and whether the parent's file already holds its words.

A subagent's transcript lies in a file of its own, `agent-<id>.jsonl` beside the session's
or in `<session>/subagents/`; older sessions hold it inline, as side chains. A name is the
task's name or type with the id behind it, `agent-<id>` where the parent does not tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit_flows.imports.block_text import block_text
from audit_flows.imports.delegation import Delegation, DelegationIndex, fingerprint

_PREFIX = "agent-"
_FOLDER = "subagents"
_INLINE_ID_CHARACTERS = 8


@dataclass(slots=True)
class Subagent:
    """One subagent: its id, its task's name, and what the parent's file holds of it."""

    agent_id: str
    task_name: str | None = None
    prompts: set[bytes] = field(default_factory=set)
    results: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How the subagent is called in the trail."""
        return f"subagent:{self.task_name or 'agent'}-{self.agent_id}"

    @property
    def notes(self) -> dict[str, Any]:
        """What the metadata of its entries says beside its id."""
        return {"agent_type": self.task_name} if self.task_name else {}

    def repeats_prompt(self, text: str) -> bool:
        """Say whether the parent's file holds this prompt."""
        return fingerprint(text) in self.prompts

    def repeats_result(self, text: str) -> bool:
        """Say whether the parent's file holds this result; each of its results counts once."""
        mark = fingerprint(text)
        if mark in self.results:
            self.results.remove(mark)
            return True
        return False


class Subagents:
    """The subagents that speak in one file."""

    def __init__(self, path: Path, index: DelegationIndex) -> None:
        self._path = path
        self._index = index
        self._known: dict[str, Subagent] = {}
        self._inline_ids: dict[str, str] = {}

    def speaking(self, event: dict[str, Any]) -> Subagent | None:
        """Return the subagent whose transcript the line belongs to, None for the session's."""
        own_file = self._path.stem.startswith(_PREFIX)
        if event.get("isSidechain") is not True and not own_file:
            return None
        agent_id = event.get("agentId")
        if not isinstance(agent_id, str) or not agent_id.strip():
            agent_id = (
                self._path.stem.removeprefix(_PREFIX) if own_file else self._inline_id(event)
            )
        if agent_id not in self._known:
            self._known[agent_id] = self._introduced(agent_id, event)
        return self._known[agent_id]

    def _inline_id(self, event: dict[str, Any]) -> str:
        """Return the id of a side chain: the start of its first line's uuid."""
        uuid, parent = str(event.get("uuid")), str(event.get("parentUuid"))
        root = self._inline_ids.get(parent, uuid[:_INLINE_ID_CHARACTERS])
        self._inline_ids[uuid] = root
        return root

    def _introduced(self, agent_id: str, event: dict[str, Any]) -> Subagent:
        held = self._index.of_session(session_file(self._path, event))
        own = [task for task in held if task.agent_id == agent_id]
        if not own:
            own = [task for task in held if _first_words(event) == task.prompt]
        return _subagent(agent_id, own)


def _subagent(agent_id: str, tasks: list[Delegation]) -> Subagent:
    names = [task.agent_name for task in tasks if task.agent_name]
    return Subagent(
        agent_id,
        names[0] if names else None,
        {task.prompt for task in tasks},
        [mark for task in tasks for mark in task.results],
    )


def _first_words(event: dict[str, Any]) -> bytes:
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return fingerprint(block_text(content).text)


def session_file(path: Path, event: dict[str, Any]) -> Path:
    """Return where the session lies to which a line of `path` belongs."""
    if path.parent.name == _FOLDER:
        session = path.parent.parent
        return session.parent / f"{session.name}.jsonl"
    session_id = event.get("sessionId")
    named = isinstance(session_id, str) and session_id == Path(session_id).name
    if path.stem.startswith(_PREFIX) and named:
        return path.parent / f"{session_id}.jsonl"
    return path


def project_folder(path: Path) -> str:
    """Return the name of the project's folder, in either layout."""
    folder = path.parent
    return (folder.parent.parent if folder.name == _FOLDER else folder).resolve().name
