"""The operations of the fault table, their steps at the system's boundaries, what happens there.

Importable by the processes that are killed, so nothing here starts a thread when imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.export.export import export_trail
from audit_storage.index.index import EntryIndex
from audit_storage.index.refill import refill_month
from audit_storage.lake.compaction import compact_closed_months
from audit_storage.lake.lake import Lake
from audit_storage.layout import month_of
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.purge import execute_purge
from audit_storage.purge.receipts import ReceiptBook
from boundary import Boundary, Step, Watch
from claude_max_audit.errors import AuditError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import Settings

NOW = datetime(2025, 11, 20, 3, tzinfo=UTC)
PURGED_AT = datetime(2032, 10, 11, tzinfo=UTC)
"""Seven years after the compacted days' middle."""

FAILED, PERSISTED = "failed", "failed but persisted"
KILLED_BEFORE, KILLED_AFTER, TWICE = "killed before", "killed after", "twice at once"
FAULTS = (FAILED, PERSISTED, KILLED_BEFORE, KILLED_AFTER, TWICE)

HELD = "held"
"""The agent of whom a hold is placed and released."""

EXPORT = "trail.jsonl"


def _archive(settings: Settings, hot: HotStore) -> None:
    archive_closed_days(Lake(settings), hot, Quarantine(settings), NOW)


def _compact(settings: Settings, hot: HotStore) -> None:
    compact_closed_months(Lake(settings), NOW)


def _purge(settings: Settings, hot: HotStore) -> None:
    lake = Lake(settings)
    plan = plan_purge(lake, PURGED_AT, years=7)
    with_words = EntryIndex(settings, None)
    execute_purge(lake, ReceiptBook(settings), hot, with_words, plan, PURGED_AT, by="test")


def _export(settings: Settings, hot: HotStore) -> None:
    path = settings.exports / EXPORT
    again = path.exists() and not path.with_name(f"{EXPORT}.manifest.json").exists()
    exports = settings.exports
    export_trail(
        Lake(settings), hot, Query(), "jsonl", path, exports_dir=exports, overwrite=again
    )


def _place(settings: Settings, hot: HotStore) -> None:
    HoldBook(settings).place(parse_query({"agent_id": HELD}), by="a", reason="b", now=NOW)


def _release(settings: Settings, hot: HotStore) -> None:
    book = HoldBook(settings)
    for hold in book.active():
        with suppress(ValueError):  # somebody else was faster
            book.release(hold.hold_id, by="a", reason="b", now=NOW)


def _reindex(settings: Settings, hot: HotStore) -> None:
    lake, index = Lake(settings), EntryIndex(settings, None)
    for month in sorted({month_of(day) for day in lake.days()}):
        refill_month(lake, index, month)


OPERATIONS: Mapping[str, Callable[[Settings, HotStore], None]] = {
    "archive": _archive,
    "compaction": _compact,
    "purge": _purge,
    "export": _export,
    "hold": _place,
    "release": _release,
    "reindex": _reindex,
}


@dataclass(frozen=True)
class Case:
    """One fault at one step."""

    operation: str
    step: Step
    fault: str

    def __str__(self) -> str:
        return f"{self.operation}, {self.step}: {self.fault}"


def run(operation: str, settings: Settings) -> None:
    """Do the operation as a process of its own would."""
    hot = HotStore.connect(settings.redis_url or "")
    try:
        OPERATIONS[operation](settings, hot)
    finally:
        hot.close()


def steps_of(operation: str, settings: Settings) -> dict[Step, Boundary]:
    """Do it, and return every step that it came to, in order."""
    watch = Watch(lambda step, boundary, call: call())
    with watch.watching():
        run(operation, settings)
    return watch.steps


def faults_at(step: Step, boundary: Boundary) -> tuple[str, ...]:
    """What can go wrong there: a call that only reads leaves nothing behind."""
    faults = FAULTS if boundary.writes else (FAILED, TWICE)
    if step.caller.startswith(_UNDER_A_LOCK):
        # A month of the index is locked: whoever comes second waits for the first.
        return tuple(fault for fault in faults if fault != TWICE)
    return faults


_UNDER_A_LOCK = ("month.", "semantic_index.", "word_index.", "word_table.")


def run_into(case: Case, settings: Settings) -> bool:
    """Run the operation into its fault, if it lives; says whether it came there.

    What it raises then must be an error of ours, or the system's own about a file.
    """
    reached = False

    def at(step: Step, boundary: Boundary, call: Callable[[], Any]) -> Any:
        nonlocal reached
        if step != case.step or reached:
            return call()
        reached = True
        if case.fault == KILLED_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        if case.fault == TWICE:
            with watch.paused():
                run(case.operation, settings)
            return call()
        if case.fault != FAILED:
            call()
        if case.fault == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        raise boundary.error(str(step))

    watch = Watch(at)
    with watch.watching(), suppress(AuditError, OSError):
        run(case.operation, settings)
    return reached


def days_ago(days: int) -> datetime:
    """Noon of a day before `NOW`."""
    return NOW.replace(hour=12) - timedelta(days=days)
