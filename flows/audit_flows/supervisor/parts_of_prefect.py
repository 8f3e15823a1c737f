"""The parts of `claude-audit up` that are Prefect's: its server with the UI, and a worker.

Both are Prefect's own commands, with Prefect kept at home (`prefect_home.py`) and on this machine
only. The server's copy of the UI lies in the home too, so that the installed package is never
written to. Imports no Prefect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from audit_flows.prefect_home import API_URL_VARIABLE, audit_environment, prefect_environment
from audit_flows.supervisor.answers import answers, ask
from audit_flows.supervisor.leftovers import mark
from audit_flows.supervisor.part import ProcessPart
from claude_max_audit.settings import Settings

LOOPBACK = "127.0.0.1"
"""The only address that anything of ours listens on: there are no users to log in."""

POOL, WORKER = "audit", "claude-audit-up"

HEARTBEAT_SECONDS = 30
"""Between two signs of life of a run: the least that Prefect allows."""

KEEP_RUNS_DAYS = 400
"""Days that Prefect's own database keeps a run: as long as the UI's history reaches back."""

RUNS_AT_ONCE = 4
"""Runs that one machine's worker has at a time: each is a process with all of the platform. A long
one leaves room for the night's others and for an alarm."""

WORKER_ASKS_SECONDS = 2
"""Between two questions of the worker for runs; on one machine they cost nothing."""


def api_url(port: int) -> str:
    """Return the address of the server's API."""
    return f"http://{LOOPBACK}:{port}/api"


def environment_of(settings: Settings, port: int) -> dict[str, str]:
    """Return the whole environment of a process that belongs to this `up`."""
    own = {
        **mark(settings.home),
        **audit_environment(settings),
        **prefect_environment(settings),
        API_URL_VARIABLE: api_url(port),
        "PREFECT_UI_STATIC_DIRECTORY": str(settings.prefect_dir / "ui"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": str(WORKER_ASKS_SECONDS),
        # Every line of a run is in Prefect's database; the log files are for what goes wrong.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        # Prefect is the window: the record of every run is the lake's job table.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEEP_RUNS_DAYS * 86_400),
        "PYTHONUNBUFFERED": "1",
    }
    return {**_without_foreign_prefect(os.environ), **own}


def server_part(settings: Settings, port: int) -> ProcessPart:
    """Return the server: API, schedules, automations and the UI."""
    arguments = ["server", "start", "--host", LOOPBACK, "--port", str(port)]
    return ProcessPart(
        "the Prefect server",
        [sys.executable, "-m", "prefect", *arguments],
        environment_of(settings, port),
        settings.prefect_dir / "server.log",
        lambda: answers(f"{api_url(port)}/health"),
    )


def worker_part(settings: Settings, port: int) -> ProcessPart:
    """Return the worker, which makes the pool if there is none."""
    arguments = ["worker", "start", "--pool", POOL, "--type", "process", "--name", WORKER]
    arguments += ["--install-policy", "never", "--limit", str(RUNS_AT_ONCE)]
    return ProcessPart(
        "the worker",
        [sys.executable, "-m", "prefect", *arguments],
        environment_of(settings, port),
        settings.prefect_dir / "worker.log",
        lambda: worker_is_online(api_url(port)),
        # Offline is what a server says that was too busy to hear it; it may be in mid-archive.
        hangs_when_silent=False,
    )


def worker_is_online(api: str) -> bool:
    """Say whether the server has heard from our worker lately."""
    workers = ask(f"{api}/work_pools/{POOL}/workers/filter") or []
    return any(one["name"] == WORKER and one["status"] == "ONLINE" for one in workers)


def _without_foreign_prefect(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out a server, profile or key of somebody else's Prefect."""
    foreign = (API_URL_VARIABLE, "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_API_AUTH_STRING")
    return {name: value for name, value in environ.items() if name not in foreign}
