"""`claude-audit import`: transcripts and event files become entries, once.

Prints what every line became. An import that was stopped is simply started again: what the
stores have is not recorded twice. Exit code 1 when a file could not be read to its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from audit_flows.amounts import count, counted
from audit_flows.imports import ImportReport, Known, import_path
from audit_flows.moments import parse_instant
from audit_flows.terminal import ending, fields, plain, printable
from audit_flows.usage import UsageError
from audit_flows.workplace import FLUSH_SECONDS, Workplace

PLACE_WIDTH = 30
"""Characters of a file's name and line: its end, which tells most."""

EXAMPLES = """\
examples:
  claude-audit import ~/.claude/projects             Claude Code transcripts, subagents too
  claude-audit import events.jsonl                   one event a line; see docs/import.md
  claude-audit import old.jsonl --untimed-from 2025-11-30T00:00
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the path and what to do with events that have no time."""
    parser.epilog = EXAMPLES
    parser.add_argument("path", type=Path, metavar="PATH", help="a file, or a folder with .jsonl")
    parser.add_argument(
        "--untimed-from",
        metavar="INSTANT",
        help="events without a time follow each other from then on (default: the import's time)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Import, wait until everything is in Redis, and tell what every line became."""
    untimed_from = instant(args.untimed_from)
    with Workplace.of(args) as place:
        report = take_in(place, args.path.expanduser(), untimed_from)
        place.terminal.json(report.to_dict())
        place.terminal.show(summary(report))
    return 1 if report.unreadable else 0


def take_in(place: Workplace, path: Path, untimed_from: datetime | None) -> ImportReport:
    """Import `path` with a bar on stderr; returns when all of it is in Redis."""
    with place.terminal.progress("importing", "bytes") as advance:
        report = import_path(
            place.auditor,
            path,
            known=known_to(place),
            untimed_from=untimed_from,
            progress=lambda done, total, _: advance(done, total),
        )
        place.auditor.sync.flush_all(FLUSH_SECONDS)
    return report


def known_to(place: Workplace) -> Known:
    """Return the question which of some ids Redis or the lake already holds."""

    def known(entry_ids: Sequence[str]) -> set[str]:
        return place.hot.existing(entry_ids) | place.lake.existing(entry_ids)

    return known


def instant(text: str | None) -> datetime | None:
    """Return the instant of `--untimed-from`."""
    try:
        return parse_instant(text) if text else None
    except ValueError as wrong:
        raise UsageError(f"--untimed-from: {wrong}; the form is 2025-11-30T14:00") from None


def summary(report: ImportReport) -> RenderableType:
    """Return what an import did, for people."""
    parts: list[RenderableType] = [fields(_facts(report))]
    if report.passed_over:
        parts.append(Text("\n  lines that gave no entry, and the first of each kind", style="dim"))
        parts.append(passed_over_table(report))
    for name, reason in report.unreadable.items():
        parts.append(Text(f"could not be read: {printable(name)} ({reason})", style="red"))
    return Group(*parts)


def passed_over_table(report: ImportReport) -> Table:
    """Return the lines that gave no entry: how many, why, and the first of each kind."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=8)
    table.add_column()
    table.add_column(style="dim", no_wrap=True)
    for reason, lines in report.passed_over.items():
        first = report.examples.get(reason, ("",))[0]
        table.add_row(count(lines), plain(reason), plain(ending(first, PLACE_WIDTH)))
    return table


def _facts(report: ImportReport) -> list[tuple[str, str]]:
    files = counted(report.files, "file")
    if report.empty_files:
        files += f", {count(report.empty_files)} of them empty"
    if report.left_alone:
        files += f"; {counted(report.left_alone, 'other file')} left alone"
    kinds = ", ".join(f"{count(number)} {kind}" for kind, number in report.entries.items())
    rows = [
        ("read", f"{counted(report.lines, 'line')} in {files}"),
        ("new entries", f"{count(report.new_entries)}" + (f" ({kinds})" if kinds else "")),
    ]
    if report.already_there:
        rows.append(("already there", counted(report.already_there, "entry")))
    if report.oldest is not None and report.newest is not None:
        rows.append(("times", f"{report.oldest:%Y-%m-%d %H:%M} to {report.newest:%Y-%m-%d %H:%M}"))
    if report.untimed:
        rows.append(("without a time", f"{counted(report.untimed, 'entry')}; marked as such"))
    return rows
