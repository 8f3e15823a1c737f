"""What a day or a month is held against: its commits, its writers, the other stores, its past.

Gathered once for a run of checks, lazily, from the stores that are given; what is not given is not
known, and nothing is judged by it. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Protocol

import polars as pl

from audit_quality.reconcile import DayTally, HotDays, IndexedMonths, reconcile
from audit_quality.usual import WEEKS_BEFORE, most_repeats, usual_volume
from audit_quality.writer_numbers import HotNumbers, missing_numbers
from audit_storage.archive.gaps import Gap
from audit_storage.archive.quarantine import Rejected
from audit_storage.jobs import JobRecord
from audit_storage.lake.lake import Lake
from audit_storage.lake.view import LakeView
from audit_storage.layout import archive_app
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.verify.commit_records import CommitRecord
from claude_max_audit.settings import HOT_STORAGE_DAYS


class HotTier(HotDays, HotNumbers, Protocol):
    """What is asked of Redis; `HotStore` is one."""


class Surroundings:
    """Everything around the days of `lake` at an aware UTC instant.

    `commits` are the records of its commits, `checked` the rows of the job table about quality,
    newest first, `hot_days` the days that Redis keeps what is archived. Without `hot` or `index`
    nothing is said about that store.
    """

    def __init__(
        self,
        lake: Lake,
        now: datetime,
        *,
        commits: Mapping[str, Sequence[CommitRecord]] | None = None,
        receipts: ReceiptBook | None = None,
        rejected: Sequence[Rejected] = (),
        checked: Sequence[JobRecord] = (),
        hot: HotTier | None = None,
        index: IndexedMonths | None = None,
        hot_days: int = HOT_STORAGE_DAYS,
    ) -> None:
        self.lake = lake
        self.now = now
        self.commits = commits or {}
        self.receipts = receipts
        self.rejected = rejected
        self.checked = checked
        self.hot = hot
        self.index = index
        self.hot_days = hot_days

    @cached_property
    def volumes(self) -> dict[date, int]:
        """The entries of each UTC day of the lake."""
        return self.lake.days()

    def tallies(self, *, thorough: bool = False) -> dict[date, DayTally]:
        """Compare the stores that are there, day by day; see `reconcile`."""
        waiting = {one.entry_id for one in self.rejected if one.entry_id and not one.of_lake}
        found = reconcile(
            self.lake,
            self.hot,
            self.index,
            self.now,
            hot_days=self.hot_days,
            quarantined=waiting,
            thorough=thorough,
        )
        return {tally.day: tally for tally in found}

    @cached_property
    def tally(self) -> Mapping[date, DayTally]:
        """The comparison as every night makes it: of the index the numbers first."""
        return self.tallies() if self.hot is not None or self.index is not None else {}

    def recorded(self, day: date) -> int | None:
        """Return how many entries the day's archive committed and no purge took; None where no
        commit of it was recorded."""
        commits = [
            max(record.rows for record in records)
            for name, records in self.commits.items()
            if name.startswith(f"{archive_app(day)}/")
        ]
        return sum(commits) - self._purged_of(day) if commits else None

    def missing_numbers(self, view: LakeView, day: date) -> tuple[Gap, ...]:
        """Return the numbers that are missing among those who wrote on the day."""
        texts = [one.text for one in self.rejected if not one.of_lake]
        return missing_numbers(view, day, self.hot, texts, self.purged_days)

    @cached_property
    def purged_days(self) -> Sequence[date]:
        """The UTC days of which entries were purged."""
        return () if self.receipts is None else self.receipts.leaf_days()

    def usual_volume(self, day: date) -> tuple[int | None, int | None]:
        """Return the least and the most entries that are usual for the day."""
        return usual_volume([self.volumes[one] for one in self._before(day, self.volumes)])

    def most_repeats(self, day: date, contents: int) -> float | None:
        """Return the largest share of repeated contents that is usual for the day."""
        shares = self._shares
        return most_repeats([shares[one] for one in self._before(day, shares)], contents)

    @cached_property
    def _shares(self) -> dict[date, float]:
        """The share of repeated contents of each day that was checked, by its newest check."""
        found: dict[date, float] = {}
        for record in self.checked:
            share = record.details.get("repeated")
            if record.day is not None and isinstance(share, float):
                found.setdefault(record.day, share)
        return found

    def _before(self, day: date, days: Collection[date]) -> list[date]:
        first = day - timedelta(weeks=WEEKS_BEFORE)
        return [one for one in days if first <= one < day]

    def _purged_of(self, day: date) -> int:
        if self.receipts is None or day not in self.purged_days:
            return 0
        brought = pl.col("snapshot").str.starts_with(f"{archive_app(day)}/")
        return self.receipts.leaves(day).filter(brought).height
