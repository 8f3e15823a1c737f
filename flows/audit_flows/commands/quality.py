"""`claude-audit quality`: Great Expectations checks what is archived: days, a month, all years."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from audit_flows.amounts import count, counted
from audit_flows.day_option import add_day, day_of
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import listing
from audit_flows.workplace import Workplace
from audit_quality.data_docs.address import address_of, path_of
from audit_quality.report import CheckResult, QualityFailedError, QualityReport

EXAMPLES = """\
examples:
  claude-audit quality                    every archived day that was not found whole yet
  claude-audit quality --day 2025-11-30   this day, whatever was found before
  claude-audit quality --month 2025-11    what only shows across the days of a month
  claude-audit quality --all-years        is every id and every hash there once?
  claude-audit quality --docs             where the pages with all results are
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to check and how to show it."""
    parser.epilog = EXAMPLES
    add_day(parser)
    parser.add_argument(
        "--month", metavar="MONTH", help="this UTC month as a whole: YYYY-MM, or last"
    )
    parser.add_argument(
        "--all-years", action="store_true", help="uniqueness of ids and hashes over all years"
    )
    parser.add_argument("--checks", action="store_true", help="list every check, passed ones too")
    parser.add_argument(
        "--docs", action="store_true", help="check nothing: print where the pages are"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Check by the flow `data-quality`; a failed check names its rows, and the exit code is 1."""
    day = day_of(args)
    with Workplace.of(args) as place:
        if args.docs:
            return _tell_docs(place, args.day or args.month)
        _ = place.redis_url
        with place.terminal.telling("checking") as tell:
            try:
                reports = run_flow(
                    "data-quality",
                    place.settings,
                    on_line=tell,
                    day=day,
                    month=args.month,
                    all_years=args.all_years,
                )
            except QualityFailedError as failed:
                reports = failed.reports
                whole = False
            else:
                whole = True
        place.terminal.json([_as_json(place, report) for report in reports])
        asked = day is not None or args.month is not None or args.all_years
        _show(place, reports, every_check=args.checks or asked)
    return 0 if whole else 1


def _tell_docs(place: Workplace, subject: str | None) -> int:
    """Say where the pages are; exit code 1 when there are none yet."""
    folder = place.settings.quality_docs
    path = path_of(folder, subject)
    place.terminal.json(
        {"path": str(path), "address": address_of(folder, subject), "exists": path.exists()}
    )
    place.terminal.show(address_of(folder, subject))
    if not path.exists():
        place.terminal.remark("there is no such page yet; `claude-audit quality` makes it")
    return 0 if path.exists() else 1


def _as_json(place: Workplace, report: QualityReport) -> dict[str, object]:
    return {
        **report.as_dict(),
        "page": address_of(place.settings.quality_docs, report.subject),
    }


def _show(place: Workplace, reports: Sequence[QualityReport], *, every_check: bool) -> None:
    if not reports:
        place.terminal.show("nothing to check: every archived day was found whole")
        return
    if every_check:
        for report in reports:
            _show_checks(place, report)
    place.terminal.show(
        listing(
            ("checked (UTC)", ">entries", ">checks", ">same content again", "result"),
            (
                (
                    report.subject,
                    count(report.rows),
                    count(len(report.checks)),
                    count(report.duplicated_contents) if report.day else "",
                    report.verdict,
                )
                for report in reports
            ),
        )
    )
    for report in reports:
        for check in (*report.failed_checks, *report.warnings):
            place.terminal.show(f"{report.subject}: {check}")
    failed = sum(not report.passed for report in reports)
    told = "all passed" if not failed else f"{counted(failed, _noun(reports))} failed"
    place.terminal.show(f"{counted(len(reports), _noun(reports))} checked: {told}")
    place.terminal.remark(f"all results: {address_of(place.settings.quality_docs)}")


def _noun(reports: Iterable[QualityReport]) -> str:
    return "day" if all(report.day for report in reports) else "report"


def _show_checks(place: Workplace, report: QualityReport) -> None:
    """List every check of a report, with what it protects and what was seen."""
    place.terminal.show(
        listing(
            ("result", "check", "what it protects", "seen"),
            (
                (_result(check), check.name, check.meaning, check.observed or "as it should be")
                for check in report.checks
            ),
        )
    )


def _result(check: CheckResult) -> str:
    if check.passed:
        return "passed" if check.judged else "not judged"
    return "FAILED" if check.severity == "critical" else "warning"
