"""The mapping tables of docs/import.md name every tool, line type, reason and event type."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_flows.imports import claude_code, importer, line_reader, refusals, tool_calls
from claude_max_audit.vocabulary import AuditEntryType

DOCS = Path(__file__).resolve().parents[1] / "docs" / "import.md"

REASONS = [
    line_reader.NOT_JSON,
    line_reader.NOT_AN_OBJECT,
    line_reader.NOT_UTF8,
    line_reader.BLANK,
    line_reader.CUT_OFF.split(":")[0] + ":",
    line_reader.TOO_LONG,
    importer.NO_KNOWN_FORM,
    importer.REPEATED,
    claude_code.MERGED,
    claude_code.NOTHING_SAID,
    claude_code.UNKNOWN_TYPE,
    claude_code.OWN_PROMPT,
    claude_code.OWN_RESULT.split(",")[0],
]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_stands_in_the_docs(reason: str) -> None:
    assert f"`{reason}" in DOCS.read_text()


@pytest.mark.parametrize(
    "word",
    sorted(
        {
            *tool_calls.OPERATIONS,
            *tool_calls.DELEGATING,
            tool_calls.PLAN,
            tool_calls.QUESTION,
            *claude_code.BOOKKEEPING,
            *(kind.value for kind in AuditEntryType),
            refusals.UNAUTHORIZED,
            refusals.RATE_LIMIT,
            refusals.AUTH_FAILURE,
        }
    ),
)
def test_every_tool_line_type_and_kind_stands_in_the_docs(word: str) -> None:
    assert word in DOCS.read_text()
