"""What was promised when each commit was made: its number of rows and its Merkle root.

Two witnesses: the lake's own log, which carries it with the commit but forgets after the table's
log retention, and the table of jobs, which keeps it. `verify` holds the stored rows against both.
Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from audit_storage.archive.direct import DIRECT_APP
from audit_storage.jobs import JobTable
from audit_storage.lake.delta_log import DeltaLog, answering
from audit_storage.lake.schema import LAKE_SCHEMA
from audit_storage.layout import ENTRIES, place
from claude_max_audit.settings import Settings

_ALL = 2**62
_BRINGS_ROWS = ("archive/", f"{DIRECT_APP}/", "writer/")
"""How the names of commits begin that bring entries; others move or remove them."""


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """One witness of one commit. `root` is hex, or None where none was recorded."""

    snapshot: str
    rows: int
    root: str | None
    witness: str


class CommitRecords:
    """The records of the lake of some settings."""

    def __init__(self, settings: Settings) -> None:
        self._log = DeltaLog(
            place(settings.lake_uri, ENTRIES), LAKE_SCHEMA, storage_options=settings.lake_options
        )
        self._jobs = JobTable(settings)

    def read(self) -> dict[str, list[CommitRecord]]:
        """Return every record by the commit's name; a commit has one or two."""
        found: dict[str, list[CommitRecord]] = {}
        for record in (*self._of_log(), *self._of_jobs()):
            found.setdefault(record.snapshot, []).append(record)
        return found

    def _of_log(self) -> Iterator[CommitRecord]:
        table = self._log.open()
        if table is None:
            return
        with answering(self._log.uri):
            commits: list[dict[str, Any]] = table.history()
        for commit in commits:
            name = commit.get("snapshot")
            if isinstance(name, str) and name.startswith(_BRINGS_ROWS):
                root = commit.get("merkle_root")
                where = f"the lake's log, version {commit['version']}"
                yield CommitRecord(name, int(commit["rows"]), root, where)

    def _of_jobs(self) -> Iterator[CommitRecord]:
        for job in self._jobs.history("archive", limit=_ALL):
            name = job.details.get("snapshot")
            if isinstance(name, str):
                yield CommitRecord(name, job.rows, job.merkle_root, f"job {job.job_id}")
