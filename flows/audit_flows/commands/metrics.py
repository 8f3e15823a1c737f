"""`claude-audit metrics`: the trail's figures, read from the stores at this moment."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from audit_flows.amounts import count
from audit_flows.terminal import fields
from audit_flows.workplace import Workplace

EXAMPLES = """\
examples:
  claude-audit metrics
  claude-audit metrics --json | jq .total_entries_cold
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing but the form of the output."""
    parser.epilog = EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the figures; a store that did not answer is told as a warning and exit code 1."""
    with Workplace.of(args) as place:
        figures = place.auditor.sync.get_metrics()
        place.terminal.json(asdict(figures))
        place.terminal.show(
            fields(
                [
                    ("entries in Redis", count(figures.total_entries_hot)),
                    ("entries in the lake", count(figures.total_entries_cold)),
                    ("agents in Redis", count(figures.active_agents)),
                    ("cross-swarm messages", count(figures.cross_swarm_messages)),
                    ("entries a second", f"{figures.messages_per_second:.2f} (last minute)"),
                ]
            )
        )
        for note in figures.notes:
            place.terminal.warn(note)
    return 1 if figures.notes else 0
