"""Compaction: the files of each closed month become few, with the same rows; no reader notices.

The archive's flow calls `compact_closed_months` after its days. A month is one commit, made only
when the new files were read back and hold what the old ones held, each row with the commit that
brought it; so every Merkle root can be computed as before. Killed anywhere, run again or twice at
once, the rows are the same: a compaction that another commit overtook publishes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from audit_storage.lake.delta_log import OvertakenError
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile, files_to_join
from audit_storage.lake.transaction import Snapshot
from audit_storage.layout import month_of
from claude_max_audit.errors import LakeUnavailableError

CLOSED_DAYS = 2
"""Days after a month's end until it is closed: its last day is archived on the first of them."""

KEEP_HOURS = 24
"""How long the bytes of files that were joined stay, for whoever is still reading them: an
export of an old version. A purge does not wait for it."""

ATTEMPTS = 5
"""Times that a month is read again because another commit took one of its files."""

Progress = Callable[[str, int, int], None]
"""Told before each month: its name, the months that are done, and how many there are to do."""


@dataclass(frozen=True, slots=True)
class MonthCompaction:
    """What became of one month's small files. `version` is the lake's that has the new ones."""

    month: str
    rows: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    version: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What one run did, oldest month first, and how many replaced files it deleted at last.

    `skipped` are months that other commits kept changing; the next run takes them. `keyed` is
    the number of files that were given keys by which hashes and ids are looked up.
    """

    months: tuple[MonthCompaction, ...] = ()
    skipped: tuple[str, ...] = ()
    deleted: int = 0
    keyed: int = 0

    @property
    def rows(self) -> int:
        """Rows that were moved into new files."""
        return sum(month.rows for month in self.months)


def compact_closed_months(
    lake: Lake, now: datetime, *, progress: Progress | None = None
) -> CompactionReport:
    """Join the small files of every month that ended `CLOSED_DAYS` before `now`.

    Months with nothing to join cost nothing. Raises `LakeUnavailableError`; the months that
    were done before stay done. Durable on return.
    """
    waiting = months_to_compact(lake, now)
    done: list[MonthCompaction] = []
    skipped: list[str] = []
    for at, month in enumerate(waiting):
        if progress is not None:
            progress(month, at, len(waiting))
        try:
            report = _compact(lake, month)
        except OvertakenError:
            skipped.append(month)
            continue
        if report is not None:
            done.append(report)
    # Also without a new month: this takes the files that the run before last has replaced.
    if lake.version() < 0:
        return CompactionReport()
    deleted = lake.vacuum_now(keep_hours=KEEP_HOURS)
    # Killed here: the files without keys are read by whoever looks something up.
    return CompactionReport(tuple(done), tuple(skipped), len(deleted), lake.build_lookup())


def months_to_compact(lake: Lake, now: datetime) -> list[str]:
    """Return the closed months that have files to join, oldest first."""
    open_from = month_of(now - timedelta(days=CLOSED_DAYS))
    files = lake.view().files
    closed = sorted({file.month for file in files if file.month < open_from})
    return [month for month in closed if files_to_join(files, month)]


def _compact(lake: Lake, month: str) -> MonthCompaction | None:
    """Compact one month; None when another compaction did it meanwhile."""
    for attempt in range(1, ATTEMPTS + 1):
        started, view = monotonic(), lake.view()
        joined = files_to_join(view.files, month)
        try:
            snapshot = lake.compact_month(month)
        except (OvertakenError, LakeUnavailableError):
            # A purge or another compaction came first, or took away the files that we were
            # reading; nothing of ours was published.
            if attempt == ATTEMPTS or lake.version() == view.version:
                raise
            continue
        return None if snapshot is None else _report(month, joined, snapshot, started)
    return None


def _report(
    month: str, joined: list[LakeFile], snapshot: Snapshot, started: float
) -> MonthCompaction:
    return MonthCompaction(
        month=month,
        rows=snapshot.rows,
        files_before=len(joined),
        files_after=snapshot.files,
        bytes_before=sum(file.bytes for file in joined),
        bytes_after=snapshot.bytes,
        version=snapshot.version,
        seconds=monotonic() - started,
    )
