"""Steps of the demonstration that ask the trail: search, export, checks.

Each asks as a user would, compares the answer with what must be there, and returns what to show.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from audit_flows.amounts import count, counted, size
from audit_flows.demo.agreement import Agreement
from audit_flows.demo.source import Holdings
from audit_flows.entry_view import in_brief
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import ending, fields, plain, printable
from audit_flows.workplace import Workplace
from audit_quality.data_docs.address import path_of
from audit_quality.report import QualityFailedError, QualityReport
from audit_storage.export.manifest import manifest_path
from audit_storage.jobs import JobTable
from claude_max_audit.results import AuditQueryResult

SHOWN = 2
"""Entries shown of each search."""

QUESTIONS = ("something failed and had to be tried again", "permission to do this was refused")
"""Asked by meaning: about what any swarm may have met."""

GRAVE = ("high", "critical")


def show_searches(place: Workplace, held: Holdings, agree: Agreement) -> RenderableType:
    """Search by agent, by severity and by meaning."""
    parts: list[RenderableType] = []
    for agent, entries in held.agents.most_common(1):
        found = _search(place, {"agent_id": agent})
        agree.compare(f"entries of {agent}", entries, found.total_count)
        parts.append(_hits(f"agent {agent}", found))
    grave = sum(held.severities[word] for word in GRAVE)
    found = _search(place, {"severity": list(GRAVE)})
    agree.compare("security events of high and critical severity", grave, found.total_count)
    parts.append(_hits("severity high or critical", found))
    for question in QUESTIONS:
        parts.append(_hits(f"“{question}”", _search(place, {"text_query": question}), best=True))
    return Group(*parts)


def show_export(place: Workplace, total: int, agree: Agreement) -> RenderableType:
    """Export everything as JSON lines, and read the file again."""
    with place.terminal.telling("exporting") as tell:
        path: Path = run_flow("export", place.settings, on_line=tell, query={}).path
    ids: Counter[str] = Counter()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            ids[json.loads(line)["entry_id"]] += 1
    manifest = json.loads(manifest_path(path).read_text())
    agree.compare("entries in the exported file", total, ids.total())
    agree.compare("entries that the exported file holds once", total, len(ids))
    agree.compare("rows of the export's manifest", manifest["rows"], ids.total())
    agree.compare("SHA-256 of the export's manifest", manifest["sha256"], digest.hexdigest())
    return fields(
        [
            ("file", ending(str(path), 80)),
            ("entries", Text(count(ids.total()), style="bold")),
            ("size", size(path.stat().st_size)),
            ("SHA-256", f"{digest.hexdigest()}, as its manifest says"
             if manifest["sha256"] == digest.hexdigest() else digest.hexdigest()),
        ]
    )  # fmt: skip


def show_checks(place: Workplace, agree: Agreement) -> RenderableType:
    """Let Great Expectations check every archived day, and verify compute all hashes anew."""
    with place.terminal.telling("checking") as tell:
        try:
            reports = run_flow("data-quality", place.settings, on_line=tell)
        except QualityFailedError as failed:
            reports = failed.reports
    archived = place.lake.count()
    agree.compare("entries that were checked", archived, _recorded(place, "data-quality"))
    failures = sum(len(report.failed_checks) for report in reports)
    agree.compare("quality checks that failed", 0, failures)
    with place.terminal.telling("verifying") as tell:
        verified = run_flow("verify", place.settings, on_line=tell)
    agree.compare("entries whose hashes were computed anew", archived, verified.entries)
    agree.compare("things that verify found", 0, verified.total_findings)
    twice = sum(report.duplicated_contents for report in reports)
    return Group(
        _quality_table(reports),
        fields(
            [
                ("pages", ending(str(path_of(place.settings.quality_docs)), 80)),
                ("same content again", f"{counted(twice, 'entry')}: counted, no fault"),
                (
                    "verify",
                    f"{counted(verified.entries, 'entry')} of {counted(verified.commits, 'commit')}"
                    f" computed anew, {counted(verified.total_findings, 'finding')}",
                ),
            ]
        ),
    )


def _search(place: Workplace, query: dict[str, Any]) -> AuditQueryResult:
    return place.auditor.sync.search_logs(query, limit=SHOWN)


def _hits(asked: str, found: AuditQueryResult, *, best: bool = False) -> RenderableType:
    if not found.entries:
        told = "none"
    else:
        order = "best first" if best else "newest first"
        told = f"{counted(found.total_count, 'entry')}, {order}"
    head = Text.assemble(f"  {printable(asked)}  ", (told, "bold"))
    head.append(f"  ({found.source}, {found.query_time_ms:.0f} ms)", style="dim")
    parts: list[RenderableType] = [head]
    parts += [in_brief(entry, 96) for entry in found.entries]
    for part in found.missing:
        parts.append(Padding(Text(f"not searched: {part}", style="yellow"), (0, 0, 0, 4)))
    return Group(*parts)


def _recorded(place: Workplace, job: str) -> int:
    return sum(record.rows for record in JobTable(place.settings).history(job, 1_000_000))


def _quality_table(reports: Sequence[QualityReport]) -> RenderableType:
    """How many checks there are, and a line for each that failed on some day."""
    days = counted(len(reports), "day")
    entries = counted(sum(report.rows for report in reports), "entry")
    failures: Counter[str] = Counter()
    for report in reports:
        for check in report.checks:
            failures[check.name] += check.failures
    failed = +failures
    told = f"{counted(len(failed), 'check')} failed" if failed else "all passed"
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, number in failed.items():
        table.add_row("   ", Text(f"{count(number)} fail", "red"), plain(name.replace("_", " ")))
    checks = counted(len(failures), "check")
    head = Text(f"  Great Expectations: {entries} of {days}, {checks}, {told}")
    return Group(head, table) if failed else head
