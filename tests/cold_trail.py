"""What tests of the lake share: archived days with both witnesses, purges, what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.lake import Lake
from audit_storage.merkle import root_of
from audit_storage.purge.purge import execute_purge, plan_purge
from audit_storage.purge.receipts import PurgeReceipt, ReceiptBook
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.findings import VerifyReport
from audit_storage.verify.verify import verify
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import Query


class WatchedIndex:
    """Keeps the ids it is given, by month, like the index; remembers what was dropped."""

    def __init__(self, entries: Iterable[AuditEntry]) -> None:
        self.months: dict[str, set[str]] = {}
        self.dropped: list[str] = []
        for entry in entries:
            self.months.setdefault(f"{entry.timestamp:%Y-%m}", set()).add(entry.entry_id)

    def forget(self, entry_ids: Collection[str], month: str) -> int:
        self.months.get(month, set()).difference_update(entry_ids)
        return len(entry_ids)

    def drop_month(self, month: str) -> None:
        self.dropped.append(month)
        self.months.pop(month, None)

    def ids(self) -> set[str]:
        return set().union(*self.months.values())


def archive(lake: Lake, entries: Iterable[AuditEntry]) -> None:
    """Commit entries, each day as the archive does, with its root in the log and the jobs."""
    everything = list(entries)
    for day in sorted({entry.day for entry in everything}):
        of_day = [entry for entry in everything if entry.day == day]
        ordered = sorted(of_day, key=lambda entry: (entry.timestamp, entry.entry_id))
        root = root_of(entry.canonical_bytes() for entry in ordered).hex()
        with lake.begin(f"archive/{day}") as transaction:
            transaction.add(of_day)
            snapshot = transaction.commit({"merkle_root": root})
        job = JobRecord(
            job="archive",
            started_at=of_day[0].timestamp,
            ended_at=of_day[0].timestamp,
            result="succeeded",
            day=of_day[0].timestamp.date(),
            rows=len(of_day),
            merkle_root=root,
            details={"snapshot": snapshot.name},
        )
        JobTable(lake.settings).record(job)


def purge(
    lake: Lake, now: datetime, index: WatchedIndex | None = None, *, years: int = 7
) -> PurgeReceipt | None:
    """Plan by calendar years and carry it out."""
    book = ReceiptBook(lake.settings)
    plan = plan_purge(lake, now, years=years)
    return execute_purge(lake, book, None, index, plan, now, by="test")


def stored(lake: Lake) -> set[str]:
    """The ids of all rows."""
    return {one for frame in lake.scan(Query()) for one in frame.get_column("entry_id")}


def verified(lake: Lake) -> VerifyReport:
    """Verify the lake with all that belongs to it."""
    settings = lake.settings
    return verify(Lake(settings), CommitRecords(settings), ReceiptBook(settings))
