"""`claude-audit deploy`: pool, deployments and automations of the trail on a Prefect server."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import Any

from audit_flows.prefect_home import API_URL_VARIABLE, environment, prefect_environment
from audit_flows.supervisor.standing import standing
from audit_flows.terminal import fields
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace

EXAMPLES = """\
examples:
  claude-audit deploy                                              to the server that is up here
  PREFECT_API_URL=https://prefect.example/api claude-audit deploy  to another one

Alarms are sent through the notification block named audit-alarms, if the server has one.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add how closely runs are watched."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--dead-after",
        type=int,
        metavar="SECONDS",
        help="silence after which a run is ended as Crashed (150; at least 40)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Bring the server up to date; running it again changes nothing."""
    with Workplace.of(args) as place:
        url = os.environ.get(API_URL_VARIABLE)
        if url is None:
            up = standing(place.settings.home)
            if up is None:
                raise UsageError(
                    f"there is no server: set {API_URL_VARIABLE}, or start one with "
                    "`claude-audit up`, which deploys by itself"
                )
            url = up.api_url
        own = {**prefect_environment(place.settings), API_URL_VARIABLE: url}
        with environment(own), place.terminal.telling(f"deploying to {url}"):
            deployed = _deploy(args.dead_after)
        place.terminal.json(asdict(deployed))
        place.terminal.show(
            fields(
                [
                    ("server", url),
                    ("deployments", "\n".join(deployed.deployments)),
                    ("automations", "\n".join(deployed.automations)),
                    ("alarms go to", deployed.notify or "nobody: no block named audit-alarms"),
                ]
            )
        )
    return 0


def _deploy(dead_after: int | None) -> Any:
    # Prefect reads its environment when it is imported, so not before it is set.
    from audit_flows.automations import LEAST_DEAD_AFTER_SECONDS, Thresholds
    from audit_flows.deployed import deploy

    if dead_after is None:
        return deploy(Thresholds())
    if dead_after < LEAST_DEAD_AFTER_SECONDS:
        raise UsageError(
            f"--dead-after is at least {LEAST_DEAD_AFTER_SECONDS}: healthy runs give a sign of "
            "life every 30 seconds"
        )
    return deploy(Thresholds(dead_after_seconds=dead_after))
