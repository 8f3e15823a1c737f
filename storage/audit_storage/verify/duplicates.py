"""Looks for what may stand in the lake only once, and counts what each writer numbered.

`verify` calls it on the readable files. Memory is 8 bytes a row: values are compared by a 64-bit
hash first, and only those that agree are read again and compared themselves.
"""

from __future__ import annotations

import polars as pl

from audit_storage.lake.delta_log import answering
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.view import LakeView
from audit_storage.verify.findings import Findings

MAX_NOTES = 20
"""Most writers with gaps that are named; the others are counted."""

_UNIQUE = {"entry_id": "duplicate_id", "entry_hash": "duplicate_hash"}
_NAMED = ("entry_id", "snapshot", "timestamp")


def find_duplicates(
    view: LakeView, files: list[LakeFile], within: pl.Expr | None, findings: Findings
) -> None:
    """Report every entry_id and entry_hash that stands in more than one row."""
    rows = view.rows_of(files)
    rows = rows if within is None else rows.filter(within)
    for column, kind in _UNIQUE.items():
        hashes = _collect(view, rows.select(pl.col(column).hash())).to_series()
        suspects = hashes.filter(hashes.is_duplicated()).unique()
        if not suspects.len():
            continue
        alike = rows.filter(pl.col(column).hash().is_in(suspects.implode()))
        found = _collect(view, alike.select({*_NAMED, column}))
        for group in found.partition_by(column, maintain_order=True):
            if group.height > 1:
                places = ", ".join(
                    f"{at.date()} in commit {name}"
                    for at, name in group.select("timestamp", "snapshot").sort("timestamp").rows()
                )
                detail = f"{column} {group.item(0, column)} stands {group.height} times: {places}"
                findings.add(kind, view.uri, detail, group.item(0, "entry_id"))


def writer_notes(view: LakeView, files: list[LakeFile]) -> list[str]:
    """Tell which numbers of each writer the lake lacks: purged, not archived yet, or lost."""
    number = pl.col("writer_seq")
    counted = _collect(
        view,
        view.rows_of(files)
        .group_by("writer_id")
        .agg(number.max().alias("last"), number.n_unique().alias("n"))
        .filter(pl.col("last") > pl.col("n"))
        .sort("writer_id"),
    )
    notes = [
        f"writer {writer}: {last - n:,} of its entries 1 to {last:,} are not in the lake "
        "(purged, not archived yet, or lost)"
        for writer, last, n in counted.head(MAX_NOTES).rows()
    ]
    if counted.height > MAX_NOTES:
        notes.append(f"{counted.height - MAX_NOTES} more writers have such gaps")
    return notes


def _collect(view: LakeView, rows: pl.LazyFrame) -> pl.DataFrame:
    with answering(view.uri):
        return rows.collect()
