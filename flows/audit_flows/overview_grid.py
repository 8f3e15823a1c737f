"""The last days as a grid, for the UI (Markdown) and for the terminal: one row a day.

A day that was missed, failed or did not pass its checks is told in capitals. The facts are the
lake's (`audit_storage.overview`); this file only says how they look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from audit_flows.amounts import count
from audit_flows.links import Links
from audit_storage.overview import ARCHIVE, PURGE, QUALITY, DayOverview, DayState

COLUMNS = ("day (UTC)", "archived", "checked", "sealed", "held", "purged")

ROOT_CHARACTERS = 12
"""Characters of a Merkle root in a cell; the job table has all 64."""

KEY = "overview"
"""Key of the artifact."""

LEGEND = (
    "**archived**: entries of that day in the lake. **checked**: its newest quality check. "
    "**sealed**: the Merkle root of its newest commit. **held**: entries under a legal hold. "
    "**purged**: entries of any age that a purge removed on that calendar day. Words in capitals "
    "ask somebody to look. Made from the lake's own tables after every job; "
    "`claude-audit history` prints the same."
)

_STATES = {
    DayState.EMPTY: "no entries",
    DayState.OPEN: "not over",
    DayState.WAITING: "waits for the archive",
    DayState.FAILED: "FAILED",
    DayState.MISSED: "MISSED",
    DayState.BEFORE: "",
}

Link = Callable[[str, DayOverview, str], str]


def cells(day: DayOverview, link: Link = lambda text, day, job: text) -> Iterator[str]:
    """Give the texts of a row; `link` may wrap those that a job's run is behind."""
    yield day.day.isoformat()
    if day.state is DayState.ARCHIVED:
        yield link(count(day.entries), day, ARCHIVE)
    else:
        yield _STATES[day.state]
    yield link(_checked(day), day, QUALITY)
    yield (day.root or "")[:ROOT_CHARACTERS]
    yield count(day.held) if day.held else ""
    yield "" if day.purged is None else link(count(day.purged), day, PURGE)


def markdown(days: Sequence[DayOverview], links: Links) -> str:
    """Return the grid for the UI, with links to runs and reports."""

    def link(text: str, day: DayOverview, job: str) -> str:
        record = day.runs.get(job)
        if record is None or not text:
            return text
        report = links.file_of(record.details) if job == QUALITY else None
        linked = links.to_file(text, report)
        return linked if linked != text else links.to_run(text, record.details)

    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---|---|---:|---:|"]
    for day in days:
        row = list(cells(day, link))
        if day.stands_out:
            row = [f"**{cell}**" if cell else cell for cell in row]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join([summary(days), "", *lines, "", LEGEND])


def summary(days: Sequence[DayOverview]) -> str:
    """Say in a sentence whether somebody should look."""
    bad = [day for day in days if day.stands_out]
    if not bad:
        return f"Nothing of the last {len(days)} days asks for attention."
    told = ", ".join(day.day.isoformat() for day in bad)
    return f"LOOK AT {told}"


def _checked(day: DayOverview) -> str:
    if day.checked is not None:
        return "passed" if day.checked == "succeeded" else "FAILED"
    return "not yet" if day.state is DayState.ARCHIVED else ""
