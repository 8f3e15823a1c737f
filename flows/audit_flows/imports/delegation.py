"""Which subagent was given which task: read from the session that gave it.

A subagent's prompt and its result stand twice: in the parent's transcript, as a call and
its result, and as the first and last words of the subagent's own. The parent's copy is the
one that counts, because it names the call. This index tells what the parent holds, and
which kind of agent a subagent's bare id belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from audit_flows.imports.line_reader import LINE_BYTES, parse_line
from audit_flows.imports.tool_calls import DELEGATING, delegate_name

_CALL_MARKS = tuple(f'"{name}"'.encode() for name in sorted(DELEGATING))


@dataclass(slots=True)
class Delegation:
    """One task: who got it, and what the parent's transcript holds of prompt and result.

    `agent_id` is known once the result is there; results are kept as SHA-256 of each block.
    """

    agent_name: str | None
    prompt: bytes
    agent_id: str | None = None
    results: list[bytes] = field(default_factory=list)


class DelegationIndex:
    """Delegations of sessions, each session's file read once, when first asked for.

    Reading is one pass that parses only the lines that matter; a delegation is kept as
    hashes, so that thousands of sessions fit.
    """

    def __init__(self) -> None:
        self._held: dict[Path, list[Delegation]] = {}

    def of_session(self, path: Path) -> list[Delegation]:
        """Return what the session file at `path` delegated; nothing when it is not there."""
        if path not in self._held:
            self._held[path] = list(read_delegations(path))
        return self._held[path]


def read_delegations(path: Path) -> Iterator[Delegation]:
    """Yield the delegations of one session file, with their results where it has them."""
    if not path.is_file():
        return
    open_calls: dict[str, Delegation] = {}
    with path.open("rb") as file:
        while text := file.readline(LINE_BYTES):
            if not _matters(text, open_calls):
                continue
            event = parse_line(text)
            if event is None:
                continue
            for block in content_blocks(event):
                if block.get("type") == "tool_use" and block.get("name") in DELEGATING:
                    open_calls[str(block.get("id"))] = _given(block)
                elif block.get("type") == "tool_result":
                    call = open_calls.pop(str(block.get("tool_use_id")), None)
                    if call is not None:
                        yield _with_result(call, block, event)
    yield from open_calls.values()


def content_blocks(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content blocks of a transcript line's message; none for plain text."""
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def fingerprint(text: str) -> bytes:
    """Return what two copies of one text have in common, whatever space is around them."""
    return sha256(text.strip().encode("utf-8", "replace")).digest()


def _matters(text: bytes, open_calls: dict[str, Delegation]) -> bool:
    if any(mark in text for mark in _CALL_MARKS):
        return True
    return b'"tool_result"' in text and any(call.encode() in text for call in open_calls)


def _given(block: dict[str, Any]) -> Delegation:
    given = block.get("input")
    given = given if isinstance(given, dict) else {}
    return Delegation(delegate_name(given), fingerprint(str(given.get("prompt", ""))))


def _with_result(
    call: Delegation, block: dict[str, Any], event: dict[str, Any]
) -> Delegation:
    outcome = event.get("toolUseResult")
    if isinstance(outcome, dict) and isinstance(outcome.get("agentId"), str):
        call.agent_id = outcome["agentId"]
    content = block.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    call.results = [
        fingerprint(part["text"])
        for part in parts
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return call
