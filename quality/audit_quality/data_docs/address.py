"""Where the page of a day, a month or all years is: the same address before and after it is made.

Asked by whoever links to a report: flows, the overview, the command line. Imports nothing heavy
and touches no file.
"""

from __future__ import annotations

from pathlib import Path

from audit_quality.report import ALL_YEARS

FOLDERS = {"day": "days", "month": "months", "years": "years"}
"""The folder of each kind of subject."""

INDEX = "index.html"


def kind_of(subject: str) -> str:
    """Return `day` for "2025-11-30", `month` for "2025-11" and `years` for all years."""
    if subject == ALL_YEARS:
        return "years"
    return "day" if len(subject) > len("2025-11") else "month"


def page_of(subject: str) -> str:
    """Return where a subject's page is, relative to the index."""
    name = "all" if subject == ALL_YEARS else subject
    return f"{FOLDERS[kind_of(subject)]}/{name}.html"


def path_of(folder: Path, subject: str | None = None) -> Path:
    """Return the file of a subject's page, or of the index; `folder` is `Settings.quality_docs`."""
    return folder / (INDEX if subject is None else page_of(subject))


def address_of(folder: Path, subject: str | None = None) -> str:
    """Return the address of a subject's page, or of the index, as a browser takes it."""
    return path_of(folder, subject).absolute().as_uri()
