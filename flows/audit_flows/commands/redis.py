"""`claude-audit redis`: the embedded Redis of this home, started, stopped or located."""

from __future__ import annotations

import argparse

from audit_flows.workplace import Workplace

EXAMPLES = """\
examples:
  claude-audit redis start
  export AUDIT_REDIS_URL=$(claude-audit redis url)
  claude-audit redis stop        everything written is on disk and comes back at the next start
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to do."""
    parser.epilog = EXAMPLES
    parser.add_argument("action", choices=["start", "stop", "url"])


def run(args: argparse.Namespace) -> int:
    """Do it; starting one that runs and stopping one that does not are both fine."""
    with Workplace.of(args) as place:
        server = place.embedded
        if args.action == "start":
            server.start()
        elif args.action == "stop":
            server.stop()
        if args.action == "url":
            place.terminal.show(server.url)
        else:
            state = "runs on" if server.running() else "is stopped; it would use"
            place.terminal.show(f"the embedded Redis {state} {server.url}")
    return 0
