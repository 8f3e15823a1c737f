"""`claude-audit search`: a page of what matches, and how much there is in all."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.text import Text

from audit_flows.amounts import count, counted
from audit_flows.entry_view import in_list
from audit_flows.filters import add_filters, filters_of
from audit_flows.terminal import Terminal, printable
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace
from claude_max_audit.query import check_page
from claude_max_audit.results import AuditQueryResult

PAGE = 20
"""Entries on a page: three lines each, so that a page is about a tall window."""

EXAMPLES = """\
examples:
  claude-audit search --agent planner --since 7d
  claude-audit search --severity high --severity critical
  claude-audit search --text "who changed the deployment key"
  claude-audit search --cross-swarm --until 2025-11-30 --limit 5 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the filters and the page."""
    parser.epilog = EXAMPLES
    parser.add_argument("words", nargs="*", metavar="WORD", help="words to find, as in --text")
    parser.add_argument("--text", metavar="WORDS", help="find by meaning and by words, best first")
    parser.add_argument("--limit", type=int, default=PAGE, metavar="N", help=f"default {PAGE}")
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="skip the first N")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    """Search and print the page; a search that could not see everything says so."""
    if args.words and args.text:
        raise UsageError("give the words either plainly or with --text, not both")
    args.text = args.text or " ".join(args.words) or None
    query, time_range = filters_of(args)
    try:
        check_page(args.limit, args.offset)
    except ValueError as wrong:
        raise UsageError(f"--{wrong}") from None
    with Workplace.of(args) as place:
        found = place.auditor.sync.search_logs(query, time_range, args.limit, args.offset)
        place.terminal.json(as_json(found))
        _show(place.terminal, found, args.offset, best_first="text_query" in query)
    return 0


def as_json(found: AuditQueryResult) -> dict[str, Any]:
    """Return the result as plain values; entries as their own JSON."""
    return {
        "total_count": found.total_count,
        "query_time_ms": round(found.query_time_ms, 3),
        "source": found.source,
        "complete": found.complete,
        "missing": list(found.missing),
        "entries": [json.loads(entry.to_json()) for entry in found.entries],
    }


def _show(terminal: Terminal, found: AuditQueryResult, offset: int, best_first: bool) -> None:
    for entry in found.entries:
        terminal.show(in_list(entry, terminal.width), Text())
    terminal.show(_summary(found, offset, best_first))
    for part in found.missing:
        terminal.show(Text(f"not searched: {printable(part)}", style="yellow"))


def _summary(found: AuditQueryResult, offset: int, best_first: bool) -> Text:
    shown = len(found.entries)
    if not shown:
        told = f"none of {counted(found.total_count, 'match')}" if offset else "nothing matches"
    elif shown == found.total_count:
        told = f"{counted(shown, 'entry')}, all that match"
    else:
        told = f"{count(offset + 1)} to {count(offset + shown)} of {count(found.total_count)}"
        told += ", best first" if best_first else ", newest first"
    view = Text(f"{told} ", style="bold")
    return view.append(f"({found.source}, {found.query_time_ms:.1f} ms)", style="not bold dim")
