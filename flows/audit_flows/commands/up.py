"""`claude-audit up`: everything that one machine needs runs, until Ctrl-C ends all of it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from audit_flows.prefect_home import audit_environment
from audit_flows.supervisor.house import House, Ports
from audit_flows.supervisor.standing import Standing, hold, standing
from audit_flows.terminal import fields
from audit_flows.workplace import Workplace
from claude_max_audit.errors import TransientError

UI_PORT = 4200
"""Prefect's own default, so that its commands find the server without being told."""

FILES_PORT = 4201
"""The one beside it."""

EXAMPLES = """\
examples:
  claude-audit up                             until Ctrl-C
  claude-audit up --detach                    in the background; claude-audit down ends it
  claude-audit up --port 0 --files-port 0     on free ports: for a second home on this machine
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the ports, and how closely runs are watched."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--port", type=int, default=UI_PORT, metavar="N", help="UI and API (4200; 0: a free one)"
    )
    parser.add_argument(
        "--files-port",
        type=int,
        default=FILES_PORT,
        metavar="N",
        help="exports and reports (4201; 0: a free one)",
    )
    parser.add_argument("--dead-after", type=int, metavar="SECONDS", help="as in deploy")
    parser.add_argument("--detach", action="store_true", help="return when everything answers")


def run(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM, or in the background; exit code 0 when all ended in order."""
    with Workplace.of(args) as place:
        if args.detach:
            return _detach(place, args)
        with hold(place.settings.home) as held, _stopping() as stop:
            told = place.terminal.remark
            ports = Ports(ui=args.port, files=args.files_port)
            house = House(place, held, ports, _deploy_options(args), told)
            house.live(stop, lambda up: _show(place, up))
    return 0


def _deploy_options(args: argparse.Namespace) -> list[str]:
    return [] if args.dead_after is None else ["--dead-after", str(args.dead_after)]


@contextmanager
def _stopping() -> Iterator[Event]:
    """Give the event that SIGINT and SIGTERM set.

    A handler of our own also keeps the children from inheriting an ignored SIGINT, by which a
    worker ends.
    """
    stop = Event()

    def asked(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {one: signal.signal(one, asked) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _detach(place: Workplace, args: argparse.Namespace) -> int:
    """Start `up` in a session of its own and return when everything answers."""
    settings = place.settings
    settings.prefect_dir.mkdir(parents=True, exist_ok=True)
    log = settings.prefect_dir / "up.log"
    ports = ["--port", str(args.port), "--files-port", str(args.files_port)]
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "audit_flows.cli", "up", *ports, *_deploy_options(args)],
            env={**os.environ, **audit_environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    wait = Event()
    with place.terminal.telling("starting") as tell:
        while process.poll() is None:
            up = standing(settings.home)
            if up is not None and up.pid == process.pid and up.ready:
                break
            if lines := log.read_text(errors="replace").splitlines():
                tell(lines[-1])
            wait.wait(0.3)
    if process.poll() is not None or up is None:
        raise TransientError(log.read_text(errors="replace").strip().removeprefix("claude-audit: "))
    _show(place, up)
    return 0


def _show(place: Workplace, up: Standing) -> None:
    settings = place.settings
    place.terminal.show(
        fields(
            [
                ("UI", up.ui_url),
                ("API", up.api_url),
                ("overview", f"{up.ui_url}/artifacts/key/overview"),
                ("exports and reports", up.files_url),
                ("Redis", place.embedded.url if settings.redis_url is None else place.hot.address),
                ("lake", settings.lake_uri),
                ("home", str(settings.home)),
                ("logs", str(settings.prefect_dir)),
            ]
        ),
        f"up, as process {up.pid}; Ctrl-C or `claude-audit down` ends everything",
    )
    sys.stdout.flush()
