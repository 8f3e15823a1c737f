"""The platform's side of the auditor: the `ColdTier` that `claude_max_audit` asks for by name.

Opened by the auditor at first use and by nothing else inside this package. Every call
blocks; the auditor runs it in a thread aside. Stores are opened when they are first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.direct import append_direct
from audit_storage.archive.quarantine import Quarantine
from audit_storage.export.export import export_trail
from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.policy_file import policy_of
from audit_storage.purge.purge import execute_purge
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.search.search import search_both
from audit_storage.search.text_search import search_text
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query
from claude_max_audit.results import AuditQueryResult
from claude_max_audit.settings import Settings


def open_cold_tier(settings: Settings) -> StoredTrail:
    """Return the lake and its index under these settings; nothing is read or made yet."""
    return StoredTrail(settings)


class StoredTrail:
    """Lake, quarantine and index, as the auditor uses them. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake = Lake(settings)

    @cached_property
    def _index(self) -> EntryIndex:
        return EntryIndex.open(self._settings)

    def search(
        self, query: Query, limit: int, offset: int, hot: HotStore | None
    ) -> AuditQueryResult:
        """Search hot and cold together; by words and meaning when the query has any."""
        if query.text is None:
            return search_both(self._lake, hot, query, limit, offset, datetime.now(UTC))
        return search_text(self._lake, hot, self._index, query, limit, offset)

    def find(self, entry_id: str) -> AuditEntry | None:
        """Return the archived entry with this id, or None."""
        return self._lake.find([entry_id]).get(entry_id)

    def count(self) -> int:
        """Return the number of archived entries."""
        return self._lake.count()

    def append(self, batch: Sequence[bytes]) -> None:
        """Write canonical bytes straight to the lake, then to the index."""
        written = append_direct(self._lake, batch)
        if written:
            self._index.add(written)

    def archive(self, hot: HotStore, older_than: datetime | None) -> int:
        """Archive the days that ended by `older_than`; None takes the open day as well."""
        now = datetime.now(UTC)
        if older_than is None:
            now = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        report = archive_closed_days(
            self._lake,
            hot,
            Quarantine(self._settings),
            now,
            older_than=older_than,
            index=self._index,
        )
        return report.archived

    def purge(self, older_than_days: int | None, hot: HotStore | None) -> int:
        """Remove what is past its retention from every store; returns the entries removed."""
        now = datetime.now(UTC)
        policy = policy_of(self._settings, older_than_days)
        plan = plan_purge(self._lake, now, policy=policy)
        receipts = ReceiptBook(self._settings)
        receipt = execute_purge(
            self._lake, receipts, hot, self._index, plan, now, by="cleanup_expired_entries"
        )
        return 0 if receipt is None else receipt.rows

    def export(
        self, query: Query, format: str, output_path: Path | None, hot: HotStore | None
    ) -> Path:
        """Write every match to one file with its manifest; returns the file's path."""
        report = export_trail(
            self._lake, hot, query, format, output_path, exports_dir=self._settings.exports
        )
        return report.path
