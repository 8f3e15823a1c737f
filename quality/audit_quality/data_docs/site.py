"""The Data Docs of a trail: a folder of pages that open from a disk, each at a stable address.

    index.html              every day of every year at a glance
    days/2025-11-30.html    a day; beside it .json, the report, and .gx.json, the judge's results
    months/2025-11.html     a month
    years/all.html          all years
    assets/                 the style sheet and the fonts

The data-quality flow writes here; whoever links to a report asks `address.address_of`. A file is
whole or not there, and publishing again writes over. Two runs at once may each miss the other's
line in `index.json`; the next publication finds the report itself and adds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit_quality.data_docs.address import FOLDERS, INDEX, kind_of, page_of
from audit_quality.data_docs.pages import (
    FONTS,
    STYLE,
    font,
    index_page,
    report_page,
    state_of,
    style,
)
from audit_quality.report import ALL_YEARS, QualityReport
from audit_storage.atomic_file import atomic_file

_INDEX = "index.json"


class DataDocs:
    """The pages in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, reports: Iterable[QualityReport], at: datetime | None = None) -> list[Path]:
        """Write the pages of some reports and the index anew; returns the pages' paths."""
        at = at or datetime.now(UTC)
        self._write_assets()
        pages = [self._write_report(report, at) for report in reports]
        summaries = self._summaries()
        self._write(_INDEX, json.dumps(summaries, indent=1))
        self._write(INDEX, index_page(summaries, at))
        return pages

    def _write_report(self, report: QualityReport, at: datetime) -> Path:
        page = page_of(report.subject)
        told = {"at": at.isoformat(timespec="seconds"), **report.as_dict()}
        # Killed between these: the page may be newer than the report that the index reads.
        self._write(page, report_page(report, at, "../"))
        evidence = json.dumps(report.evidence, indent=1, default=str)
        self._write(page.replace(".html", ".gx.json"), evidence)
        self._write(page.replace(".html", ".json"), json.dumps(told, indent=1, default=str))
        return self.folder / page

    def _summaries(self) -> dict[str, dict[str, Any]]:
        """Return the index's line of each report; only reports newer than it are read."""
        known, since = self._known()
        for folder in FOLDERS.values():
            for path in (self.folder / folder).glob("*.json"):
                if path.name.endswith(".gx.json"):
                    continue
                subject = ALL_YEARS if folder == "years" else path.stem
                if subject not in known or path.stat().st_mtime_ns >= since:
                    known[subject] = _summary(json.loads(path.read_text("utf-8")))
        return dict(sorted(known.items()))

    def _known(self) -> tuple[dict[str, dict[str, Any]], int]:
        path = self.folder / _INDEX
        try:
            since = path.stat().st_mtime_ns
            return json.loads(path.read_text("utf-8")), since
        except (OSError, ValueError):
            return {}, 0  # lost or damaged: made anew from the reports

    def _write_assets(self) -> None:
        self._write(f"assets/{STYLE}", style())
        for name in FONTS:
            if not (self.folder / "assets" / name).exists():
                self._write(f"assets/{name}", font(name))

    def _write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, overwrite=True) as file:
            file.write(content.encode() if isinstance(content, str) else content)


def _summary(told: dict[str, Any]) -> dict[str, Any]:
    subject = told["subject"]
    warned = [one["name"] for one in told["checks"] if not one["passed"]]
    return {
        "subject": subject,
        "kind": kind_of(subject),
        "page": page_of(subject),
        "rows": told["rows"],
        "passed": told["passed"],
        "verdict": told["verdict"],
        "state": state_of(told["passed"], len(warned)),
        "told": warned,
        "at": told["at"],
    }
