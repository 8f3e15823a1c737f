"""Every defect of a row is caught by the check that names it; whole rows raise nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import polars as pl
import pytest

from audit_quality.day_quality import check_rows
from audit_quality.report import NAMED_ROWS, CheckResult, QualityFailedError, QualityReport
from audit_quality.row_evidence import CLOSED_WORDS, KEPT_FAULTY_ROWS
from audit_quality.suite_file import SUITES, allowed_values, suite_of
from audit_storage.lake.schema import to_frame
from claude_max_audit.entry import AuditEntry
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

DAY = date(2025, 11, 30)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VICTIM = 2
"""The row that a test spoils."""

MakeEntry = Callable[..., AuditEntry]


@pytest.fixture
def entries(make_entry: MakeEntry) -> list[AuditEntry]:
    return [
        make_entry(),
        make_entry(content="A second message, with a \u00fcml\u00e4ut."),
        make_entry(entry_type="decision"),
        make_entry(entry_type="security_event"),
        make_entry(entry_type="context_access"),
        make_entry(entry_type="performance_metric"),
    ]


@pytest.fixture
def rows(entries: list[AuditEntry]) -> pl.DataFrame:
    return to_frame(entries, "archive/2025-11-30/1")


def spoiled(rows: pl.DataFrame, **cells: Any) -> pl.DataFrame:
    """Return the rows with other values in the victim's columns."""
    here = pl.int_range(pl.len()) == VICTIM
    return rows.with_columns(
        pl.when(here)
        .then(pl.lit(value, dtype=rows.schema[name]))
        .otherwise(pl.col(name))
        .alias(name)
        for name, value in cells.items()
    )


def checked(*chunks: pl.DataFrame) -> QualityReport:
    return check_rows(chunks, DAY, NOW)


def failed(rows: pl.DataFrame) -> dict[str, CheckResult]:
    return {check.name: check for check in checked(rows).failed_checks}


def test_whole_rows_pass_every_check(rows: pl.DataFrame) -> None:
    report = checked(rows[:3], rows[3:])

    assert (report.passed, report.rows, report.faulty_rows) == (True, 6, ())
    assert len(report.checks) == len(suite_of("entries")["expectations"])
    assert all(check.passed for check in report.checks)


def test_a_day_without_rows_passes() -> None:
    report = checked()

    assert (report.rows, report.passed, report.duplicated_contents) == (0, True, 0)


def test_every_expectation_says_what_it_protects_and_how_grave_it_is() -> None:
    names = []
    for suite in SUITES:
        assert suite_of(suite)["meta"]["notes"]
        for expectation in suite_of(suite)["expectations"]:
            assert len(expectation["meta"]["protects"].split()) > 4
            assert expectation["severity"] in ("critical", "warning")
            names.append(expectation["meta"]["check"])
    assert len(names) == len(set(names))


def test_the_suite_s_words_are_the_vocabulary_s() -> None:
    allowed = allowed_values("entries", {"days": []})
    kinds = (AuditEntryType, MessageType, OperationType, SecuritySeverity, Retention)
    for name, kind in zip(CLOSED_WORDS, kinds, strict=True):
        assert allowed[name] == [word.value for word in kind]


