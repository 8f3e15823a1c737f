"""An auditor for import tests that checks entries like the real one and keeps them here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from claude_max_audit.entry import AuditEntry
from claude_max_audit.recorder import Recorder, new_writer_id
from claude_max_audit.vocabulary import AuditEntryType


class RecordingAuditor:
    """Has the `sync.record` of the real auditor, with its checks, and no store."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self._recorder = Recorder(new_writer_id())

    @property
    def sync(self) -> RecordingAuditor:
        return self

    def record(self, /, entry_type: AuditEntryType, agent_id: str, **fields: Any) -> str:
        entry = self._recorder.make(entry_type, agent_id, **fields)
        self.entries.append(entry)
        return entry.entry_id

    def known(self, ids: Sequence[str]) -> set[str]:
        return set(ids) & {entry.entry_id for entry in self.entries}

    @property
    def only(self) -> AuditEntry:
        (entry,) = self.entries
        return entry


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """Write a JSON-lines file; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    return path


def neutral_event(**given: Any) -> dict[str, Any]:
    """Return a valid neutral event with some fields replaced."""
    return {
        "source": "some-system",
        "session": "session-1",
        "seq": 0,
        "timestamp": "2025-11-30T12:00:00.123Z",
        "from_agent": "worker",
        "to_agent": "coordinator",
        "swarm": "red",
        "kind": "message",
        "message_type": "inform",
        "operation": None,
        "content": "The build is green.",
        "size_bytes": 19,
        "metadata": {},
    } | given
