"""The steps of archive, compaction and purge, and what can go wrong at each.

Importable by the processes that are killed, so nothing here starts a thread when imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from audit_storage.archive import archive as archive_module
from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake import lake as lake_module
from audit_storage.lake.compaction import compact_closed_months
from audit_storage.lake.delta_log import DeltaLog
from audit_storage.lake.lake import Lake
from audit_storage.lake.lookup import Lookup
from audit_storage.lake.part import LakePart
from audit_storage.lake.transaction import LakeTransaction
from audit_storage.lake.view import LakeView
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.purge import _Removal, execute_purge
from audit_storage.purge.receipts import ReceiptBook
from claude_max_audit.errors import LakeUnavailableError, RedisUnavailableError
from claude_max_audit.hot.release import HotRelease
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import Settings

NOW = datetime(2025, 11, 20, 3, tzinfo=UTC)
PURGED_AT = datetime(2032, 10, 11, tzinfo=UTC)
"""Seven years after the compacted days' middle."""

FAULTS = ("failed", "failed but persisted", "killed before", "killed after", "twice at once")

_PARTS = [(LakePart, "write_run"), (LakePart, "close"), (DeltaLog, "sync_file")]
STEPS: dict[str, Sequence[tuple[Any, str]]] = {
    "archive": [
        (HotStore, "prune"),
        (HotStore, "scan_day"),
        (LakeView, "day_hashes"),
        *_PARTS,
        (Quarantine, "add"),
        (DeltaLog, "append"),
        (DeltaLog, "commit"),
        (LakeTransaction, "verify"),
        (archive_module, "_check_rows"),
        (archive_module, "gaps_of_day"),
        (HotStore, "release_day"),
        (HotRelease, "release"),
    ],
    "compaction": [
        (LakeTransaction, "read_rows"),
        (LakeTransaction, "end_run"),
        *_PARTS,
        (LakeTransaction, "prove"),
        (DeltaLog, "commit"),
        (Lake, "vacuum_now"),
        (HoldBook, "active"),
        (lake_module, "vacuum"),
        (Lookup, "remove_all_but"),
        (Lookup, "build"),
        (Lookup, "_make"),
    ],
    "purge": [
        (HoldBook, "active"),
        (_Removal, "leaves"),
        (ReceiptBook, "add_leaves"),
        (ReceiptBook, "add_receipt"),
        (DeltaLog, "append"),
        (HotStore, "forget"),
        (_Removal, "stage"),
        (LakeTransaction, "remove_file"),
        *_PARTS,
        (DeltaLog, "commit"),
        (Lake, "vacuum_now"),
        (lake_module, "vacuum"),
        (Lookup, "remove_all_but"),
    ],
}
"""Every step that writes, or decides what is written, in the order of the run."""


@dataclass(frozen=True)
class Case:
    """One fault at the first time that a run comes to a step."""

    operation: str
    step: int
    fault: str

    @property
    def place(self) -> tuple[Any, str]:
        return STEPS[self.operation][self.step]

    def __str__(self) -> str:
        owner, name = self.place
        return f"{self.operation}, {owner.__name__.rpartition('.')[2]}.{name}: {self.fault}"


CASES = [
    Case(operation, step, fault)
    for operation, steps in STEPS.items()
    for step in range(len(steps))
    for fault in FAULTS
]


def run(operation: str, settings: Settings) -> None:
    """Do the operation as a process of its own would."""
    lake, hot = Lake(settings), HotStore.connect(settings.redis_url or "")
    try:
        if operation == "archive":
            archive_closed_days(lake, hot, Quarantine(settings), NOW)
        elif operation == "compaction":
            compact_closed_months(lake, NOW)
        else:
            plan = plan_purge(lake, PURGED_AT, years=7)
            execute_purge(lake, ReceiptBook(settings), hot, None, plan, PURGED_AT, by="test")
    finally:
        hot.close()


class Reached:
    """Whether a run came to its fault."""

    def __init__(self) -> None:
        self.times = 0


@contextmanager
def faulty(case: Case, settings: Settings) -> Iterator[Reached]:
    """Let the fault happen once; afterwards the step is whole again."""
    owner, name = case.place
    original, reached = getattr(owner, name), Reached()

    def step(*given: Any, **named: Any) -> Any:
        reached.times += 1
        setattr(owner, name, original)
        return _happen(case, settings, partial(original, *given, **named))

    setattr(owner, name, step)
    try:
        yield reached
    finally:
        setattr(owner, name, original)


def _happen(case: Case, settings: Settings, step: Callable[[], Any]) -> Any:
    owner, name = case.place
    if case.fault == "killed before":
        os.kill(os.getpid(), signal.SIGKILL)
    if case.fault == "twice at once":
        run(case.operation, settings)
        return step()
    if case.fault != "failed":
        step()
    if case.fault == "killed after":
        os.kill(os.getpid(), signal.SIGKILL)
    if owner in (HotStore, HotRelease):
        raise RedisUnavailableError("the test's server", f"a fault at {name}")
    raise LakeUnavailableError("the test's lake", f"a fault at {name}")


def be_killed(case: Case, settings: Settings) -> None:
    """The life of a process that is killed at the fault."""
    with faulty(case, settings):
        run(case.operation, settings)


def days_ago(days: int) -> datetime:
    """Noon of a day before `NOW`."""
    return NOW.replace(hour=12) - timedelta(days=days)