@pytest.mark.parametrize(
    ("cells", "check", "also"),
    [
        ({"agent_id": None}, "required_fields", {"entry_hash_fits"}),
        ({"metadata": None}, "required_fields", {"entry_hash_fits", "derived_words_fit"}),
        ({"citation": None}, "required_fields", {"citation_form", "citation_fits", "*"}),
        ({"citation": "if://audit/decision/not-a-uuid"}, "citation_form", {"citation_fits", "*"}),
        ({"entry_type": "message"}, "citation_fits", {"*"}),
        ({"content": "All constraints are satisfied!"}, "content_hash_fits", {"*"}),
        ({"content": "All constraints are met by far."}, "size_fits", {"content_hash_fits", "*"}),
        ({"content_hash": "0" * 64}, "content_hash_fits", {"*"}),
        ({"content_hash": None}, "content_hash_fits", {"required_fields", "*"}),
        ({"to_agent": "somebody else"}, "entry_hash_fits", set()),
        ({"metadata": '{"decision_type":"approval"}'}, "entry_hash_fits", set()),
        ({"metadata": '{"decision_type":"refusal"}'}, "derived_words_fit", {"*"}),
        ({"decision_type": "refusal"}, "derived_words_fit", set()),
        ({"size_bytes": 7}, "size_fits", {"*"}),
        ({"writer_seq": 99}, "entry_hash_fits", set()),
        ({"entry_hash": "0" * 64}, "entry_hash_fits", set()),
        ({"entry_type": "opinion"}, "known_entry_type", {"citation_fits", "*"}),
        ({"message_type": "shout"}, "known_message_type", {"*"}),
        ({"operation": "burn"}, "known_operation", {"*"}),
        ({"severity": "fatal"}, "known_severity", {"*"}),
        ({"retention": "a while"}, "known_retention", {"*"}),
        (
            {"timestamp": datetime(2025, 12, 1, tzinfo=UTC)},
            "within_day",
            {"recorded_after_it_happened", "*"},
        ),
        ({"recorded_at": NOW + timedelta(hours=1)}, "not_recorded_in_future", {"*"}),
        (
            {"recorded_at": datetime(2025, 11, 30, 11, tzinfo=UTC)},
            "recorded_after_it_happened",
            {"*"},
        ),
    ],
)
def test_a_defect_is_caught_by_the_check_that_names_it(
    rows: pl.DataFrame,
    entries: list[AuditEntry],
    cells: dict[str, Any],
    check: str,
    also: set[str],
) -> None:
    report = checked(spoiled(rows, **cells))
    found = {one.name: one for one in report.failed_checks}

    assert found[check].failures == 1
    assert found[check].entry_ids == (entries[VICTIM].entry_id,)
    # Any change at all breaks the seal as well: that is what `*` stands for.
    expected = {check} | {"entry_hash_fits" if name == "*" else name for name in also}
    assert set(found) == expected
    [faulty] = report.faulty_rows
    assert (faulty.entry_id, set(faulty.reasons)) == (entries[VICTIM].entry_id, expected)


def test_a_row_without_an_id_is_still_reported(rows: pl.DataFrame) -> None:
    assert failed(spoiled(rows, entry_id=None))["required_fields"].entry_ids == ("(no entry_id)",)


@pytest.mark.parametrize("ending", ["\n", "0", " "])
def test_a_citation_with_anything_behind_it_has_not_the_form(
    rows: pl.DataFrame, ending: str
) -> None:
    assert "citation_form" in failed(spoiled(rows, citation=rows["citation"][VICTIM] + ending))


def test_many_failures_are_counted_and_the_first_are_named(make_entry: MakeEntry) -> None:
    made = [make_entry() for _ in range(NAMED_ROWS + 5)]
    rows = to_frame(made, "s").with_columns(severity=pl.lit("fatal"))
    report = checked(rows[:10], rows[10:])
    [check] = [one for one in report.failed_checks if one.name == "known_severity"]

    assert check.failures == len(made)
    assert check.entry_ids == tuple(entry.entry_id for entry in made[:NAMED_ROWS])
    assert "and 5 more" in str(check)
    assert len(report.faulty_rows) == len(made)


def test_a_day_that_is_wrong_all_through_is_kept_by_its_first_rows(
    make_entry: MakeEntry,
) -> None:
    rows = to_frame([make_entry(content="ok")], "s").with_columns(severity=pl.lit("fatal"))
    many = pl.concat([rows] * 6_000)
    report = checked(many, many)

    assert len(report.faulty_rows) == KEPT_FAULTY_ROWS
    assert {c.name: c.failures for c in report.failed_checks}["known_severity"] == 12_000


def test_contents_said_twice_are_counted_and_fail_nothing(make_entry: MakeEntry) -> None:
    said = [make_entry(content="ok") for _ in range(3)] + [make_entry(content="no")]
    silent = [make_entry(entry_type="performance_metric") for _ in range(2)]

    report = checked(to_frame(said + silent, "s"))

    assert report.passed
    assert report.duplicated_contents == 2


def test_the_error_names_day_check_and_row(rows: pl.DataFrame, entries: list[AuditEntry]) -> None:
    report = checked(spoiled(rows, to_agent="x"))

    message = str(QualityFailedError((report,)))

    assert "2025-11-30: entry_hash_fits: 1 rows fail" in message
    assert entries[VICTIM].entry_id in message


def test_a_check_opens_no_connection(rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError(f"a connection was opened: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert checked(rows).passed


def test_rare_characters_are_no_finding(make_entry: MakeEntry) -> None:
    said = [make_entry(content='bell \x07 "quoted" \\ \n\u2028'), make_entry(agent_id='"')]
    assert checked(to_frame(said, "s")).passed
