"""Holds the entries of each commit against its records, and each receipt against its leaves.

`verify` hands it what it has seen, in trail order, the purged leaf hashes among it: so the Merkle
root of a commit can be computed although some of its entries are gone.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import polars as pl

from audit_storage.layout import archive_app
from audit_storage.merkle import MerkleTree
from audit_storage.purge.receipts import PurgeReceipt
from audit_storage.verify.commit_records import CommitRecord
from audit_storage.verify.findings import Findings


class CommitTally:
    """One tree per commit, fed with leaves in trail order; O(log n) memory each."""

    def __init__(self) -> None:
        self.trees: dict[str, MerkleTree] = {}
        self.purged = 0

    def add(self, leaves: pl.DataFrame, findings: Findings) -> None:
        """Take the next leaves; rows with `purged` are hashes that outlived their entries."""
        both = leaves.filter(
            pl.struct("entry_id", "snapshot").is_duplicated() & pl.col("purged").any()
        )
        returned = both.filter("purged").join(
            both.filter(~pl.col("purged")), on=["entry_id", "snapshot"], how="semi"
        )
        for entry_id, name in returned.select("entry_id", "snapshot").rows():
            findings.add("unpurged", f"commit {name}", "purged, yet in the lake", entry_id)
        self.purged += leaves.filter("purged").height
        for name, leaf in leaves.select("snapshot", "leaf").rows():
            self._tree(name).add_hash(leaf)

    def _tree(self, name: str) -> MerkleTree:
        tree = self.trees.get(name)
        if tree is None:
            tree = self.trees[name] = MerkleTree()
        return tree


def check_commits(
    tally: CommitTally,
    records: dict[str, list[CommitRecord]],
    days: Collection[date] | None,
    findings: Findings,
) -> list[str]:
    """Compare what was seen with what was recorded; returns notes on what has no record.

    With `days`, only commits of these days' archives are compared: of others a part was seen.
    """
    for name, witnesses in sorted(records.items()):
        if days is not None and not _of_days(name, days):
            continue
        tree = tally.trees.get(name, MerkleTree())
        _check_witnesses(name, witnesses, findings)
        for record in witnesses:
            where = f"commit {name} ({record.witness})"
            if tree.size != record.rows:
                detail = f"{record.rows} entries were recorded, {tree.size} are there or receipted"
                findings.add("commit_rows", where, detail)
            elif record.root is not None and record.root != tree.root().hex():
                detail = f"recorded {record.root}, computed {tree.root().hex()}"
                findings.add("commit_root", where, detail)
    unrecorded = sorted(set(tally.trees) - set(records))
    if not unrecorded:
        return []
    named = ", ".join(unrecorded[:3]) + (", ..." if len(unrecorded) > 3 else "")
    return [f"{len(unrecorded)} commits have no record to compare with: {named}"]


def check_receipts(
    receipts: list[PurgeReceipt], trees: dict[str, MerkleTree], findings: Findings
) -> None:
    """Compare each receipt's number of entries and root with the leaf hashes kept for it."""
    for receipt in receipts:
        tree = trees.get(receipt.receipt_id, MerkleTree())
        if (tree.size, tree.root().hex()) != (receipt.rows, receipt.root):
            findings.add(
                "receipt",
                f"receipt {receipt.receipt_id}",
                f"says {receipt.rows} entries with root {receipt.root}, "
                f"kept are {tree.size} with root {tree.root().hex()}",
            )


def _of_days(name: str, days: Collection[date]) -> bool:
    return any(name.startswith(f"{archive_app(day)}/") for day in days)


def _check_witnesses(name: str, witnesses: list[CommitRecord], findings: Findings) -> None:
    rows = {record.rows for record in witnesses}
    roots = {record.root for record in witnesses if record.root is not None}
    if len(rows) > 1 or len(roots) > 1:
        said = "; ".join(f"{w.witness}: {w.rows} entries, root {w.root}" for w in witnesses)
        findings.add("commit_records", f"commit {name}", said)
