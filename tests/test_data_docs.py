"""The pages of the quality checks: styled without a network, escaped, at stable addresses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from audit_quality.data_docs.address import address_of, path_of
from audit_quality.data_docs.site import DataDocs
from audit_quality.day_quality import check_rows
from audit_quality.report import ALL_YEARS, CheckResult, QualityReport
from audit_storage.lake.schema import to_frame
from claude_max_audit.entry import AuditEntry

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = date(2025, 11, 30)


@pytest.fixture(scope="module")
def reports() -> tuple[QualityReport, QualityReport]:
    """A day with a forged row, whose words would be a script, and a whole one."""
    from conftest import EntryMaker

    make: Callable[..., AuditEntry] = EntryMaker()
    rows = to_frame([make() for _ in range(5)], "s")
    forged = rows.with_columns(severity=rows["entry_id"].replace(rows["entry_id"][2], SCRIPT))
    forged = forged.with_columns(
        severity=forged["severity"].set(forged["severity"] != SCRIPT, None)
    )
    bad = check_rows([forged], DAY, NOW)
    good = check_rows([rows], DAY, NOW)
    return bad, replace(good, subject="2025-11-29", day=date(2025, 11, 29))


SCRIPT = "<script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def docs(
    reports: tuple[QualityReport, QualityReport], tmp_path_factory: pytest.TempPathFactory
) -> DataDocs:
    docs = DataDocs(tmp_path_factory.mktemp("docs") / "quality")
    docs.publish(reports, NOW)
    return docs


class Browser:
    """A page of a real Chromium, and every address that it asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        self.failed: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", lambda request: self.failed.append(request.url))

    def look(self, address: str) -> None:
        self.page.goto(address)
        self.page.evaluate("document.fonts.ready")

    def style(self, selector: str, name: str) -> str:
        script = "([s, n]) => getComputedStyle(document.querySelector(s)).getPropertyValue(n)"
        return str(self.page.evaluate(script, [selector, name]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*QUIET])
        yield Browser(chromium.new_page(viewport={"width": 1280, "height": 900}))
        chromium.close()


def test_a_page_is_styled_and_asks_nobody_else(docs: DataDocs, browser: Browser) -> None:
    for subject in (None, "2025-11-30", "2025-11-29"):
        browser.look(address_of(docs.folder, subject))

    assert browser.asked
    assert [url for url in browser.asked if not url.startswith(("file:", "data:"))] == []
    assert browser.failed == []
    assert browser.style("body", "font-family").startswith('"HK Grotesk"')
    fonts = "[...document.fonts].filter(f => f.status == 'loaded').map(f => f.weight).sort()"
    assert browser.page.evaluate(fonts) == ["400", "600"]
    assert browser.style(".badge.passed", "border-radius") == "999px"
    assert browser.style("main", "max-width") == "1180px"


def test_a_page_says_what_failed_what_it_protects_and_which_rows(
    docs: DataDocs, browser: Browser, reports: tuple[QualityReport, QualityReport]
) -> None:
    bad, _ = reports
    browser.look(address_of(docs.folder, bad.subject))
    told = browser.page.inner_text("#known_severity")

    [check] = [one for one in bad.failed_checks if one.name == "known_severity"]
    assert check.meaning in told
    assert check.entry_ids[0] in told
    assert "quarantine" in browser.page.inner_text("main")
    assert browser.style("#known_severity .badge", "color") != browser.style("body", "color")


def test_what_a_row_holds_is_text_and_nothing_else(
    docs: DataDocs, browser: Browser, reports: tuple[QualityReport, QualityReport]
) -> None:
    browser.look(address_of(docs.folder, reports[0].subject))

    assert SCRIPT in browser.page.inner_text("#known_severity")
    assert browser.page.title() == f"2025-11-30: {reports[0].verdict}"


def test_the_index_leads_to_every_day(docs: DataDocs, browser: Browser) -> None:
    browser.look(address_of(docs.folder))
    browser.page.click("a.cell.failed")

    assert browser.page.inner_text("h1") == "2025-11-30"
    browser.page.click("a.brand")
    assert browser.page.inner_text("h1") == "Data quality"
    assert browser.page.locator("a.cell").count() == 2


def test_a_report_replaces_the_one_before_and_the_index_follows(
    tmp_path: Path, reports: tuple[QualityReport, QualityReport]
) -> None:
    docs, (bad, good) = DataDocs(tmp_path), reports
    docs.publish([bad], NOW)
    before = path_of(tmp_path, bad.subject).read_text()
    docs.publish([replace(good, subject=bad.subject, day=bad.day)], NOW)

    assert path_of(tmp_path, bad.subject).read_text() != before
    told = json.loads((tmp_path / "index.json").read_text())
    assert [(one["subject"], one["state"]) for one in told.values()] == [("2025-11-30", "passed")]


@pytest.mark.parametrize("left", ["", "{damaged"])
def test_an_index_that_is_lost_is_made_anew(
    tmp_path: Path, reports: tuple[QualityReport, QualityReport], left: str
) -> None:
    docs = DataDocs(tmp_path)
    docs.publish(reports, NOW)
    known = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").write_text(left)
    docs.publish([], NOW)

    assert json.loads((tmp_path / "index.json").read_text()) == json.loads(known)


def test_months_and_all_years_have_pages_of_their_own(tmp_path: Path) -> None:
    check = CheckResult("unique", "an id names one entry", True, 0, suite="years")
    DataDocs(tmp_path).publish(
        [
            QualityReport(subject=ALL_YEARS, day=None, rows=3, checks=(check,)),
            QualityReport(
                subject="2025-11", day=None, rows=3, checks=(replace(check, suite="month"),)
            ),
        ],
        NOW,
    )

    assert path_of(tmp_path, ALL_YEARS) == tmp_path / "years" / "all.html"
    assert path_of(tmp_path, "2025-11").exists()
    assert "years/all.html" in path_of(tmp_path).read_text()


def test_the_library_s_own_result_is_kept_beside_a_report(docs: DataDocs) -> None:
    kept = json.loads((docs.folder / "days" / "2025-11-30.gx.json").read_text())

    assert kept["entries"]["suite_name"] == "entries"
    assert kept["entries"]["statistics"]["unsuccessful_expectations"] == 2
