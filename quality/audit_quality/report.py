"""What a check of one day found: plain frozen values, for people, scripts and the jobs table.

Made by `day_quality`, read by the data-quality flow and the command line. Imports nothing
heavy and touches no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from claude_max_audit.errors import TerminalError

NAMED_ROWS = 20
"""Most entry ids that a failed check names: enough to look at, short enough to read."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check over all rows of a day. `entry_ids` are the first `NAMED_ROWS` that fail."""

    name: str
    meaning: str
    passed: bool
    failures: int
    entry_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.passed:
            return f"{self.name}: passed"
        more = self.failures - len(self.entry_ids)
        rest = f" and {more:,} more" if more > 0 else ""
        return (
            f"{self.name}: {self.failures:,} rows fail ({self.meaning}): "
            f"{', '.join(self.entry_ids)}{rest}"
        )


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Every check of one UTC day.

    `duplicated_contents` counts the rows whose content stood in the day before them. That is
    no fault (two agents may both say "ok"), so it never fails a day.
    """

    day: date
    rows: int
    checks: tuple[CheckResult, ...]
    duplicated_contents: int

    @property
    def passed(self) -> bool:
        """Say whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed_checks(self) -> tuple[CheckResult, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "day": self.day.isoformat(),
            "rows": self.rows,
            "passed": self.passed,
            "duplicated_contents": self.duplicated_contents,
            "checks": [
                {
                    "name": check.name,
                    "meaning": check.meaning,
                    "passed": check.passed,
                    "failures": check.failures,
                    "entry_ids": list(check.entry_ids),
                }
                for check in self.checks
            ],
        }


class QualityFailedError(TerminalError):
    """Archived days hold rows that a check refuses. Nothing was changed."""

    def __init__(self, reports: tuple[QualityReport, ...]) -> None:
        self.reports = reports
        lines = [
            f"{report.day}: {check}" for report in reports for check in report.failed_checks
        ]
        super().__init__(
            f"{len(lines)} quality checks failed. Look at the rows with `claude-audit show`, and "
            "compare them with the ledger with `claude-audit verify`:\n" + "\n".join(lines)
        )
