"""Real events as sealed entries, for tests that need a trail of several days."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from claude_max_audit.entry import AuditEntry
from claude_max_audit.recorder import Recorder

_COPIED = ("content", "to_agent", "message_type", "operation", "size_bytes", "metadata")


def real_days(realdata: Path, source: str) -> dict[date, list[AuditEntry]]:
    """Return the timed events of one source by UTC day, oldest day first."""
    days: dict[date, list[AuditEntry]] = {}
    for entry in _entries(realdata / "events" / f"{source}.jsonl"):
        days.setdefault(entry.day, []).append(entry)
    return dict(sorted(days.items()))


def _entries(path: Path) -> Iterator[AuditEntry]:
    recorder = Recorder("real-events")
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["timestamp"]:
                yield _entry(recorder, event)


def _entry(recorder: Recorder, event: dict[str, Any]) -> AuditEntry:
    made = recorder.make(
        event["kind"],
        event["from_agent"],
        timestamp=datetime.fromisoformat(event["timestamp"]).astimezone(UTC),
        swarm_id=event["swarm"],
        session_id=event["session"],
        from_agent=event["from_agent"] if event["kind"] == "message" else None,
        **{name: event[name] for name in _COPIED},
    )
    return AuditEntry.from_json(made.to_json())
