"""Claude Code transcripts: the sessions under ~/.claude/projects, subagents' files too.

One file is one session or one subagent of it; one line is one part of what was said. The
mapping is in `docs/import.md`. Lines are read one by one, and each comes out once: with its
drafts, or with the reason why it says nothing that an audit trail keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit_flows.imports.block_text import block_text
from audit_flows.imports.delegation import DelegationIndex, content_blocks
from audit_flows.imports.draft import Draft, Found
from audit_flows.imports.event_time import StandInClock, TimestampFault
from audit_flows.imports.line_origin import LineOrigin, line_origin, text_of
from audit_flows.imports.line_reader import Line, read_lines
from audit_flows.imports.open_calls import OpenCalls, WaitingLine
from audit_flows.imports.subagents import Subagent, Subagents, project_folder
from audit_flows.imports.tool_calls import ToolCall
from audit_flows.imports.tool_results import outcome_of, result_drafts
from audit_flows.imports.utterance import (
    queued_prompt,
    spoken,
    summed_up,
    system_said,
    thought,
    told_to_speaker,
)
from claude_max_audit.vocabulary import MessageType

SPEAKING = frozenset({"user", "assistant", "system", "summary", "attachment"})
"""Line types that may give entries."""

BOOKKEEPING = frozenset(
    {
        "agent-name", "ai-title", "custom-title", "file-history-snapshot", "last-prompt",
        "permission-mode", "pr-link", "progress", "queue-operation", "tag",
    }
)  # fmt: skip
"""Line types that the program writes for itself; what they show stands on other lines."""

MERGED = "result of a context access, merged into its call"
NOTHING_SAID = "no text and no call"
UNKNOWN_TYPE = "unknown line type"
OWN_PROMPT = "subagent's prompt, already in the parent's file"
OWN_RESULT = "subagent's result, already in the parent's file"
"""Reasons for passing a line over, beside those of `line_reader` and `event_time`."""


class _PassedOver(Exception):
    """A line gives no entry; the message is the reason."""


def read_transcript(path: Path, clock: StandInClock, index: DelegationIndex) -> Iterator[Found]:
    """Yield what each line of one transcript gives; raises `OSError` if it cannot be read.

    A line with an access to context comes when the access's result was read, so the order
    may differ from the file's; the entries' times do not.
    """
    reader = _TranscriptReader(path, clock, index)
    for line in read_lines(path):
        yield from reader.take(line)
    yield from reader.calls.at_end()


class _TranscriptReader:
    """Reads one file; holds the calls that wait for a result and the subagents that spoke."""

    def __init__(self, path: Path, clock: StandInClock, index: DelegationIndex) -> None:
        self.calls = OpenCalls()
        self._path = path
        self._project = project_folder(path)
        self._clock = clock
        self._subagents = Subagents(path, index)

    def take(self, line: Line) -> Iterator[Found]:
        """Yield the lines that are whole once `line` is read."""
        try:
            waiting, completed, merged = self._read(line)
        except (_PassedOver, TimestampFault) as reason:
            yield Found(line.number, line.size, passed_over=str(reason))
            return
        yield from completed
        if waiting.drafts:
            if not waiting.waits:
                yield waiting.complete()
            return
        yield Found(line.number, line.size, passed_over=MERGED if merged else NOTHING_SAID)

    def _read(self, line: Line) -> tuple[WaitingLine, list[Found], bool]:
        """Return the line, the earlier ones it completed, and whether it held a result."""
        event = _speaking_event(line)
        subagent = self._subagents.speaking(event)
        origin = line_origin(line, event, self._path, self._project, self._clock, subagent)
        timed = origin.own_time is not None
        waiting = WaitingLine(Found(line.number, line.size, timed=timed), [])
        completed: list[Found] = []
        merged = False
        kind = event["type"]
        if kind == "user":
            waiting.drafts += _told(origin, event, subagent)
        elif kind == "system":
            waiting.drafts += system_said(origin, event)
        elif kind == "summary":
            waiting.drafts += _summary(origin, event)
        elif kind == "attachment":
            waiting.drafts += _queued(origin, event)
        for at, block in enumerate(content_blocks(event)):
            block_kind = str(block.get("type"))
            if block_kind.endswith("tool_result"):
                merged = True
                completed += self._close(origin, block, str(at), waiting.drafts)
            elif kind == "assistant":
                self._say(origin, event, block, at, waiting, subagent)
        if kind == "assistant" and not content_blocks(event):
            waiting.drafts += _plain(origin, event)
        return waiting, completed, merged

    def _say(
        self, origin: LineOrigin, event: dict[str, Any], block: dict[str, Any], at: int,
        waiting: WaitingLine, subagent: Subagent | None,
    ) -> None:  # fmt: skip
        """Add what one block of the speaker's says."""
        kind = block.get("type")
        if kind in ("tool_use", "server_tool_use"):
            self._call(origin, block, str(at), waiting)
        elif kind == "thinking" and (text := text_of(block, "thinking")):
            waiting.drafts.append(thought(origin, text, str(at)))
        elif kind == "text" and (text := text_of(block, "text")):
            if subagent is not None and subagent.repeats_result(text):
                if len(content_blocks(event)) == 1:
                    raise _PassedOver(OWN_RESULT)
                return
            waiting.drafts += spoken(origin, event, text, str(at))

    def _call(
        self, origin: LineOrigin, block: dict[str, Any], part: str, waiting: WaitingLine
    ) -> None:
        given = block.get("input")
        call = ToolCall(
            text_of(block, "name") or "unknown",
            text_of(block, "id") or f"{waiting.found.line}:{part}",
            given if isinstance(given, dict) else {},
        )
        operation = call.operation
        if operation is None:
            waiting.drafts.append(
                origin.message(
                    origin.speaker,
                    call.addressee,
                    MessageType.REQUEST,
                    call.text,
                    part,
                    **call.notes,
                )
            )
            self.calls.add(call, waiting, None)
            return
        waiting.drafts.append(
            origin.access(
                operation, call.addressee, call.text, call.input_bytes, part, **call.notes
            )
        )
        self.calls.add(call, waiting, len(waiting.drafts) - 1)

    def _close(
        self, origin: LineOrigin, block: dict[str, Any], part: str, drafts: list[Draft]
    ) -> list[Found]:
        """Take a result: add its own drafts, return the line that it completed."""
        tool_use_id = str(block.get("tool_use_id"))
        result = block_text(block.get("content"))
        failed = block.get("is_error") is True
        call = self.calls.call(tool_use_id) or ToolCall("unknown", tool_use_id, {})
        completed = self.calls.close(tool_use_id, outcome_of(failed, result.text), result.text)
        drafts += result_drafts(origin, call, result, failed, part)
        return [completed] if completed else []


