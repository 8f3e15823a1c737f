"""Claude Code transcripts: the mapping, line by line, on made-up and on real sessions."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from datetime import datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from audit_flows.imports import ImportReport, import_path, read_path
from audit_flows.imports.claude_code import MERGED, NOTHING_SAID, OWN_PROMPT, OWN_RESULT
from claude_max_audit.entry import AuditEntry
from import_recorder import RecordingAuditor, write_lines

REJECTED = "The user doesn't want to proceed with this tool use. The tool use was rejected."


class Session:
    """Writes a made-up session line by line and imports it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "-home-x-garden"
        self.lines: list[Any] = []
        self._number = count(1)

    def line(self, type_: str, content: Any = None, **given: Any) -> dict[str, Any]:
        number = next(self._number)
        made = {
            "type": type_,
            "uuid": f"00000000-0000-4000-8000-{number:012d}",
            "sessionId": "s1",
            "cwd": "/home/x/garden",
            "timestamp": f"2025-11-30T12:00:{number:02d}.000Z",
            "isSidechain": False,
            "version": "2.0.42",
        } | given
        if content is not None:
            made["message"] = {"role": type_, "content": content}
        self.lines.append(made)
        return made

    def call(self, name: str, tool_use_id: str = "t1", **given: Any) -> dict[str, Any]:
        block = {"type": "tool_use", "id": tool_use_id, "name": name, "input": given}
        return self.line("assistant", [block])

    def result(
        self, content: Any, tool_use_id: str = "t1", is_error: bool = False, **more: Any
    ) -> dict[str, Any]:
        block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": content}
        return self.line("user", [block | ({"is_error": True} if is_error else {})], **more)

    def imported(self) -> tuple[list[AuditEntry], ImportReport]:
        write_lines(self.folder / "s1.jsonl", self.lines)
        auditor = RecordingAuditor()
        report = import_path(auditor, self.folder, known=auditor.known)
        assert report.accounted_for
        return sorted(auditor.entries, key=lambda entry: entry.timestamp), report


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def shape(entry: AuditEntry) -> tuple[Any, ...]:
    """Who to whom, what, and with which words."""
    kind = entry.message_type or entry.operation or entry.severity
    if entry.entry_type == "decision":
        kind = entry.metadata["decision_type"]
    return (entry.entry_type, entry.agent_id, entry.to_agent, kind, entry.content)


