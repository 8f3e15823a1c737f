"""Import of real agent traffic: neutral events and Claude Code transcripts.

`import_path` records everything under a file or folder and reports what every line became.
"""

from __future__ import annotations

from audit_flows.imports.draft import Draft, Found
from audit_flows.imports.importer import Known, Progress, import_path, read_path
from audit_flows.imports.report import ImportReport

__all__ = ["Draft", "Found", "ImportReport", "Known", "Progress", "import_path", "read_path"]
