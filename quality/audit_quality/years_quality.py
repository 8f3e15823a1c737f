"""Checks all years of the lake at once: is every id and every hash there only once?

By aggregate: 8 bytes a row are held, hashes of the values; only rows whose hashes agree are read
again and compared. Called by the data-quality flow and `claude-audit quality --all-years`. Reads
one version of the lake and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from audit_quality.check_results import results_of_facts
from audit_quality.judge import judge
from audit_quality.report import ALL_YEARS, FaultyRow, QualityReport
from audit_quality.row_evidence import KEPT_FAULTY_ROWS, row_as_json
from audit_storage.lake.delta_log import answering
from audit_storage.lake.lake import Lake
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.view import LakeView
from audit_storage.verify.duplicates import repeated_rows


def check_years(lake: Lake) -> QualityReport:
    """Check the whole lake; raises `LakeUnavailableError` when it cannot be read to its end."""
    view = lake.view()
    facts = Repeats(view, view.files)
    rows = facts.counts["rows_in_files"]
    judged = judge("years", pl.DataFrame([facts.counts]), {})
    return QualityReport(
        subject=ALL_YEARS,
        day=None,
        rows=rows,
        checks=results_of_facts(judged, facts.counts, facts.named, facts.told),
        faulty_rows=facts.faulty_rows(),
        measures=dict(facts.counts),
        evidence={judged.suite: judged.evidence},
    )


class Repeats:
    """Which ids and hashes stand more than once in some files: counts, ids, and where they are."""

    def __init__(self, view: LakeView, files: Sequence[LakeFile]) -> None:
        self._view, self._files = view, files
        self.named: dict[str, list[str]] = {}
        self.told: dict[str, str] = {}
        with answering(view.uri):
            rows = int(view.rows_of(files).select(pl.len()).collect().item())
        self.counts = {"rows_in_files": rows, "rows_in_log": sum(file.rows for file in files)}
        for fact, column in (("ids_again", "entry_id"), ("hashes_again", "entry_hash")):
            found = repeated_rows(view, files, column).sort(column, "timestamp")
            self.counts[fact] = found.height
            self.named[fact] = found.get_column("entry_id").to_list()
            self.told[fact] = _places(found, column)

    def faulty_rows(self) -> tuple[FaultyRow, ...]:
        """Return the rows themselves, as they stand in the lake, up to a limit."""
        ids = sorted({one for named in self.named.values() for one in named})
        if not ids:
            return ()
        wanted = pl.col("entry_id").is_in(ids[:KEPT_FAULTY_ROWS])
        with answering(self._view.uri):
            rows = self._view.rows_of(self._files).filter(wanted).collect()
        return tuple(
            FaultyRow(
                row["timestamp"].date(),
                row["entry_id"],
                tuple(
                    fact.replace("_", " ")
                    for fact, ids in self.named.items()
                    if row["entry_id"] in ids
                ),
                row_as_json(row),
            )
            for row in rows.to_dicts()
        )


def _places(rows: pl.DataFrame, column: str) -> str:
    """Say of the first repeated value on which days it stands."""
    if rows.is_empty():
        return ""
    first = rows.filter(pl.col(column) == rows.item(0, column))
    days = ", ".join(f"{at:%Y-%m-%d}" for at in first.get_column("timestamp"))
    return f"the first stands on {days}"
