"""Checks one archived day from the lake's own bytes and reports what does not fit.

Called by the data-quality flow and `claude-audit quality`. Reads one version of the lake, in
chunks; never changes it, and never needs Redis or the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Protocol

import polars as pl

from audit_quality.day_snapshot import snapshot_of
from audit_quality.expectations import checks_of, run_checks
from audit_quality.report import QualityReport
from audit_storage.layout import span_of_day
from claude_max_audit.query import Query


class ScannedLake(Protocol):
    """What a check asks of the lake; `audit_storage.lake.lake.Lake` is one."""

    def scan(self, query: Query) -> Iterator[pl.DataFrame]:
        """Give all matches in frames of `schema.FILE_SCHEMA`, oldest first."""


def check_day(lake: ScannedLake, day: date) -> QualityReport:
    """Check every row that the lake holds for a UTC day.

    A failed check is told in the report and raises nothing; a lake that cannot be read raises
    `LakeUnavailableError`.
    """
    return check_rows(lake.scan(Query(span=span_of_day(day))), day)


def check_rows(chunks: Iterable[pl.DataFrame], day: date) -> QualityReport:
    """Check frames of `schema.FILE_SCHEMA` as the rows of one UTC day."""
    snapshot = snapshot_of(chunks)
    return QualityReport(
        day=day,
        rows=snapshot.height,
        checks=run_checks(snapshot, checks_of(day)),
        duplicated_contents=_duplicated_contents(snapshot),
    )


def _duplicated_contents(snapshot: pl.DataFrame) -> int:
    """Count the rows whose content stood in an earlier row; entries without content not."""
    hashes = snapshot.filter(pl.col("has_content") == "yes")["content_hash"]
    return hashes.len() - hashes.n_unique()
