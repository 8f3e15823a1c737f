"""Checks one month of the lake: its days together, its partition and the index, id by id.

Called by the data-quality flow, monthly, and by `claude-audit quality --month`. The rows
themselves are checked day by day (`day_quality`); this looks at what only shows across days. Reads
one version of the lake and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import polars as pl

from audit_quality.check_results import results_of_facts
from audit_quality.judge import judge
from audit_quality.reconcile import INDEX_FOREIGN, INDEX_LACKS, WAITING
from audit_quality.report import QualityReport
from audit_quality.surroundings import Surroundings
from audit_quality.usual import usual_volume
from audit_quality.years_quality import Repeats
from audit_storage.lake.delta_log import answering
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.view import LakeView
from audit_storage.layout import day_is_closed, month_of

MONTHS_BEFORE = 12
"""Months that say what is usual for one."""


def check_month(month: str, around: Surroundings) -> QualityReport:
    """Check a "YYYY-MM" month; raises `LakeUnavailableError` when it cannot be read."""
    view = around.lake.view()
    files = [file for file in view.files if file.month == month]
    repeats = Repeats(view, files)
    days = [day for day in around.volumes if month_of(day) == month]
    facts: dict[str, Any] = {
        **repeats.counts,
        **_places(view, files, month),
        **_archived(view, files, days, around),
        **_differences(month, around),
        "days_not_whole": len(days_not_whole(days, around)),
    }
    facts["entries"] = facts["rows_in_files"]
    facts["least_usual"] = _least_usual(month, around)
    judged = judge("month", pl.DataFrame([facts]), {})
    return QualityReport(
        subject=month,
        day=None,
        rows=facts["rows_in_files"],
        checks=results_of_facts(judged, facts, repeats.named, repeats.told),
        faulty_rows=repeats.faulty_rows(),
        measures=facts,
        evidence={judged.suite: judged.evidence},
    )


def days_not_whole(days: list[date], around: Surroundings) -> list[date]:
    """Return the closed days whose newest check did not pass with as many entries as now."""
    newest: dict[date, tuple[str, int]] = {}
    for record in around.checked:
        if record.day is not None:
            newest.setdefault(record.day, (record.result, record.rows))
    return [
        day
        for day in days
        if day_is_closed(day, around.now) and newest.get(day) != ("succeeded", around.volumes[day])
    ]


def _places(view: LakeView, files: list[LakeFile], month: str) -> dict[str, int]:
    """Count the rows that lie in another month or under another day than they happened on."""
    time = pl.col("timestamp")
    filed = pl.col("snapshot").str.extract(r"^archive/(\d{4}-\d{2}-\d{2})/")
    with answering(view.uri):
        counted = (
            view.rows_of(files)
            .select(
                (time.dt.strftime("%Y-%m") != month).sum().alias("outside_month"),
                (time.dt.strftime("%Y-%m-%d") != filed).sum().alias("moved"),
            )
            .collect()
        )
    return {name: int(number) for name, number in counted.to_dicts()[0].items()}


def _archived(
    view: LakeView, files: list[LakeFile], days: list[date], around: Surroundings
) -> dict[str, int | None]:
    """Count the rows of those days whose archive left a record, and what the records say."""
    recorded = {day: around.recorded(day) for day in days}
    known = {f"{day}": rows for day, rows in recorded.items() if rows is not None}
    if not known:
        return {"archived": None, "recorded": None}
    filed = pl.col("snapshot").str.extract(r"^archive/(\d{4}-\d{2}-\d{2})/")
    with answering(view.uri):
        rows = view.rows_of(files).filter(filed.is_in(list(known))).select(pl.len()).collect()
    return {"archived": int(rows.item()), "recorded": sum(known.values())}


def _differences(month: str, around: Surroundings) -> dict[str, int | None]:
    found: Counter[str] = Counter()
    for day, tally in around.tallies(thorough=True).items():
        if month_of(day) == month and day_is_closed(day, around.now):
            for one in tally.differences:
                found[one.what] += one.number
    without_redis, without_index = around.hot is None, around.index is None
    return {
        "waiting_in_redis": None if without_redis else found[WAITING],
        "index_lacks": None if without_index else found[INDEX_LACKS],
        "index_foreign": None if without_index else found[INDEX_FOREIGN],
    }


def _least_usual(month: str, around: Surroundings) -> int | None:
    """Of a month that is over; one that goes on has not all its entries yet."""
    months: Counter[str] = Counter()
    for day, rows in around.volumes.items():
        months[month_of(day)] += rows
    if month_of(around.now) <= month:
        return None
    past = [rows for one, rows in sorted(months.items()) if one < month]
    return usual_volume(past[-MONTHS_BEFORE:])[0]
