"""`claude-audit down`: ends what `claude-audit up` started in this home, also a killed one's."""

from __future__ import annotations

import argparse
import os
import signal
from contextlib import suppress
from threading import Event
from time import monotonic

from audit_flows.supervisor.leftovers import end_leftovers
from audit_flows.supervisor.standing import holder
from audit_flows.workplace import Workplace
from claude_max_audit.errors import TransientError

DOWN_SECONDS = 120.0
"""How long `up` may take to end its parts: each has its own limit below this."""

EXAMPLES = """\
examples:
  claude-audit down
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing: there is one thing to do."""
    parser.epilog = EXAMPLES


def run(args: argparse.Namespace) -> int:
    """Tell `up` to end and wait until it has; ending what is not up is fine.

    Nothing of this home runs on return, the embedded Redis neither.
    """
    with Workplace.of(args) as place:
        home = place.settings.home
        up = holder(home)
        if up:
            with suppress(ProcessLookupError):
                os.kill(up, signal.SIGTERM)
        with place.terminal.telling("ending"):
            _wait_until_free(place)
        ended = end_leftovers(home)
        place.embedded.stop()
        if up is not None:
            place.terminal.show(f"down: process {up} and its parts have ended")
        elif ended:
            place.terminal.show(f"down: ended {ended} processes that a killed `up` had left behind")
        else:
            place.terminal.show("nothing was up")
    return 0


def _wait_until_free(place: Workplace) -> None:
    deadline, wait = monotonic() + DOWN_SECONDS, Event()
    while holder(place.settings.home) is not None:
        if monotonic() > deadline:
            raise TransientError(
                f"`up` did not end within {DOWN_SECONDS:g} s; what it waits for is in "
                f"{place.settings.prefect_dir}"
            )
        wait.wait(0.1)
