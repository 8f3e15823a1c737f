"""Steps of the demonstration that bring entries in: import, archive.

Each does its work, reads back from the stores what became of it, and returns what to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from audit_flows.amounts import count, counted, size
from audit_flows.commands.import_ import passed_over_table, take_in
from audit_flows.demo.agreement import Agreement
from audit_flows.demo.source import Holdings, Source
from audit_flows.imports.report import ImportReport
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import fields
from audit_flows.workplace import FLUSH_SECONDS, Workplace
from audit_storage.index.index import EntryIndex
from audit_storage.jobs import JobRecord, JobTable
from claude_max_audit.query import parse_query
from claude_max_audit.vocabulary import AuditEntryType

EVERYTHING = parse_query({})


def bring_in(place: Workplace, source: Source) -> ImportReport | None:
    """Record every entry of the source; on return all are in Redis."""
    if source.path is not None:
        return take_in(place, source.path, None)
    for draft in source.drafts():
        place.auditor.sync.record(**draft.arguments())
    place.auditor.sync.flush_all(FLUSH_SECONDS)
    return None


def show_import(
    place: Workplace, report: ImportReport | None, held: Holdings, grows: bool, agree: Agreement
) -> RenderableType:
    """Say what Redis holds now, and compare it with what the source holds."""
    total = place.hot.count(EVERYTHING)
    agree.compare("entries of the input that are in Redis", total, _existing(place, held))
    if not grows:
        agree.compare("entries in Redis, against the input", len(held.ids), total)
    by_type = {kind: place.hot.count(parse_query({"entry_type": kind})) for kind in AuditEntryType}
    kinds = ", ".join(f"{count(n)} {kind}" for kind, n in by_type.items() if n)
    agree.compare("entries in Redis by type", total, sum(by_type.values()))
    rows: list[tuple[str, RenderableType]] = [
        ("entries in Redis", Text(count(total), style="bold")),
        ("by type", kinds),
        ("agents", count(place.hot.figures(datetime.now(UTC)).active_agents)),
        ("days (UTC)", _span(sorted(place.hot.days()))),
    ]
    if report is None:
        return fields(rows)
    agree.compare(
        "lines that gave entries or were passed over", report.lines, _accounted_for(report)
    )
    told = f"{counted(report.lines, 'line')} in {counted(report.files, 'file')}: "
    told += f"{count(report.lines_with_entries)} gave entries, "
    told += f"{count(sum(report.passed_over.values()))} were passed over"
    if report.untimed:
        untimed = f"{counted(report.untimed, 'entry')}: marked, and dated with the import's time"
        rows.append(("without a time", untimed))
    parts: list[RenderableType] = [fields([("input", told), *rows])]
    if report.passed_over:
        parts += [Text("\n  passed over, and the first line of each kind", style="dim")]
        parts += [passed_over_table(report)]
    return Group(*parts)


def archive(place: Workplace) -> None:
    """Run the job `daily-archive`; every closed day is in the lake and the index afterwards."""
    with place.terminal.telling("archiving") as tell:
        run_flow("daily-archive", place.settings, on_line=tell)


def show_archive(place: Workplace, total: int, agree: Agreement) -> RenderableType:
    """Say what the lake and the index hold, and that nothing was lost on the way."""
    place.lake.refresh()
    days = place.lake.days()
    archived = place.lake.count()
    waiting = {day: n for day, n in place.hot.days().items() if day not in days}
    agree.compare("entries in the lake and of open days", total, archived + sum(waiting.values()))
    files = place.lake.view().files
    stored = sum(file.bytes for file in files)
    rows: list[tuple[str, RenderableType]] = [
        ("entries in the lake", Text(count(archived), style="bold")),
        ("days (UTC)", _span(sorted(days))),
    ]
    if archived:
        rows.append(
            ("size", f"{size(stored)} in {counted(len(files), 'Parquet file')}, "
                     f"{stored / archived:.0f} bytes an entry")
        )  # fmt: skip
    if waiting:
        rows.append(("days not over yet", f"{counted(sum(waiting.values()), 'entry')} in Redis"))
    agree.compare("entries that the job table records", archived, _recorded(place))
    newest = next((r for r in _history(place) if r.merkle_root), None)
    if newest is not None:
        rows.append(("Merkle root", f"{newest.merkle_root} ({newest.day})"))
    index = EntryIndex.open(place.settings)
    try:
        indexed = index.count()
    finally:
        index.close()
    agree.compare("entries in the index of words and meaning", archived, indexed)
    rows.append(("index", f"{counted(indexed, 'entry')} by words and by meaning"))
    return fields(rows)


def _existing(place: Workplace, held: Holdings) -> int:
    return len(place.hot.existing(held.ids))


def _accounted_for(report: ImportReport) -> int:
    return report.lines_with_entries + sum(report.passed_over.values())


def _history(place: Workplace) -> list[JobRecord]:
    return JobTable(place.settings).history("daily-archive", 1_000_000)


def _recorded(place: Workplace) -> int:
    return sum(record.rows for record in _history(place))


def _span(days: Sequence[date]) -> str:
    if not days:
        return "none"
    if len(days) == 1:
        return str(days[0])
    return f"{count(len(days))}, from {days[0]} to {days[-1]}"

