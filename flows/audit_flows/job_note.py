"""What a row of the job table says in a few words: its error, or the details that tell something.

For people only: the UI's history and `claude-audit history`. The whole is in the table.
"""

from __future__ import annotations

from typing import Any

from audit_flows.links import FLOW_RUN, REPORT
from audit_storage.jobs import JobRecord
from audit_storage.overview import NARROWED

NOTE_CHARACTERS = 120
"""Longest note; the whole of it is in the job table and the run's log."""

_NOT_NOTED = frozenset(
    {
        "at_most",
        "checks",
        "files",
        "folder",
        "holds",
        "lake_version",
        "policy_sha256",
        "repeated",
        "report",
        "snapshot",
        FLOW_RUN,
        NARROWED,
        REPORT,
    }
)
"""Details that are for the job table only: they say nothing at a glance."""


def note(record: JobRecord, *, without: frozenset[str] = frozenset()) -> str:
    """Return the error's first line, or the details that say something, but for `without`."""
    if record.error:
        text = record.error.splitlines()[0]
    else:
        text = ", ".join(
            f"{key.replace('_', ' ')}: {_plain(value)}"
            for key, value in record.details.items()
            if value and key not in _NOT_NOTED and key not in without
        )
    return text if len(text) <= NOTE_CHARACTERS else text[: NOTE_CHARACTERS - 1] + "…"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
