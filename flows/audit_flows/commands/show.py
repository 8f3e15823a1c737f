"""`claude-audit show`: one entry in full, its hashes recomputed. Exit code 1 if they differ."""

from __future__ import annotations

import argparse
import json

from audit_flows.entry_view import hashes_fit, in_full
from audit_flows.workplace import Workplace
from claude_max_audit.citation import CITATION_PREFIX

EXAMPLES = """\
examples:
  claude-audit show if://audit/decision/0193d1b2-7c4e-7a60-9c1f-2d8e4b5a6f70
  claude-audit show 0193d1b2-7c4e-7a60-9c1f-2d8e4b5a6f70 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the entry's address."""
    parser.epilog = EXAMPLES
    parser.add_argument("entry", metavar="ID", help="an entry's id or its citation")
    parser.add_argument("--json", action="store_true", help="print the entry's JSON")


def run(args: argparse.Namespace) -> int:
    """Find the entry wherever it is kept and print it."""
    key = "citation" if args.entry.startswith(CITATION_PREFIX) else "entry_id"
    with Workplace.of(args) as place:
        found = place.auditor.sync.search_logs({key: args.entry}, limit=1)
        if not found.entries:
            unseen = f" (not searched: {'; '.join(found.missing)})" if found.missing else ""
            raise KeyError(f"no entry {args.entry} in the trail{unseen}")
        entry = found.entries[0]
        place.terminal.json(json.loads(entry.to_json()))
        place.terminal.show(in_full(entry))
    return 0 if hashes_fit(entry) else 1
