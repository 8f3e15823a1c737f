"""Every seeded defect is caught by the check that names it; whole days raise nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest

from audit_quality.day_quality import check_day, check_rows
from audit_quality.report import NAMED_ROWS, CheckResult, QualityFailedError
from audit_storage.lake.schema import to_frame
from audit_storage.layout import span_of_day
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import Query
from real_trail import real_days

DAY = date(2025, 11, 30)
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


def failed(report_of: pl.DataFrame) -> dict[str, CheckResult]:
    return {check.name: check for check in check_rows([report_of], DAY).failed_checks}


def test_whole_rows_pass_every_check(rows: pl.DataFrame) -> None:
    report = check_rows([rows[:3], rows[3:]], DAY)

    assert report.passed
    assert report.rows == 6
    assert len(report.checks) == 13
    assert report.failed_checks == ()


def test_a_day_without_rows_passes() -> None:
    report = check_rows([], DAY)

    assert (report.rows, report.passed, report.duplicated_contents) == (0, True, 0)


@pytest.mark.parametrize(
    ("cells", "check", "also"),
    [
        ({"agent_id": None}, "required_fields", {"entry_hash_fits"}),
        ({"metadata": None}, "required_fields", {"entry_hash_fits"}),
        ({"citation": None}, "required_fields", {"citation_form", "citation_fits", "*"}),
        ({"citation": "if://audit/decision/not-a-uuid"}, "citation_form", {"citation_fits", "*"}),
        ({"entry_type": "message"}, "citation_fits", {"*"}),
        ({"content": "All constraints are satisfied!"}, "content_hash_fits", {"*"}),
        ({"content_hash": "0" * 64}, "content_hash_fits", {"*"}),
        ({"content_hash": None}, "content_hash_fits", {"required_fields", "*"}),
        ({"to_agent": "somebody else"}, "entry_hash_fits", set()),
        ({"metadata": '{"decision_type":"refusal"}'}, "entry_hash_fits", set()),
        ({"size_bytes": 7}, "entry_hash_fits", set()),
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
    found = failed(spoiled(rows, **cells))

    assert found[check].failures == 1
    assert found[check].entry_ids == (entries[VICTIM].entry_id,)
    # Any change at all breaks the seal as well: that is what `*` stands for.
    expected = {check} | {"entry_hash_fits" if name == "*" else name for name in also}
    assert set(found) == expected


def test_an_id_that_stands_twice_names_both_rows(
    rows: pl.DataFrame, entries: list[AuditEntry]
) -> None:
    twice = entries[0].entry_id

    found = failed(spoiled(rows, entry_id=twice))

    assert found["unique_entry_id"].failures == 2
    assert found["unique_entry_id"].entry_ids == (twice, twice)


def test_an_entry_that_stands_twice_is_caught_by_its_hash(rows: pl.DataFrame) -> None:
    found = failed(pl.concat([rows, rows[1:2]]))

    assert set(found) == {"unique_entry_id", "unique_entry_hash"}


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

    check = failed(rows)["known_severity"]

    assert check.failures == len(made)
    assert check.entry_ids == tuple(entry.entry_id for entry in made[:NAMED_ROWS])
    assert "and 5 more" in str(check)


def test_contents_said_twice_are_counted_and_fail_nothing(make_entry: MakeEntry) -> None:
    said = [make_entry(content="ok") for _ in range(3)] + [make_entry(content="no")]
    silent = [make_entry(entry_type="performance_metric") for _ in range(2)]

    report = check_rows([to_frame(said + silent, "s")], DAY)

    assert report.passed
    assert report.duplicated_contents == 2


def test_the_error_names_day_check_and_row(rows: pl.DataFrame, entries: list[AuditEntry]) -> None:
    report = check_rows([spoiled(rows, to_agent="x")], DAY)

    message = str(QualityFailedError((report,)))

    assert "2025-11-30: entry_hash_fits: 1 rows fail" in message
    assert entries[VICTIM].entry_id in message


def test_a_check_opens_no_connection(rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError(f"a connection was opened: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert check_rows([rows], DAY).passed


class ArchivedRows:
    """Rows that stand for a lake: gives those of the asked span, as `Lake.scan` does."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows

    def scan(self, query: Query) -> Iterator[pl.DataFrame]:
        span = query.span
        yield self.rows.filter(pl.col("timestamp").is_between(span.start, span.end))


def test_a_day_is_asked_from_its_first_to_its_last_microsecond(make_entry: MakeEntry) -> None:
    span = span_of_day(DAY)
    edge = timedelta(microseconds=1)
    moments = (span.start - edge, span.start, span.end, span.end + edge)
    lake = ArchivedRows(to_frame([make_entry(timestamp=moment) for moment in moments], "s"))

    assert check_day(lake, DAY).rows == 2


@pytest.mark.parametrize("source", ["claude_code_dain", "gastown_town_2026-02"])
def test_the_busiest_and_the_smallest_real_day_are_whole(realdata: Path, source: str) -> None:
    days = real_days(realdata, source)
    by_size = sorted(days, key=lambda day: len(days[day]))
    for day in (by_size[0], by_size[-1]):
        report = check_rows([to_frame(days[day], "s")], day)

        assert report.failed_checks == ()
        assert report.rows == len(days[day])


def test_contents_that_real_agents_repeat_are_no_fault(realdata: Path) -> None:
    days = real_days(realdata, "gastown_town_2026-02")
    busiest = max(days, key=lambda day: len(days[day]))

    report = check_rows([to_frame(days[busiest], "s")], busiest)

    assert report.passed
    assert report.duplicated_contents > 0
