"""Checks one archived day from the lake's own bytes and reports what does not fit.

Called by the data-quality flow and `claude-audit quality`. Reads one version of the lake, in
chunks, and never changes it. Three suites: `entries` for each row, `files` for each file that holds
rows of the day, `day` for the day among its commits, its writers, the other stores and its past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from audit_quality.check_results import results_of_facts, results_of_files, results_of_rows
from audit_quality.day_files import DayFiles
from audit_quality.judge import Judgement, judge
from audit_quality.reconcile import INDEX_FOREIGN, INDEX_LACKS, REDIS_LOST, WAITING, DayTally
from audit_quality.report import CheckResult, FaultyRow, QualityReport
from audit_quality.row_evidence import RowEvidence, row_as_json
from audit_quality.surroundings import Surroundings
from audit_quality.writer_numbers import count_of
from audit_storage.archive.gaps import gaps_told
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile, files_for_day
from audit_storage.lake.view import LakeView
from audit_storage.verify.duplicates import repeated_rows

_DIFFERENCES = {
    "waiting_in_redis": WAITING,
    "lost_in_redis": REDIS_LOST,
    "index_lacks": INDEX_LACKS,
    "index_foreign": INDEX_FOREIGN,
}
"""Facts about the other stores, and what `reconcile` calls them."""


def check_day(lake: Lake, day: date, around: Surroundings | None = None) -> QualityReport:
    """Check everything that the lake holds of a UTC day.

    What does not fit is told in the report and raises nothing; a lake that cannot be read
    although its bytes are what they were raises `LakeUnavailableError`.
    """
    around = around or Surroundings(lake, datetime.now(UTC))
    view = lake.view()
    files = DayFiles(view.uri, lake.filesystem(), files_for_day(view.files, day))
    rows = RowEvidence(day, around.now)
    for chunk in files.rows_of_day(day):
        rows.add(chunk)
    of_rows, faulty = _judge_rows(rows)
    lines = files.lines()
    of_files = judge("files", lines, {})
    sound, view = files.sound(), copy(view)
    damaged = {file.path for file in files.files} - {file.path for file in sound}
    view.files = tuple(file for file in view.files if file.path not in damaged)
    facts = _DayFacts(view, sound, day, rows, around)
    of_day = judge("day", facts.frame(), {})
    checks = (
        *results_of_rows(of_rows, rows.groups()),
        *results_of_files(of_files, lines),
        *results_of_facts(of_day, facts.facts, facts.named, facts.told),
    )
    return _report(day, rows, checks, faulty, (of_rows, of_files, of_day), facts.facts)


def check_rows(chunks: Iterable[pl.DataFrame], day: date, now: datetime) -> QualityReport:
    """Check frames of `schema.FILE_SCHEMA` as the rows of one UTC day, each by itself."""
    rows = RowEvidence(day, now)
    for chunk in chunks:
        rows.add(chunk)
    judged, faulty = _judge_rows(rows)
    return _report(day, rows, results_of_rows(judged, rows.groups()), faulty, (judged,), {})


def _judge_rows(rows: RowEvidence) -> tuple[Judgement, tuple[FaultyRow, ...]]:
    judged = judge("entries", rows.groups(), rows.parameters)
    refused = {one.check: (one.columns[0], set(one.refused)) for one in judged.verdicts}
    faulty = [
        FaultyRow(rows.day, row["entry_id"], reasons, row_as_json(row))
        for row, marks in rows.faulty()
        if (reasons := tuple(name for name, (c, bad) in refused.items() if marks[c] in bad))
    ]
    return judged, tuple(faulty)


class _DayFacts:
    """One row about a day, with the entries behind each fact."""

    def __init__(
        self,
        view: LakeView,
        files: list[LakeFile],
        day: date,
        rows: RowEvidence,
        around: Surroundings,
    ) -> None:
        self.named: dict[str, list[str]] = {}
        self.told: dict[str, str] = {}
        recorded = around.recorded(day)
        least, most = around.usual_volume(day)
        contents = rows.contents()
        share = rows.duplicated_contents() / contents if contents else 0.0
        self.facts: dict[str, Any] = {
            "entries": rows.rows,
            "archived": None if recorded is None else rows.archived,
            "recorded": recorded,
            "numbers_missing": self._numbers_missing(around, view, day),
            "least_usual": least,
            "most_usual": most,
            "repeated": share,
            "most_repeated_usual": around.most_repeats(day, contents),
            **self._again(view, files, day),
            **self._differences(around.tally.get(day)),
        }

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame([self.facts])

    def _numbers_missing(self, around: Surroundings, view: LakeView, day: date) -> int:
        gaps = around.missing_numbers(view, day)
        self.told["numbers_missing"] = gaps_told(gaps)
        return count_of(gaps)

    def _again(self, view: LakeView, files: list[LakeFile], day: date) -> dict[str, int]:
        within = pl.col("timestamp").dt.date() == day
        counts = {}
        for fact, column in (("ids_again", "entry_id"), ("hashes_again", "entry_hash")):
            rows = repeated_rows(view, files, column, within)
            self.named[fact] = rows.get_column("entry_id").to_list()
            counts[fact] = rows.height
        return counts

    def _differences(self, tally: DayTally | None) -> dict[str, int | None]:
        facts: dict[str, int | None] = {}
        for fact, what in _DIFFERENCES.items():
            asked = tally and (tally.index if fact.startswith("index") else tally.hot)
            found = tally.differing(what) if tally else None
            facts[fact] = None if asked is None else found.number if found else 0
            self.named[fact] = list(found.entry_ids) if found else []
        return facts


def _report(
    day: date,
    rows: RowEvidence,
    checks: tuple[CheckResult, ...],
    faulty: tuple[FaultyRow, ...],
    judged: tuple[Judgement, ...],
    facts: Mapping[str, Any],
) -> QualityReport:
    return QualityReport(
        subject=day.isoformat(),
        day=day,
        rows=rows.rows,
        checks=checks,
        duplicated_contents=rows.duplicated_contents(),
        faulty_rows=faulty,
        measures=dict(facts),
        evidence={one.suite: one.evidence for one in judged},
    )