def test_words_thoughts_and_the_programs_notes(session: Session) -> None:
    session.line("user", "Water the roses.")
    session.line("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    session.line("assistant", [{"type": "thinking", "thinking": "Which roses?"}])
    session.line("assistant", [{"type": "text", "text": "All of them."}])
    session.line("user", "Caveat: local commands follow.", isMeta=True)
    session.line("user", "<command-name>/clear</command-name>")
    session.line("user", "[Request interrupted by user]")
    session.line("system", content=None, subtype="hook", level="info", hooks=["wet"])
    entries, report = session.imported()
    assert [shape(entry) for entry in entries] == [
        ("message", "human", "claude", "request", "Water the roses."),
        ("message", "human", "claude", "request", "a\nb"),
        ("message", "claude", None, "inform", "Which roses?"),
        ("message", "claude", "human", "response", "All of them."),
        ("message", "system", "claude", "inform", "Caveat: local commands follow."),
        ("message", "human", "claude", "inform", "<command-name>/clear</command-name>"),
        ("message", "human", "claude", "inform", "[Request interrupted by user]"),
        ("message", "system", "claude", "inform", 'hook: {"hooks": ["wet"]}'),
    ]
    assert {entry.swarm_id for entry in entries} == {"garden"}
    assert {entry.session_id for entry in entries} == {"s1"}
    assert report.passed_over == {}


def test_a_prompt_typed_while_the_agent_works_stands_only_on_an_attachment_line(
    session: Session,
) -> None:
    queued = {"type": "queued_command", "prompt": "Also the lilies.", "commandMode": "prompt"}
    session.line("queue-operation", operation="enqueue", content="Also the lilies.")
    session.line("attachment", attachment=queued)
    session.line("attachment", attachment=queued | {"commandMode": "task-notification"})
    session.line("attachment", attachment={"type": "todo_reminder", "items": []})
    entries, report = session.imported()
    assert [shape(entry)[1:4] for entry in entries] == [
        ("human", "claude", "request"),
        ("system", "claude", "inform"),
    ]
    assert report.passed_over == {"queue-operation line": 1, "attachment line": 1}


@pytest.mark.parametrize(
    ("tool", "given", "operation", "target"),
    [
        ("Read", {"file_path": "/a"}, "read", "/a"),
        ("Grep", {"pattern": "x", "path": "src"}, "read", "src"),
        ("WebFetch", {"url": "https://example.org/"}, "read", "https://example.org/"),
        ("Edit", {"file_path": "/a", "old_string": "x", "new_string": "y"}, "update", "/a"),
        ("TodoWrite", {"todos": []}, "update", None),
        ("Write", {"file_path": "/a", "content": "zoë"}, "write", "/a"),
        ("TaskCreate", {"subject": "x"}, "write", None),
        ("Bash", {"command": "  rm -r build"}, "delete", None),
    ],
)
def test_an_access_is_one_entry_with_its_result(
    session: Session, tool: str, given: dict[str, Any], operation: str, target: str | None
) -> None:
    session.call(tool, **given)
    session.line("assistant", [{"type": "text", "text": "Meanwhile."}])
    session.result("täxt")
    (access, _), report = session.imported()
    text = json.dumps(given, ensure_ascii=False)
    assert shape(access) == (
        "context_access", "claude", f"tool:{tool}", operation, f"{tool} {text}",
    )  # fmt: skip
    size = 5 if operation == "read" else len(text.encode())
    assert (access.size_bytes, access.metadata["target"]) == (size, target)
    assert (access.metadata["outcome"], access.metadata["result_preview"]) == ("ok", "täxt")
    assert report.passed_over == {MERGED: 1}


def test_an_access_that_fails_is_also_an_error_of_the_tool(session: Session) -> None:
    session.call("Edit", file_path="/a")
    session.result("String to replace not found.", is_error=True)
    entries, _ = session.imported()
    assert [shape(entry)[:4] for entry in entries] == [
        ("context_access", "claude", "tool:Edit", "update"),
        ("message", "tool:Edit", "claude", "error"),
    ]
    assert entries[0].metadata["outcome"] == "error"


def test_an_access_without_a_result_comes_at_the_end_of_the_file(session: Session) -> None:
    session.call("Read", file_path="/a")
    session.call("Read", file_path="/b")
    entries, report = session.imported()
    assert [entry.metadata["outcome"] for entry in entries] == ["unknown", "unknown"]
    assert report.lines_with_entries == 2


def test_other_tools_are_asked_and_answer(session: Session) -> None:
    session.call("Bash", command="ls", description="List files")
    session.result("a\nb")
    session.call("mcp__x__go", "t2", n=1)
    session.result([{"type": "text", "text": "no"}], "t2", is_error=True)
    entries, _ = session.imported()
    assert [shape(entry) for entry in entries] == [
        ("message", "claude", "tool:Bash", "request", "ls\n# List files"),
        ("message", "tool:Bash", "claude", "response", "a\nb"),
        ("message", "claude", "tool:mcp__x__go", "request", '{"n": 1}'),
        ("message", "tool:mcp__x__go", "claude", "error", "no"),
    ]


def test_plans_and_questions_are_decided_by_the_human(session: Session) -> None:
    session.call("ExitPlanMode", plan="1. Dig.")
    session.result("User has approved your plan.")
    session.call("AskUserQuestion", "t2", questions=[])
    session.result("Roses", "t2")
    session.call("Bash", "t3", command="dig")
    session.result("[Request interrupted by user for tool use]", "t3", is_error=True)
    entries, _ = session.imported()
    assert [shape(entry) for entry in entries if entry.agent_id == "human"] == [
        ("decision", "human", "claude", "plan_approved", "User has approved your plan."),
        ("decision", "human", "claude", "question_answered", "Roses"),
        (
            "decision", "human", "claude", "tool_use_interrupted",
            "Bash: [Request interrupted by user for tool use]",
        ),
    ]  # fmt: skip
    assert shape(entries[0])[2:] == ("human", "request", "Plan for approval:\n1. Dig.")


def test_a_humans_no_is_a_decision_and_a_security_event(session: Session) -> None:
    session.call("Edit", file_path="/a")
    session.result(REJECTED, is_error=True)
    access, decision, event = session.imported()[0]
    assert access.metadata["outcome"] == "refused"
    assert shape(decision)[:4] == ("decision", "human", "claude", "tool_use_rejected")
    assert shape(event)[:4] == ("security_event", "claude", None, "low")
    assert event.metadata["event_type"] == "unauthorized_access"
    assert event.metadata["details"] == {
        "tool": "Edit", "tool_use_id": "t1", "target": "/a", "refused_by": "human",
    }  # fmt: skip
    assert event.entry_id != decision.entry_id


@pytest.mark.parametrize(
    "text",
    [
        "Permission to use Bash with command curl x has been denied.",
        "Claude requested permissions to use Bash, but you haven't granted it yet.",
        "<tool_use_error>File is in a directory that is denied by your permission settings."
        "</tool_use_error>",
        "Denied by PermissionRequest hook",
    ],
)
def test_what_a_permission_rule_refuses_is_a_security_event(
    session: Session, text: str
) -> None:
    session.call("Bash", command="curl x")
    session.result(text, is_error=True)
    entries, _ = session.imported()
    assert [shape(entry)[:4] for entry in entries[1:]] == [
        ("message", "tool:Bash", "claude", "error"),
        ("security_event", "claude", None, "medium"),
    ]
    assert entries[2].metadata["event_type"] == "unauthorized_access"


@pytest.mark.parametrize(
    "text", ["cat: /etc/shadow: Permission denied", "We said: Permission to use x was denied"]
)
def test_talk_of_permissions_in_a_tools_output_is_no_security_event(
    session: Session, text: str
) -> None:
    session.call("Bash", command="cat /etc/shadow")
    session.result(text, is_error=True)
    assert {entry.entry_type for entry in session.imported()[0]} == {"message"}


@pytest.mark.parametrize(
    ("text", "given", "event_type", "severity"),
    [
        ("You've hit your limit", {"error": "rate_limit"}, "rate_limit_violation", "medium"),
        ("Claude AI usage limit reached|1764504000", {}, "rate_limit_violation", "medium"),
        ("API Error: 429 Too many requests", {}, "rate_limit_violation", "medium"),
        ("x", {"apiErrorStatus": 401}, "auth_failure", "high"),
        ("Invalid API key · Please run /login", {}, "auth_failure", "high"),
        ("API Error: 529 Overloaded", {}, None, None),
        ("rate limit? no", {"error": "server_error"}, None, None),
    ],
)
def test_what_the_service_refuses_is_an_error_and_a_security_event(
    session: Session,
    text: str,
    given: dict[str, Any],
    event_type: str | None,
    severity: str | None,
) -> None:
    session.line(
        "assistant", [{"type": "text", "text": text}], isApiErrorMessage=True, **given
    )
    entries, _ = session.imported()
    assert shape(entries[0])[:4] == ("message", "claude", "human", "error")
    told = [(entry.metadata["event_type"], entry.severity) for entry in entries[1:]]
    assert told == ([] if event_type is None else [(event_type, severity)])


def test_an_agent_that_talks_about_limits_meets_none(session: Session) -> None:
    session.line("assistant", [{"type": "text", "text": "You hit your rate limit (429)."}])
    (entry,), _ = session.imported()
    assert shape(entry)[:4] == ("message", "claude", "human", "response")


def test_a_failed_request_on_a_system_line_is_an_error(session: Session) -> None:
    session.line("system", subtype="api_error", error={"status": 429}, retryInMs=500)
    message, event = session.imported()[0]
    assert shape(message)[:4] == ("message", "system", "claude", "error")
    assert event.metadata["event_type"] == "rate_limit_violation"


def test_an_image_is_described_and_never_stored(session: Session) -> None:
    picture = bytes(range(256)) * 20
    data = b64encode(picture).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    session.line("user", [{"type": "image", "source": source}, {"type": "text", "text": "See"}])
    session.call("Bash", command="x")
    session.result([{"type": "image", "source": source}])
    entries, _ = session.imported()
    digest = sha256(picture).hexdigest()
    for entry in (entries[0], entries[2]):
        assert entry.content is not None
        assert f"image/png, 5120 bytes, SHA-256 {digest}" in entry.content
        assert entry.metadata["left_out"] == [
            {
                "kind": "image", "media_type": "image/png", "encoding": "base64",
                "bytes": 5120, "sha256": digest,
            }
        ]  # fmt: skip
        assert data[:40] not in entry.to_json()


def subagent(session: Session, flat: bool, **given: Any) -> Path:
    """Write the transcript of the subagent a1 and return where it lies."""
    lines = Session(session.folder.parent)
    frame = {"isSidechain": True, "agentId": "a1", **given}
    lines.line("user", "Count the roses.", **frame)
    lines.line("assistant", [{"type": "text", "text": "Counting."}], **frame)
    lines.line("assistant", [{"type": "text", "text": "Seven."}], **frame)
    for number, line in enumerate(lines.lines):
        line["uuid"] = f"sub-{number}"
    folder = session.folder if flat else session.folder / "s1" / "subagents"
    return write_lines(folder / "agent-a1.jsonl", lines.lines)


@pytest.mark.parametrize("flat", [True, False])
def test_a_subagents_prompt_and_result_count_once(session: Session, flat: bool) -> None:
    task = {"description": "Count", "prompt": "Count the roses.", "subagent_type": "Explore"}
    session.call("Task", **task)
    answer = [{"type": "text", "text": "Seven."}, {"type": "text", "text": "agentId: a1"}]
    session.result(answer, toolUseResult={"agentId": "a1"})
    path = subagent(session, flat)
    entries, report = session.imported()
    assert Counter(shape(entry) for entry in entries) == Counter(
        [
            (
                "message", "claude", "subagent:Explore", "request",
                "Count\n\nCount the roses.",
            ),
            ("message", "subagent:Explore", "claude", "response", "Seven.\nagentId: a1"),
            ("message", "subagent:Explore-a1", "claude", "response", "Counting."),
        ]
    )  # fmt: skip
    assert report.passed_over == {OWN_PROMPT: 1, OWN_RESULT: 1}
    alone = [found for _, found in read_path(path)]
    assert [found.passed_over for found in alone] == [OWN_PROMPT, None, OWN_RESULT]


def test_only_as_many_words_are_passed_over_as_the_parent_holds(session: Session) -> None:
    session.call("Task", prompt="Count the roses.")
    session.result("Counting.", toolUseResult={"agentId": "a1"})
    path = subagent(session, True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    write_lines(path, [*lines, lines[1] | {"uuid": "sub-again"}])
    entries, report = session.imported()
    assert report.passed_over == {OWN_PROMPT: 1, OWN_RESULT: 1}
    assert [e.content for e in entries].count("Counting.") == 2, "the parent's and one of two"


def test_a_subagent_whose_parent_is_not_there_keeps_its_prompt(session: Session) -> None:
    subagent(session, True, sessionId="another")
    entries, report = session.imported()
    assert [shape(entry)[1:4] for entry in entries] == [
        ("claude", "subagent:agent-a1", "request"),
        ("subagent:agent-a1", "claude", "response"),
        ("subagent:agent-a1", "claude", "response"),
    ]
    assert report.passed_over == {}


def test_a_side_chain_inside_its_session_is_a_subagent(session: Session) -> None:
    session.call("Task", prompt="Count the roses.", subagent_type="Explore")
    first = session.line("user", "Count the roses.", isSidechain=True, parentUuid=None)
    first["uuid"] = "abcdef01-0000-4000-8000-000000000000"
    session.line(
        "assistant",
        [{"type": "text", "text": "Counting."}],
        isSidechain=True,
        parentUuid=first["uuid"],
    )
    session.result("Seven.")
    entries, report = session.imported()
    assert [shape(entry)[1:3] for entry in entries] == [
        ("claude", "subagent:Explore"),
        ("subagent:Explore-abcdef01", "claude"),
        ("subagent:Explore", "claude"),
    ]
    assert report.passed_over == {OWN_PROMPT: 1}


def test_a_session_id_cannot_lead_out_of_the_folder(session: Session) -> None:
    subagent(session, True, sessionId="../../outside")
    given = {"prompt": "Count the roses."}
    task = {"type": "tool_use", "id": "t", "name": "Task", "input": given}
    outside = {"type": "assistant", "uuid": "o", "message": {"content": [task]}}
    write_lines(session.folder.parent.parent / "outside.jsonl", [outside])
    _, report = session.imported()
    assert report.passed_over == {}


def test_a_line_copied_into_another_session_counts_once(session: Session) -> None:
    line = session.line("user", "Water the roses.")
    write_lines(session.folder / "s2.jsonl", [line | {"sessionId": "s2"}])
    entries, report = session.imported()
    assert len(entries) == 1
    assert sum(report.passed_over.values()) == 1


def test_summaries_have_no_time_of_their_own(session: Session) -> None:
    session.lines.append({"type": "summary", "summary": "Roses", "leafUuid": "l1"})
    session.lines.append({"type": "summary", "summary": "Roses", "leafUuid": "l2"})
    entries, report = session.imported()
    assert [shape(entry) for entry in entries] == [
        ("message", "system", None, "inform", "Roses")
    ] * 2
    assert {entry.swarm_id for entry in entries} == {"-home-x-garden"}
    assert {entry.metadata["timestamp_source"] for entry in entries} == {"import"}
    assert report.untimed == 2


def test_lines_of_one_response_share_its_message_id(session: Session) -> None:
    for text in ("One.", "Two."):
        line = session.line("assistant", [{"type": "text", "text": text}])
        line["message"] |= {"id": "msg_1", "model": "m", "usage": {"output_tokens": 5}}
    entries, _ = session.imported()
    assert {entry.metadata["message_id"] for entry in entries} == {"msg_1"}
    assert len({entry.entry_id for entry in entries}) == 2


def test_blank_text_and_hidden_thinking_say_nothing(session: Session) -> None:
    session.line("assistant", [{"type": "text", "text": "\n\n"}])
    session.line("assistant", [{"type": "thinking", "thinking": "", "signature": "x"}])
    session.line("user", " ")
    session.line("weather", "sunny")
    session.line("progress", data={})
    entries, report = session.imported()
    assert entries == []
    assert report.passed_over == {NOTHING_SAID: 3, "unknown line type": 1, "progress line": 1}


def test_windows_folders_name_the_swarm_too(session: Session) -> None:
    session.line("user", "Hello", cwd="C:\\work\\garden [new]")
    (entry,), _ = session.imported()
    assert entry.swarm_id == "garden %5Bnew%5D"


def test_real_transcripts_are_accounted_for_to_the_last_line(realdata: Path) -> None:
    folder = realdata / "raw" / "cclog"
    files = sorted(folder.rglob("*.jsonl"))
    lines = sum(file.read_bytes().count(b"\n") for file in files)
    auditor = RecordingAuditor()
    report = import_path(auditor, folder, known=auditor.known)
    assert report.accounted_for
    assert (report.files, report.empty_files, report.lines) == (len(files), 2, lines)
    assert report.passed_over == {
        MERGED: 123,
        "queue-operation line": 15,
        "progress line": 14,
        "file-history-snapshot line": 13,
        NOTHING_SAID: 6,
        OWN_PROMPT: 1,
        OWN_RESULT: 1,
    }
    assert import_path(auditor, folder, known=auditor.known).new_entries == 0


HOOK_SUMMARY = "stop_hook_summary: "
"""Ours keeps every field of these system lines, the neutral form three of them."""


def test_real_transcripts_become_what_the_neutral_events_say(realdata: Path) -> None:
    """Same sender, addressee, words, size and time for every line, but for what is listed."""
    ours: Counter[tuple[Any, ...]] = Counter()
    for file, found in read_path(realdata / "raw" / "cclog"):
        for draft in found.drafts:
            size = draft.size_bytes
            if size is None:
                size = len((draft.content or "").encode())
            stated = draft.timestamp if found.timed else None
            ours[
                file.path.name, found.line, draft.agent_id, draft.to_agent, draft.swarm_id,
                draft.session_id, draft.entry_type, draft.message_type, draft.operation,
                draft.content, size, stated,
            ] += 1  # fmt: skip
    files = {file.name for file in (realdata / "raw" / "cclog").rglob("*.jsonl")}
    theirs = neutral_shapes(realdata / "events" / "claude_code_dain.jsonl", files)
    only_ours, only_theirs = ours - theirs, theirs - ours
    security = [key for key in only_ours if key[6] == "security_event"]
    assert len(security) == 4, "one for each tool call that the human refused"
    rest = [key for key in only_ours if key not in security]
    assert len(rest) == 7
    assert all(str(key[9]).startswith(HOOK_SUMMARY) for key in rest)
    reworded = {key[:9] for key in rest}
    twice = [key for key in only_theirs if key[:9] not in reworded]
    assert [(key[0], key[1]) for key in sorted(twice, key=str)] == [
        ("agent-a2271d1.jsonl", 1),
        ("agent-a2271d1.jsonl", 59),
    ], "the prompt and the result of the one subagent that a parent's file holds as well"
    assert sum((ours & theirs).values()) == 408


def neutral_shapes(path: Path, files: set[str]) -> Counter[tuple[Any, ...]]:
    shapes: Counter[tuple[Any, ...]] = Counter()
    for text in path.read_text().splitlines():
        event = json.loads(text)
        own = event["metadata"]
        if own["file"] not in files:
            continue
        stated = event["timestamp"] and datetime.fromisoformat(event["timestamp"])
        shapes[
            own["file"], own["line"] + 1, event["from_agent"], event["to_agent"],
            event["swarm"], event["session"], event["kind"], event["message_type"],
            event["operation"], event["content"], event["size_bytes"], stated,
        ] += 1  # fmt: skip
    return shapes
