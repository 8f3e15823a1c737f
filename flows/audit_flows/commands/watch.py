"""`claude-audit watch`: the trail live in the terminal, until q or Ctrl-C. Starts nothing."""

from __future__ import annotations

import argparse

from rich.console import Console

from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace

INTERVAL_SECONDS = 2.0
"""Between two looks: quick enough to follow, a few dozen commands to Redis each."""

LEAST_INTERVAL_SECONDS = 0.5
"""Oftener would be work for the stores and no more to see."""

EXAMPLES = """\
examples:
  claude-audit watch
  claude-audit watch --interval 10
  claude-audit watch --once > view.txt        one frame, without colour
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add how often, or once."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--interval",
        type=float,
        default=INTERVAL_SECONDS,
        metavar="SECONDS",
        help=f"between two looks (default {INTERVAL_SECONDS:g})",
    )
    parser.add_argument(
        "--once", action="store_true", help="print one frame; so it is without a terminal"
    )


def run(args: argparse.Namespace) -> int:
    """Watch, or print one frame; with `--once`, a store that is away makes the exit code 1."""
    from audit_flows.watch.frame import Caption, frame
    from audit_flows.watch.look import Looker
    from audit_flows.watch.screen import Screen, quiet_log

    if args.interval < LEAST_INTERVAL_SECONDS:
        raise UsageError(f"--interval must be at least {LEAST_INTERVAL_SECONDS:g} seconds")
    with quiet_log(), Workplace.of(args) as place:
        looker = Looker(place.settings, place.idle_auditor)
        home = str(place.settings.home)
        console = Console(emoji=False)
        if not args.once and console.is_terminal and not console.is_dumb_terminal:
            caption = Caption(home, interval_seconds=args.interval)
            Screen(console, looker.look, caption).watch()
            return 0
        look = looker.look()
        rates = [look.metrics.messages_per_second]
        place.terminal.show(frame(look, Caption(home), rates, place.terminal.width))
    return 1 if look.notes else 0
