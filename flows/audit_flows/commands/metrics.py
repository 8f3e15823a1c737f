"""`claude-audit metrics`: the trail's figures at this moment, or served to Prometheus."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import Event
from typing import Any

from audit_flows.amounts import count
from audit_flows.terminal import fields
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace

EXAMPLES = """\
examples:
  claude-audit metrics
  claude-audit metrics --json | jq .total_entries_cold
  claude-audit metrics --serve                for Prometheus, until Ctrl-C
  claude-audit metrics --serve --host 0.0.0.0 --port 9100
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the form of the output, and where to serve."""
    parser.epilog = EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--serve", action="store_true", help="serve /metrics for Prometheus until Ctrl-C"
    )
    parser.add_argument(
        "--port", type=_port, metavar="N", help="with --serve: default 9779; 0 takes a free one"
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", help="with --serve: default 127.0.0.1, this machine only"
    )


def run(args: argparse.Namespace) -> int:
    """Print the figures or serve them; a store that did not answer makes the exit code 1."""
    if args.serve:
        return _serve(args)
    if args.port is not None or args.host is not None:
        raise UsageError("--port and --host are for --serve")
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


def _serve(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; a store that is away is a figure, not a failure."""
    from audit_flows.exporter.endpoint import DEFAULT_HOST, DEFAULT_PORT, MetricsEndpoint

    if args.json:
        raise UsageError("give either --json or --serve, not both")
    host = args.host or DEFAULT_HOST
    port = DEFAULT_PORT if args.port is None else args.port
    with (
        Workplace.of(args) as place,
        _told_to_stop() as stop,
        MetricsEndpoint(place.settings, host, port) as endpoint,
    ):
        place.terminal.show(endpoint.url)
        sys.stdout.flush()
        place.terminal.remark("Ctrl-C ends it")
        stop.wait()
    return 0


@contextmanager
def _told_to_stop() -> Iterator[Event]:
    """Give an event that Ctrl-C and SIGTERM set, in place of what they do otherwise."""
    stop = Event()

    def tell(number: int, frame: Any) -> None:
        stop.set()

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, tell) for kind in kinds]
    try:
        yield stop
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return number
