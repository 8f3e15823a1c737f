"""What a verification found: each thing that does not fit, and whether the lake is whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MAX_FINDINGS = 1_000
"""Most findings that a report lists; the rest of a badly damaged lake is only counted."""

KINDS: dict[str, str] = {
    "unreadable_file": "a Parquet file is missing or cannot be read; its rows are not checked",
    "file_rows": "a file does not hold as many rows as the log says",
    "file_statistics": "a row lies outside what the log says of its file; queries may miss it",
    "month": "a row lies in the partition of another month than its timestamp's",
    "unreadable_row": "a row is not an entry",
    "entry_hash": "the entry's canonical bytes do not give its entry_hash",
    "content_hash": "the content (or, without any, the metadata) does not give content_hash",
    "citation": "the citation is not that of the entry's type and id",
    "derived_column": "event_type or decision_type does not agree with the metadata",
    "duplicate_id": "an entry_id stands in the lake more than once",
    "duplicate_hash": "an entry_hash stands in the lake more than once",
    "commit_rows": "a commit has more or fewer entries than were recorded, purged ones included",
    "commit_root": "a commit's entries do not give the Merkle root that was recorded",
    "commit_records": "the witnesses of a commit contradict each other",
    "receipt": "a purge's receipt does not agree with the leaf hashes it keeps",
    "unpurged": "an entry that a receipt says was removed is in the lake",
}
"""Every kind of finding, with what it means."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. `where` names the file, the day, the commit or the receipt."""

    kind: str
    where: str
    entry_id: str | None
    detail: str


@dataclass(slots=True)
class Findings:
    """Collects findings, the first `MAX_FINDINGS` of them in full."""

    listed: list[Finding] = field(default_factory=list)
    total: int = 0

    def add(self, kind: str, where: str, detail: str, entry_id: str | None = None) -> None:
        """Take down one finding of a known kind."""
        assert kind in KINDS, kind
        self.total += 1
        if len(self.listed) < MAX_FINDINGS:
            self.listed.append(Finding(kind, where, entry_id, detail))


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked and what was found. `notes` are no faults: what to know beside them."""

    lake_version: int
    files: int
    entries: int
    commits: int
    purged: int
    findings: tuple[Finding, ...]
    total_findings: int
    notes: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Say whether nothing was found that does not fit."""
        return self.total_findings == 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {"whole": self.whole, **asdict(self)}
