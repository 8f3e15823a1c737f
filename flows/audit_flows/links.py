"""Links between a run, its quality report and its file, as the UI follows them.

Runs are linked by their place in Prefect's UI, whatever its address. Files are linked where
`claude-audit up` serves them to the browser (`file_server.py`), and are plain text elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit_flows.file_server import address_of
from audit_flows.supervisor.standing import standing
from claude_max_audit.settings import Settings

FLOW_RUN = "flow_run"
"""Detail of a job's row: the id of its run in Prefect."""

REPORT = "report"
"""Detail of a job's row: the quality report's page, as a path in the folder of Data Docs."""


class Links:
    """Makes links in Markdown. One is made for each table, since it looks at what is up."""

    def __init__(self, settings: Settings) -> None:
        up = standing(settings.home)
        self._settings = settings
        self._files_url = None if up is None else up.files_url

    def to_run(self, text: str, details: Mapping[str, Any]) -> str:
        """Return the text, linked to the run that left these details, if it is known."""
        run = details.get(FLOW_RUN)
        return f"[{text}](/runs/flow-run/{run})" if run else text

    def to_file(self, text: str, file: Path | None) -> str:
        """Return the text, linked to the file, if it is served."""
        address = None if file is None else self.address_of(file)
        return plain(text) if address is None else f"[{plain(text)}]({address})"

    def address_of(self, file: Path) -> str | None:
        """Return where a browser finds the file; None where it is not served."""
        if self._files_url is None:
            return None
        return address_of(file, self._settings, self._files_url)

    def file_of(self, details: Mapping[str, Any]) -> Path | None:
        """Return the file that a job made: a report, or an export."""
        if report := details.get(REPORT):
            return self._settings.quality_docs / str(report)
        if "folder" in details and "file" in details:
            return Path(str(details["folder"])) / str(details["file"])
        return None


def plain(text: str) -> str:
    """Return text that makes no link, tag or cell: it may hold what an agent wrote."""
    return "".join(f"\\{one}" if one in "\\[<|" else one for one in text)
