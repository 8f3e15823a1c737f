"""`claude-audit reindex`: the index of words and meaning gets from the lake what it lacks."""

from __future__ import annotations

import argparse

from audit_flows.amounts import count, counted
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import listing
from audit_flows.workplace import Workplace

EXAMPLES = """\
examples:
  claude-audit reindex                              what any month lacks
  claude-audit reindex --month 2025-11 --rebuild    drop this month first and make it anew
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add which month, and whether it begins empty."""
    parser.epilog = EXAMPLES
    parser.add_argument("--month", metavar="MONTH", help="only this month, as YYYY-MM")
    parser.add_argument("--rebuild", action="store_true", help="make it anew from nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Reindex by the flow `reindex`. It may be stopped: the next one goes on from there."""
    with Workplace.of(args) as place:
        with place.terminal.telling("indexing") as tell:
            added: dict[str, int] = run_flow(
                "reindex", place.settings, on_line=tell, month=args.month, rebuild=args.rebuild
            )
        place.terminal.json(added)
        rows = [(month, count(entries)) for month, entries in added.items() if entries]
        if rows:
            place.terminal.show(listing(("month", ">entries added"), rows))
        place.terminal.show(
            f"{counted(sum(added.values()), 'entry')} added; the index holds "
            f"{'every month' if args.month is None else args.month} of the lake"
        )
    return 0
