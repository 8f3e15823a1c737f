"""Looks for what may stand in the lake only once, and counts what each writer numbered.

`verify` calls it on the readable files, and the quality checks ask it for repeated rows. Memory
is 8 bytes a row: values are compared by a 64-bit hash first, and only those that agree are read
again and compared themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from audit_storage.lake.delta_log import answering
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.schema import FILE_SCHEMA, as_frame
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
    for column, kind in _UNIQUE.items():
        for group in repeated_rows(view, files, column, within).partition_by(
            column, maintain_order=True
        ):
            places = ", ".join(
                f"{at.date()} in commit {name}"
                for at, name in group.select("timestamp", "snapshot").sort("timestamp").rows()
            )
            detail = f"{column} {group.item(0, column)} stands {group.height} times: {places}"
            findings.add(kind, view.uri, detail, group.item(0, "entry_id"))


def repeated_rows(
    view: LakeView, files: Sequence[LakeFile], column: str, within: pl.Expr | None = None
) -> pl.DataFrame:
    """Return the rows whose value in a column another row has too: the value, `entry_id`,
    `snapshot` and `timestamp`. An empty value is no value."""
    rows = view.rows_of(files)
    rows = rows if within is None else rows.filter(within)
    rows = rows.filter(pl.col(column).is_not_null())
    hashes = _collect(view, rows.select(pl.col(column).hash())).to_series().sort()
    suspects = hashes.filter(hashes == hashes.shift()).unique()
    named = sorted({*_NAMED, column})
    if not suspects.len():
        return as_frame(FILE_SCHEMA.empty_table()).select(named)
    alike = rows.filter(pl.col(column).hash().is_in(suspects.implode()))
    found = _collect(view, alike.select(named))
    return found.filter(pl.col(column).is_duplicated())


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
