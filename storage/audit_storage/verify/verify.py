"""Verify (fsck): computes the lake's every claim anew from its stored bytes, and names misfits.

The verify flow and `claude-audit verify` call it, and the tests' faults end by asking it. It
reads every byte a few times, changes nothing, mends nothing, and needs neither Redis nor the
index: one that is behind is no damage to the record (`reconcile` tells of it). Memory is bounded
by one frame and 8 bytes an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from copy import copy
from datetime import date

import polars as pl

from audit_storage.export.chronicle import merge_ordered
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile, files_for_day
from audit_storage.lake.query import span_predicate
from audit_storage.lake.view import LakeView
from audit_storage.layout import span_of_day
from audit_storage.merkle import MerkleTree
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.verify.commit_check import CommitTally, check_commits, check_receipts
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.duplicates import find_duplicates, writer_notes
from audit_storage.verify.file_check import readable_files, reading, unsummed_note
from audit_storage.verify.findings import Findings, VerifyReport
from audit_storage.verify.orphans import orphan_notes
from audit_storage.verify.row_check import LEAF_COLUMNS, check_rows
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.query import Query

Progress = Callable[[int, int], None]
"""Is told the entries that are done, and how many there are; each counts twice, as it is read."""

ATTEMPTS = 3
"""Times that a lake which changed while it was read is read again before misfits count."""


def verify(
    lake: Lake,
    records: CommitRecords,
    receipts: ReceiptBook,
    *,
    days: Collection[date] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check the whole lake, or some UTC days of it; see `findings.KINDS` for what is found.

    Raises `LakeUnavailableError` when the log itself cannot be read.
    """
    for attempt in range(1, ATTEMPTS + 1):
        version = lake.version()
        try:
            report = _Verification(lake, days, progress).run(records, receipts)
        except LakeUnavailableError:
            if attempt == ATTEMPTS or lake.version() == version:
                raise
            continue
        # A purge or an archive that came between may look like a misfit: then look again.
        if report.whole or lake.version() == version:
            break
    return report


class _Verification:
    """One reading of one version."""

    def __init__(
        self, lake: Lake, days: Collection[date] | None, progress: Progress | None
    ) -> None:
        self._lake = lake
        self._days = None if days is None else sorted(set(days))
        self._progress = progress
        self._findings = Findings()
        self._notes: list[str] = []
        self._tally = CommitTally()
        self._receipted: dict[str, MerkleTree] = {}
        self._entries = 0
        self._total = 0
        self._read = 0

    def run(self, records: CommitRecords, receipts: ReceiptBook) -> VerifyReport:
        written = records.read()
        view = self._sound_view()
        purged = self._purged(receipts)
        for leaves in merge_ordered(self._leaves(view), purged):
            self._tally.add(leaves, self._findings)
        self._notes += check_commits(self._tally, written, self._days, self._findings)
        if self._days is None:
            check_receipts(receipts.receipts(), self._receipted, self._findings)
            with reading(self._findings, "writers"):
                self._notes += writer_notes(view, list(view.files))
        with reading(self._findings, "duplicates"):
            find_duplicates(view, list(view.files), self._within(), self._findings)
        return VerifyReport(
            lake_version=view.version,
            files=len(view.files),
            entries=self._entries,
            commits=len(self._tally.trees),
            purged=self._tally.purged,
            findings=tuple(self._findings.listed),
            counts=dict(self._findings.counts),
            notes=tuple(self._notes),
        )

    def _sound_view(self) -> LakeView:
        """Return the newest version without the files that cannot be read."""
        view = copy(self._lake.fresh_view())
        if view.version < 0:
            return view
        files = self._chosen(view)
        self._total = 2 * sum(file.rows for file in files)
        self._notes += unsummed_note(files)
        folder = self._lake.filesystem()
        if self._days is None:
            self._notes += orphan_notes(view, folder)
        sound = readable_files(view, files, folder, self._findings, self._tell)
        self._read = sum(rows for _, rows in sound)
        view.files = tuple(file for file, _ in sound)
        return view

    def _chosen(self, view: LakeView) -> list[LakeFile]:
        if self._days is None:
            return list(view.files)
        chosen = {f.path: f for day in self._days for f in files_for_day(view.files, day)}
        return list(chosen.values())

    def _leaves(self, view: LakeView) -> Iterator[pl.DataFrame]:
        """Check the rows in trail order; give what is left of them."""
        days: Collection[date] = self._days or ()
        if self._days is None:
            with reading(self._findings, "days"):
                days = view.days()
        for day in days:
            with reading(self._findings, str(day)):
                for rows in view.scan(Query(span=span_of_day(day))):
                    yield check_rows(rows, self._findings).with_columns(purged=pl.lit(False))
                    self._entries += rows.height
                    self._tell(self._read + self._entries)
        if self._days is None and self._entries != self._read:
            missed = f"{self._read - self._entries} rows are not found on the days that they are of"
            self._findings.add("file_statistics", view.uri, missed)

    def _purged(self, receipts: ReceiptBook) -> Iterator[pl.DataFrame]:
        """Give the leaf hashes that outlived their entries, and count them per receipt."""
        chosen = receipts.leaf_days()
        for day in chosen if self._days is None else [d for d in chosen if d in self._days]:
            leaves = receipts.leaves(day)
            for receipt_id, leaf in leaves.select("receipt_id", "leaf").rows():
                self._receipted.setdefault(receipt_id, MerkleTree()).add_hash(leaf)
            yield leaves.select(LEAF_COLUMNS).with_columns(purged=pl.lit(True))

    def _within(self) -> pl.Expr | None:
        if self._days is None:
            return None
        spans = [span_predicate(span_of_day(day)) for day in self._days]
        return pl.any_horizontal([span for span in spans if span is not None])

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total)
