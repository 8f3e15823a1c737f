"""`claude-audit quality`: Great Expectations checks archived days, row by row."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audit_flows.amounts import count, counted
from audit_flows.day_option import add_day, day_of
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import listing
from audit_flows.workplace import Workplace
from audit_quality.report import QualityFailedError, QualityReport

EXAMPLES = """\
examples:
  claude-audit quality                    every archived day that was not found whole yet
  claude-audit quality --day 2025-11-30   this day, whatever was found before
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add which day."""
    parser.epilog = EXAMPLES
    add_day(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Check by the flow `data-quality`; a failed check names its rows, and the exit code is 1."""
    day = day_of(args)
    with Workplace.of(args) as place:
        _ = place.redis_url
        with place.terminal.telling("checking") as tell:
            try:
                reports = run_flow("data-quality", place.settings, on_line=tell, day=day)
            except QualityFailedError as failed:
                reports = failed.reports
                whole = False
            else:
                whole = True
        place.terminal.json([report.as_dict() for report in reports])
        _show(place, reports)
    return 0 if whole else 1


def _show(place: Workplace, reports: Sequence[QualityReport]) -> None:
    if not reports:
        place.terminal.show("nothing to check: every archived day was found whole")
        return
    place.terminal.show(
        listing(
            ("day (UTC)", ">entries", ">checks", ">same content again", "result"),
            (
                (
                    str(report.day),
                    count(report.rows),
                    count(len(report.checks)),
                    count(report.duplicated_contents),
                    "passed" if report.passed else f"{len(report.failed_checks)} FAILED",
                )
                for report in reports
            ),
        )
    )
    for report in reports:
        for check in report.failed_checks:
            place.terminal.show(f"{report.day}: {check}")
    failed = sum(not report.passed for report in reports)
    told = "all passed" if not failed else f"{counted(failed, 'day')} failed"
    place.terminal.show(f"{counted(len(reports), 'day')} checked: {told}")
