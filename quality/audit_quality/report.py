"""What a check of a day, a month or all years found: plain frozen values, for people and scripts.

Made by `day_quality`, `month_quality` and `years_quality`; read by the data-quality flow, the
command line and `data_docs`. Imports nothing heavy and touches no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from claude_max_audit.errors import TerminalError

NAMED_ROWS = 20
"""Most entry ids that a failed check names: enough to look at, short enough to read."""

CRITICAL, WARNING = "critical", "warning"
"""A failed critical check fails the run; a failed warning is told and fails nothing, because
it passes by itself (a late entry, an index that is behind) or is a rate that people judge."""

ALL_YEARS = "all years"
"""The subject of a report about the whole lake."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check. `entry_ids` are the first `NAMED_ROWS` that fail, `files` the files that do.

    `judged` is False where there was nothing to hold the data against: Redis was not asked, or
    there are too few weeks before. `observed` says what was seen, in words.
    """

    name: str
    meaning: str
    passed: bool
    failures: int
    entry_ids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    suite: str = "entries"
    severity: str = CRITICAL
    observed: str = ""
    judged: bool = True

    def __str__(self) -> str:
        if self.passed:
            return f"{self.name}: {'passed' if self.judged else 'not judged'}"
        named = self.entry_ids or self.files
        rows = "files" if self.files else "rows"
        counted = f"{self.failures:,} {rows} fail" if named else "fails"
        more = self.failures - len(named)
        rest = f" and {more:,} more" if named and more > 0 else ""
        told = ", ".join(named) + rest or self.observed
        return f"{self.name}: {counted} ({self.meaning}): {told}"


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """A row that a check refuses: `reasons` are the checks' names, `text` the row as it stands in
    the lake, as JSON, all its columns."""

    day: date
    entry_id: str | None
    reasons: tuple[str, ...]
    text: bytes


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Every check of one subject: a UTC day ("2025-11-30"), a month ("2025-11") or all years.

    `duplicated_contents` counts the rows whose content stood in the day before them. That is
    no fault (two agents may both say "ok"); how often it happens is watched. `faulty_rows` are
    the rows that critical checks refuse, up to a limit; `measures` are figures beside the checks;
    `evidence` is Great Expectations' own result of each suite, as JSON values.
    """

    subject: str
    day: date | None
    rows: int
    checks: tuple[CheckResult, ...]
    duplicated_contents: int = 0
    faulty_rows: tuple[FaultyRow, ...] = ()
    measures: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Say whether every critical check passed."""
        return not self.failed_checks

    @property
    def failed_checks(self) -> tuple[CheckResult, ...]:
        """The critical checks that did not pass."""
        return tuple(c for c in self.checks if not c.passed and c.severity == CRITICAL)

    @property
    def warnings(self) -> tuple[CheckResult, ...]:
        """The other checks that did not pass: what to look at."""
        return tuple(c for c in self.checks if not c.passed and c.severity != CRITICAL)

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if self.failed_checks:
            return f"{len(self.failed_checks)} FAILED"
        told = len(self.warnings)
        return "passed" if not told else f"passed, {told} warning{'s' if told > 1 else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, without the faulty rows' contents."""
        return {
            "subject": self.subject,
            "day": self.day.isoformat() if self.day else None,
            "rows": self.rows,
            "passed": self.passed,
            "verdict": self.verdict,
            "duplicated_contents": self.duplicated_contents,
            "measures": dict(self.measures),
            "checks": [_plain(check) for check in self.checks],
            "faulty_rows": [
                {"entry_id": row.entry_id, "day": str(row.day), "reasons": list(row.reasons)}
                for row in self.faulty_rows
            ],
        }


def _plain(check: CheckResult) -> dict[str, Any]:
    return {
        "name": check.name,
        "suite": check.suite,
        "severity": check.severity,
        "meaning": check.meaning,
        "passed": check.passed,
        "judged": check.judged,
        "failures": check.failures,
        "observed": check.observed,
        "entry_ids": list(check.entry_ids),
        "files": list(check.files),
    }


class QualityFailedError(TerminalError):
    """The lake holds rows or files that a check refuses. Nothing in it was changed."""

    def __init__(self, reports: tuple[QualityReport, ...]) -> None:
        self.reports = reports
        lines = [
            f"{report.subject}: {check}" for report in reports for check in report.failed_checks
        ]
        super().__init__(
            f"{len(lines)} quality checks failed. Look at the rows with `claude-audit show`, and "
            "compare them with the ledger with `claude-audit verify`:\n" + "\n".join(lines)
        )
