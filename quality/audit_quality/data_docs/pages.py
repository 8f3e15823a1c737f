"""What a report and the index look like: HTML of our own templates, nothing fetched from anywhere.

Great Expectations' own pages take styles, fonts and scripts from five hosts, so without a network
they are bare. These show the same results, with what each check protects and which rows failed.
Every value is escaped: a damaged row may hold anything. Pure: values in, text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit_quality.report import CheckResult, QualityReport
from audit_quality.suite_file import suite_of
from audit_storage.layout import days_of_month

LISTED_ROWS = 200
"""Most faulty rows that a page lists; all that were kept are in quarantine."""

TITLES = {
    "entries": "Every row",
    "files": "The files",
    "day": "The day",
    "month": "The month",
    "years": "All years",
}

STYLE = "style.css"
FONTS: tuple[str, ...] = ("HKGrotesk-Regular.otf", "HKGrotesk-SemiBold.otf")
"""Fonts of the pages (SIL Open Font License): the library carries them for its own."""


def report_page(report: QualityReport, at: datetime, home: str) -> str:
    """Return a report's page; `home` leads from it to the folder of the index."""
    return _rendered(
        "report.html",
        report=report,
        at=f"{at:%Y-%m-%d %H:%M:%S} UTC",
        home=home,
        state=state_of(report.passed, len(report.warnings)),
        suites=[
            (TITLES[name], suite_of(name)["meta"]["notes"], _of_suite(report.checks, name))
            for name in dict.fromkeys(check.suite for check in report.checks)
        ],
        told=[check for check in report.checks if not check.passed],
        passed=sum(check.passed and check.judged for check in report.checks),
        unjudged=sum(not check.judged for check in report.checks),
        listed=report.faulty_rows[:LISTED_ROWS],
    )


def index_page(summaries: Mapping[str, Mapping[str, Any]], at: datetime) -> str:
    """Return the index over all subjects: a grid of days for each year, and what needs a look."""
    return _rendered(
        "index.html",
        at=f"{at:%Y-%m-%d %H:%M:%S} UTC",
        home="",
        overall=summaries.get("all years"),
        years=list(_years(summaries)),
        troubled=[one for _, one in sorted(summaries.items(), reverse=True) if not one["passed"]],
        days=sum(one["kind"] == "day" for one in summaries.values()),
    )


def state_of(passed: bool, warnings: int) -> str:
    """Return the word that colours a result."""
    return "failed" if not passed else "warned" if warnings else "passed"


def style() -> str:
    """Return the style sheet of all pages."""
    return files("audit_quality").joinpath("data_docs", "templates", STYLE).read_text("utf-8")


def font(name: str) -> bytes:
    """Return a font file, out of the library's own wheel, which is not imported for it."""
    found = find_spec("great_expectations")
    assert found is not None
    assert found.submodule_search_locations
    [folder] = found.submodule_search_locations
    return Path(folder, "render", "view", "static", "fonts", "HKGrotesk", name).read_bytes()


def _of_suite(checks: Iterable[CheckResult], name: str) -> list[CheckResult]:
    return [check for check in checks if check.suite == name]


def _years(
    summaries: Mapping[str, Mapping[str, Any]],
) -> Iterable[tuple[str, list[tuple[str, Any, list[tuple[date, Any]]]]]]:
    """Give each year, newest first, with its months, and their days with what is known of each."""
    years = {subject[:4] for subject, one in summaries.items() if one["kind"] != "years"}
    for year in sorted(years, reverse=True):
        months = [f"{year}-{number:02d}" for number in range(1, 13)]
        yield (
            year,
            [
                (
                    month,
                    summaries.get(month),
                    [(day, summaries.get(day.isoformat())) for day in days_of_month(month)],
                )
                for month in months
            ],
        )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("audit_quality", "data_docs/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment


def _rendered(name: str, **values: Any) -> str:
    return str(_environment().get_template(name).render(**values))
