"""The purge: takes out of every store what is past its retention, and leaves a receipt.

The purge flow and `cleanup_expired_entries` call it. Permanent entries and entries younger than
the floor are never touched. The order is: receipt and leaf hashes, then the views (Redis, the
index), then the lake in one commit, then the bytes. Killed at any point and run again, or run
twice at once, the result is the same; no step is final before what it rests on is durable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Protocol
from uuid import uuid4

import polars as pl
import pyarrow as pa

from audit_storage.lake.delta_log import OvertakenError, answering
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.schema import canonical_of
from audit_storage.lake.transaction import LakeTransaction
from audit_storage.lake.view import LakeView
from audit_storage.layout import ONE_MICROSECOND
from audit_storage.merkle import MerkleTree, leaf_hash
from audit_storage.purge.plan import PurgePlan, is_due, old_files, plan_of, plan_purge
from audit_storage.purge.receipts import LEAF_SCHEMA, PurgeReceipt, ReceiptBook, purge_app
from audit_storage.purge.retention import check_cutoff
from claude_max_audit.entry import as_utc
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span
from claude_max_audit.vocabulary import Retention

__all__ = ["PurgePlan", "PurgeableIndex", "execute_purge", "plan_purge"]

LEAF_ROWS = 100_000
"""Leaf hashes kept in one commit: some 8 MB."""

ATTEMPTS = 5
"""Times that a purge starts over because another commit took files that it was to rewrite."""

FORGET_CHUNK = 5_000
"""Ids that Redis and the index are asked to forget at once."""


class PurgeableIndex(Protocol):
    """What the purge asks of the index; every call may be repeated."""

    def forget(self, entry_ids: Collection[str]) -> int:
        """Remove entries from the index."""

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
) -> PurgeReceipt | None:
    """Remove what is due under the plan's cutoff; returns the receipt, or None if nothing was.

    What became due under the same cutoff since the plan was made is removed too. Durable on
    return, and the bytes are gone from the lake's files. Raises `ValueError` for a cutoff below
    the floor, and what the stores raise.
    """
    check_cutoff(plan.cutoff, now)
    receipt = None
    for attempt in range(1, ATTEMPTS + 1):
        if not plan_of(lake.view(), plan.policy, plan.cutoff).rows:
            break
        receipt_id = str(uuid4())
        with lake.begin(purge_app(receipt_id)) as transaction:
            try:
                receipt = _remove(transaction, receipt_id, receipts, hot, index, plan, now, by)
                break
            except (OvertakenError, LakeUnavailableError):
                # Another purge or a compaction committed first, or took away the files that
                # we were reading: nothing of ours was published, so look again.
                if attempt == ATTEMPTS or lake.version() == transaction.view.version:
                    raise
    # Also after a run that was killed before it came here, and so found nothing due now.
    lake.vacuum_now()
    return receipt


def _remove(
    transaction: LakeTransaction,
    receipt_id: str,
    receipts: ReceiptBook,
    hot: HotStore | None,
    index: PurgeableIndex | None,
    plan: PurgePlan,
    now: datetime,
    by: str,
) -> PurgeReceipt | None:
    view = transaction.view
    fresh = plan_of(view, plan.policy, plan.cutoff)
    if not fresh.rows:  # another purge was faster
        return None
    tree = MerkleTree()
    for leaves in _leaves(view, fresh.cutoff, receipt_id):
        for leaf in leaves.column("leaf").to_pylist():
            tree.add_hash(leaf)
        receipts.add_leaves(leaves)
    receipt = PurgeReceipt(
        receipt_id=receipt_id,
        at=as_utc(now),
        by=by,
        policy=fresh.policy,
        cutoff=fresh.cutoff,
        first_day=min(fresh.days),
        last_day=max(fresh.days),
        rows=fresh.rows,
        permanent_kept=fresh.permanent_kept,
        root=tree.root().hex(),
        lake_version=view.version,
    )
    receipts.add_receipt(receipt)
    # Killed up to here: the receipt has no removal and nobody counts it; all rows are there.
    _forget_in_views(view, fresh.cutoff, hot, index)
    # Killed here: the lake, which is the record, answers for what the views forgot.
    _stage_removal(transaction, fresh.cutoff)
    transaction.commit({"receipt": receipt_id, "removed": fresh.rows, "root": receipt.root})
    # Killed here: the rows are gone and the receipt counts; the next run's vacuum takes the bytes.
    return receipt


def _leaves(view: LakeView, cutoff: datetime, receipt_id: str) -> Iterator[pa.Table]:
    """Give what outlives the entries that are due, in trail order, some days at a time."""
    if not old_files(view, cutoff):
        return
    standard = {"retention": (Retention.STANDARD.value,)}
    due = Query(where=standard, span=Span(end=cutoff - ONE_MICROSECOND))
    waiting: list[pl.DataFrame] = []
    for frame in view.scan(due):
        hashes = [leaf_hash(data) for data in canonical_of(frame)]
        waiting.append(
            frame.select(
                pl.lit(receipt_id).alias("receipt_id"),
                "timestamp",
                "entry_id",
                "snapshot",
                pl.Series("leaf", hashes, dtype=pl.Binary),
            )
        )
        if sum(part.height for part in waiting) >= LEAF_ROWS:
            yield pl.concat(waiting).to_arrow().cast(LEAF_SCHEMA)
            waiting = []
    if waiting:
        yield pl.concat(waiting).to_arrow().cast(LEAF_SCHEMA)


def _forget_in_views(
    view: LakeView, cutoff: datetime, hot: HotStore | None, index: PurgeableIndex | None
) -> None:
    """Take what is due out of Redis and the index; a month that goes whole is dropped."""
    kept_months = {
        file.month
        for file in view.files
        if file.start >= cutoff or view.matching(file, is_due(cutoff)) < file.rows
    }
    for file in old_files(view, cutoff):
        for entry_ids in _due_ids(view, file, cutoff):
            if hot is not None:
                hot.forget(entry_ids)
            if index is not None and file.month in kept_months:
                index.forget(entry_ids)
        if index is not None and file.month not in kept_months:
            index.drop_month(file.month)


def _due_ids(view: LakeView, file: LakeFile, cutoff: datetime) -> Iterator[list[str]]:
    with answering(view.uri):
        found = view.rows_of([file]).filter(is_due(cutoff)).select("entry_id").collect()
    for part in found.iter_slices(FORGET_CHUNK):
        yield part.get_column("entry_id").to_list()


def _stage_removal(transaction: LakeTransaction, cutoff: datetime) -> None:
    """Stage the removal of whole files, and of rows out of the others."""
    for file in old_files(transaction.view, cutoff):
        due = transaction.view.matching(file, is_due(cutoff))
        if not due:
            continue
        transaction.remove_file(file)
        if due == file.rows:
            continue
        for group in transaction.read_rows(file):
            rows = pl.from_arrow(group)
            assert isinstance(rows, pl.DataFrame)
            kept = rows.select(~is_due(cutoff)).to_series()
            transaction.add_rows(file.month, group.filter(kept.to_arrow()))
