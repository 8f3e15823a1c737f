"""The purge: takes out of every store what is past its retention, and leaves a receipt.

The purge flow and `cleanup_expired_entries` call it. Permanent entries, entries under a legal
hold and entries younger than the floor are never touched. The order is: receipt and leaf hashes,
then the views (Redis, the index), then the lake in one commit, then the bytes. Killed at any point
and run again, or run twice at once, the result is the same; no step is final before what it rests
on is durable.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Protocol
from uuid import uuid4

import polars as pl
import pyarrow as pa

from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.delta_log import OvertakenError, answering
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.schema import FILE_SCHEMA, as_frame
from audit_storage.lake.transaction import LakeTransaction
from audit_storage.lake.view import LakeView
from audit_storage.layout import HOLDS_APP
from audit_storage.merkle import LEAF_PREFIX, MerkleTree
from audit_storage.purge.due import DueRule
from audit_storage.purge.holds import HoldBook, LegalHold
from audit_storage.purge.plan import (
    PurgePlan,
    PurgeTooLargeError,
    old_files,
    plan_of,
    plan_purge,
)
from audit_storage.purge.receipts import LEAF_SCHEMA, PurgeReceipt, ReceiptBook, purge_app
from audit_storage.purge.rejected import rejected_due
from audit_storage.purge.retention import check_cutoff
from audit_storage.read_ahead import read_ahead
from claude_max_audit.entry import as_utc
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query

__all__ = [
    "PurgePlan",
    "PurgeTooLargeError",
    "PurgeableIndex",
    "execute_purge",
    "plan_purge",
]

LEAF_ROWS = 500_000
"""Leaf hashes kept in one commit: some 60 MB."""

HASHED_ROWS = 150_000
"""Rows hashed at once: a month of 5,000 a day, so that its file is read once."""

FEW_ROWS = 20_000
"""Rows of a file that stay up to which they are read alone: some 20 MB."""

ATTEMPTS = 5
"""Times that a purge starts over because another commit took files that it was to rewrite."""

FORGET_CHUNK = 5_000
"""Ids that Redis and the index are asked to forget at once."""


class PurgeableIndex(Protocol):
    """What the purge asks of the index; every call may be repeated."""

    def forget(self, entry_ids: Collection[str], month: str) -> int:
        """Remove entries of a month ("YYYY-MM") from the index, bytes and all."""

    def drop_month(self, month: str) -> None:
        """Remove a whole month ("YYYY-MM"), bytes and all."""


def execute_purge(
    lake: Lake,
    receipts: ReceiptBook,
    hot: HotStore | None,
    index: PurgeableIndex | None,
    plan: PurgePlan,
    now: datetime,
    *,
    by: str,
    at_most: int | None = None,
) -> PurgeReceipt | None:
    """Remove what is due by the plan's rule; returns the receipt, or None if nothing was.

    What became due by the same rule since the plan was made is removed too, what came under a
    hold since then stays. Durable on return, and the bytes are gone from the lake's files.
    Raises `ValueError` for a cutoff below the floor, `PurgeTooLargeError` for more than
    `at_most` entries (None: the plan's), before anything is touched, and what the stores raise.
    """
    check_cutoff(plan.due_rule.latest, now)
    book = HoldBook(lake.settings)
    quarantine = Quarantine(lake.settings)
    cap = plan.at_most if at_most is None else at_most
    receipt = None
    for attempt in range(1, ATTEMPTS + 1):
        holds = book.active()
        rejected = rejected_due(quarantine, plan.due_rule, holds)
        if not _planned_anew(plan, lake.view(), holds, rejected, cap).total:
            break
        receipt_id = str(uuid4())
        with lake.begin(purge_app(receipt_id)) as transaction:
            # In this order: a hold that is placed after the reading refuses our commit.
            transaction.refuse_after(HOLDS_APP)
            holds = book.active()
            rejected = rejected_due(quarantine, plan.due_rule, holds)
            fresh = _planned_anew(plan, transaction.view, holds, rejected, cap)
            try:
                if fresh.total:  # else another purge was faster, or a hold
                    keep = _Removal(transaction, fresh.due_rule, holds)
                    receipt = _remove(keep, receipt_id, receipts, hot, index, fresh, now, by)
                    # Killed here: they are still due, and the next run takes them.
                    quarantine.erase(rejected)
                break
            except (OvertakenError, LakeUnavailableError):
                # Another purge or a compaction committed first, or took away the files that
                # we were reading: nothing of ours was published, so look again.
                if attempt == ATTEMPTS or lake.version() == transaction.view.version:
                    raise
    # Also after a run that was killed before it came here, and so found nothing due now.
    lake.vacuum_now(purged_before=plan.due_rule.latest)
    return receipt


class _Removal:
    """What goes: the rows of one version for which one expression holds."""

    def __init__(
        self, transaction: LakeTransaction, rule: DueRule, holds: Sequence[LegalHold]
    ) -> None:
        self.transaction = transaction
        self.view = transaction.view
        self.due = rule.is_due(holds)
        self.files: list[tuple[LakeFile, int]] = []
        """The files in which something is due, with how many rows."""
        for file in old_files(self.view, rule):
            rows = self.view.matching(file, self.due)
            if rows:
                self.files.append((file, rows))

    def leaves(self, receipt_id: str) -> Iterator[pa.Table]:
        """Give what outlives the entries that go, in trail order, some days at a time."""
        waiting: list[pl.DataFrame] = []
        for kept, texts in read_ahead(self._texts()):
            hashes = [sha256(text).digest() for text in texts]
            name = pl.lit(receipt_id).alias("receipt_id")
            waiting.append(kept.with_columns(name, pl.Series("leaf", hashes, dtype=pl.Binary)))
            if sum(part.height for part in waiting) >= LEAF_ROWS:
                yield _leaf_table(waiting)
                waiting = []
        if waiting:
            yield _leaf_table(waiting)

    def _texts(self) -> Generator[tuple[pl.DataFrame, list[bytes]], None, None]:
        """Give what is kept of the entries that go, and the bytes that their leaves hash."""
        among = [file for file, _ in self.files]
        for frame in self.view.scan(Query(), HASHED_ROWS, condition=self.due, among=among):
            kept = frame.select("timestamp", "entry_id", "snapshot")
            yield kept, canonical_of(frame, LEAF_PREFIX)

    def months_that_go(self) -> set[str]:
        """Return the months of which no row stays: none permanent, none held, none young."""
        going = {file.path for file, rows in self.files if rows == file.rows}
        kept = {file.month for file in self.view.files if file.path not in going}
        return {file.month for file, _ in self.files} - kept

    def by_month(self) -> dict[str, list[LakeFile]]:
        """Return the files in which something is due, by month, in order."""
        months: dict[str, list[LakeFile]] = {}
        for file, _ in self.files:
            months.setdefault(file.month, []).append(file)
        return dict(sorted(months.items()))

    def ids(self, file: LakeFile) -> Iterator[list[str]]:
        """Give the ids of a file's rows that go."""
        with answering(self.view.uri):
            found = self.view.rows_of([file]).filter(self.due).select("entry_id").collect()
        for part in found.iter_slices(FORGET_CHUNK):
            yield part.get_column("entry_id").to_list()

    def stage(self) -> None:
        """Stage the removal of whole files, and of rows out of the others."""
        for file, rows in self.files:
            self.transaction.remove_file(file)
            if rows == file.rows:
                continue
            for kept in self._kept_of(file, file.rows - rows):
                self.transaction.add_rows(file.month, kept)

    def _kept_of(self, file: LakeFile, rows: int) -> Iterator[pa.Table]:
        """Give the rows of a file that stay: few of them are picked out, many go by in groups."""
        if rows <= FEW_ROWS:
            with answering(self.view.uri):
                kept = self.view.rows_of([file]).filter(~self.due).collect()
            yield kept.select(FILE_SCHEMA.names).to_arrow().cast(FILE_SCHEMA)
            return
        for group in self.transaction.read_rows(file):
            stays = as_frame(group).select(~self.due).to_series()
            yield group.filter(stays.to_arrow())


def _leaf_table(parts: Sequence[pl.DataFrame]) -> pa.Table:
    return pl.concat(parts).select(LEAF_SCHEMA.names).to_arrow().cast(LEAF_SCHEMA)


def _planned_anew(
    plan: PurgePlan,
    view: LakeView,
    holds: Sequence[LegalHold],
    rejected: Sequence[Rejected],
    at_most: int,
) -> PurgePlan:
    """Make the plan again on a version and its holds; raises `PurgeTooLargeError`."""
    fresh = plan_of(view, plan.policy, plan.terms, plan.due_rule, holds, rejected, at_most)
    if fresh.exceeds_cap:
        raise PurgeTooLargeError(fresh.total, fresh.at_most, view.count())
    return fresh


def _remove(
    removal: _Removal,
    receipt_id: str,
    receipts: ReceiptBook,
    hot: HotStore | None,
    index: PurgeableIndex | None,
    plan: PurgePlan,
    now: datetime,
    by: str,
) -> PurgeReceipt:
    tree = MerkleTree()
    for leaves in removal.leaves(receipt_id):
        tree.add_hashes(leaves.column("leaf").to_pylist())
        receipts.add_leaves(leaves)
    first, last = plan.first_and_last_day
    receipt = PurgeReceipt(
        receipt_id=receipt_id,
        at=as_utc(now),
        by=by,
        policy=plan.policy,
        cutoff=plan.cutoff,
        first_day=first,
        last_day=last,
        rows=plan.rows,
        permanent_kept=plan.permanent_kept,
        root=tree.root().hex(),
        lake_version=plan.lake_version,
        policy_sha256=plan.policy_sha256,
        terms=plan.terms,
        held_kept=plan.held_kept,
        holds=plan.held,
        at_most=plan.at_most,
        rejected=plan.rejected,
    )
    receipts.add_receipt(receipt)
    # Killed up to here: the receipt has no removal and nobody counts it; all rows are there.
    _forget_in_views(removal, hot, index)
    # Killed here: the lake, which is the record, answers for what the views forgot.
    removal.stage()
    removal.transaction.commit(
        {"receipt": receipt_id, "removed": plan.rows, "root": receipt.root}
    )
    # Killed here: the rows are gone and the receipt counts; the next run's vacuum takes the bytes.
    return receipt


def _forget_in_views(
    removal: _Removal, hot: HotStore | None, index: PurgeableIndex | None
) -> None:
    """Take what goes out of Redis and the index; a month that goes whole is dropped.

    A month of the index is written anew once, not once for each of its files.
    """
    whole = removal.months_that_go()
    if hot is None and index is None:
        return
    for month, files in removal.by_month().items():
        of_month: list[str] = []
        for entry_ids in (ids for file in files for ids in removal.ids(file)):
            if hot is not None:
                hot.forget(entry_ids)
            if index is not None and month not in whole:
                of_month += entry_ids
        if index is not None and of_month:
            index.forget(of_month, month)
        if index is not None and month in whole:
            index.drop_month(month)
    if hot is not None:
        # Here and not after the commit: if we are killed before it, the next run does it again.
        hot.erase_traces()
