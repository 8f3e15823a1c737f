"""What a verification found: each thing that does not fit, and whether the lake is whole.

`KINDS` says of every kind of finding what it means, `REMEDIES` what to do about it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_FINDINGS = 1_000
"""Most findings that a report lists; the rest of a badly damaged lake is only counted."""

KINDS: dict[str, str] = {
    "missing_file": "the log names a Parquet file that is not there; its rows are not checked",
    "file_bytes": "a file's bytes are not those that were written: their SHA-256 differs",
    "unreadable_file": "a Parquet file cannot be read; its rows are not checked",
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

_FILE = (
    "copy this file back from a backup of the lake; the end of its name is the SHA-256 that it "
    "must have. Without a backup look for the day in Redis and in exports"
)
_ROW = (
    "the row was changed after it was written: restore its file from a backup, or compare the "
    "entry, by its id, with Redis and with exports"
)
_COMMIT = (
    "rows came, went or changed past the archive: compare this commit's rows with a backup; "
    "`claude-audit archive` brings back what is missing and still in Redis"
)
REMEDIES: dict[str, str] = {
    **dict.fromkeys(("missing_file", "file_bytes", "unreadable_file"), _FILE),
    **dict.fromkeys(("file_rows", "file_statistics", "month"), _FILE),
    **dict.fromkeys(("unreadable_row", "entry_hash", "content_hash"), _ROW),
    **dict.fromkeys(("citation", "derived_column"), _ROW),
    **dict.fromkeys(("duplicate_id", "duplicate_hash"), _COMMIT),
    **dict.fromkeys(("commit_rows", "commit_root"), _COMMIT),
    "commit_records": "compare the log's version and the jobs named here with a backup of both",
    "receipt": "restore the tables `receipts` and `purged` from a backup of the lake",
    "unpurged": "find out who wrote it back, then purge again: that removes it with a new receipt",
}
"""What to do about each kind. Nothing is mended by itself, and nothing should be deleted first."""


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
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, where: str, detail: str, entry_id: str | None = None) -> None:
        """Take down one finding of a known kind."""
        assert kind in KINDS, kind
        self.counts[kind] += 1
        if len(self.listed) < MAX_FINDINGS:
            self.listed.append(Finding(kind, where, entry_id, detail))


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked and what was found. `notes` are no faults: what to know beside them.

    `counts` has every kind that was found with its number, also of findings past the listed.
    """

    lake_version: int
    files: int
    entries: int
    commits: int
    purged: int
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    notes: tuple[str, ...]

    @property
    def total_findings(self) -> int:
        """The number of findings, those past the listed ones included."""
        return sum(self.counts.values())

    @property
    def whole(self) -> bool:
        """Say whether nothing was found that does not fit."""
        return self.total_findings == 0

    def advice(self) -> tuple[str, ...]:
        """Return a line for each kind found: how many, what it means, what to do."""
        return tuple(
            f"{kind} ({number:,}): {KINDS[kind]}. What to do: {REMEDIES[kind]}."
            for kind, number in self.counts.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        remedies = {kind: REMEDIES[kind] for kind in self.counts}
        found = {"whole": self.whole, "total_findings": self.total_findings}
        return {**found, **asdict(self), "remedies": remedies}