def _speaking_event(line: Line) -> dict[str, Any]:
    """Return the line's object if it may give entries, else raise with the reason."""
    if line.event is None:
        raise _PassedOver(line.fault or NOTHING_SAID)
    kind = line.event.get("type")
    if kind in SPEAKING:
        return line.event
    raise _PassedOver(f"{kind} line" if kind in BOOKKEEPING else UNKNOWN_TYPE)


def _told(
    origin: LineOrigin, event: dict[str, Any], subagent: Subagent | None
) -> list[Draft]:
    """Return the words on a user line; its blocks of text are one message."""
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = [b for b in content if not _is_result(b)]
    said = block_text(content)
    if not said.text.strip():
        return []
    if subagent is not None and subagent.repeats_prompt(said.text):
        if any(map(_is_result, content_blocks(event))):
            return []
        raise _PassedOver(OWN_PROMPT)
    return [told_to_speaker(origin, event, said, "told")]


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and str(block.get("type")).endswith("tool_result")


def _plain(origin: LineOrigin, event: dict[str, Any]) -> list[Draft]:
    """Return the speaker's words where they are plain text, not blocks."""
    message = event.get("message")
    text = text_of(message, "content") if isinstance(message, dict) else None
    return spoken(origin, event, text, "0") if text else []


def _summary(origin: LineOrigin, event: dict[str, Any]) -> list[Draft]:
    text = text_of(event, "summary")
    return [summed_up(origin, text)] if text else []


def _queued(origin: LineOrigin, event: dict[str, Any]) -> list[Draft]:
    attachment = event.get("attachment")
    if not isinstance(attachment, dict) or attachment.get("type") != "queued_command":
        raise _PassedOver("attachment line")
    said = block_text(attachment.get("prompt"))
    return [queued_prompt(origin, event, attachment, said)] if said.text.strip() else []
