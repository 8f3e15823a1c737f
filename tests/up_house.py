"""A real `claude-audit up` for the tests: started as a user starts it, asked over its API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from audit_flows.prefect_home import audit_environment, prefect_environment
from audit_flows.supervisor.leftovers import leftovers
from audit_flows.supervisor.standing import Standing, standing
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import parse_query
from claude_max_audit.settings import Settings

PORTS = ("--port", "0", "--files-port", "0")
DEAD_AFTER = 40
PATIENCE_SECONDS = 240.0
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for what `condition` returns to be true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)
    return found


class UpHouse:
    """A home with `claude-audit up` in it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        clean = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        self.environment = {**clean, **audit_environment(settings)}
        self.log = settings.home.parent / "up.out"
        self.told = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._deployments: dict[str, str] = {}

    def start_detached(self) -> None:
        """Start it in the background; the command returns when everything answers."""
        done = self.run("up", "--detach", *PORTS, "--dead-after", str(DEAD_AFTER))
        assert done.returncode == 0, done.stderr
        self.told = done.stdout
        self.log = self.settings.prefect_dir / "up.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in the foreground; returns at once."""
        self.log = self.settings.home.parent / "up.out"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._program(), "up", *PORTS],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def wait_until_ready(self) -> None:
        """Wait until what was started says that everything answers."""
        until(self._is_ready, "everything answers")

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        up = standing(self.settings.home)
        return up is not None and up.ready

    @property
    def up(self) -> Standing:
        """Where it answers."""
        up = standing(self.settings.home)
        assert up is not None
        return up

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `claude-audit` in this home."""
        return subprocess.run(
            [*self._program(), *arguments],
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )

    def begin_program(self, program: str) -> subprocess.Popen[str]:
        """Start a program with this server as Prefect's."""
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program],
            env={
                **self.environment,
                **prefect_environment(self.settings),
                "PREFECT_API_URL": self.up.api_url,
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def python(self, program: str) -> str:
        """Run such a program to its end; returns what it printed."""
        with self.begin_program(program) as running:
            told, complaints = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 0, complaints
        return told

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Post to the API."""
        return self._answer("POST", path, body or {})

    def get(self, path: str) -> Any:
        """Get from the API."""
        return self._answer("GET", path)

    def _answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask; a server that is busy at this moment, or starts again, is asked again."""

        def answered() -> httpx.Response | None:
            try:
                address = f"{self.up.api_url}{path}"
                answer = httpx.request(method, address, json=body, timeout=30)
            except httpx.TransportError:
                return None
            return None if answer.status_code == 503 else answer

        return until(answered, path).raise_for_status().json()

    def deployments(self) -> dict[str, str]:
        """Return the id of each deployment by its name, as in `export/adhoc`."""
        if not self._deployments:
            flows = {flow["id"]: flow["name"] for flow in self.ask("/flows/filter")}
            self._deployments = {
                f"{flows[one['flow_id']]}/{one['name']}": one["id"]
                for one in self.ask("/deployments/filter")
            }
        return self._deployments

    def scheduled_runs(self, deployment: str) -> int:
        """Return how many runs of a deployment wait for their time."""
        asked = {
            "deployments": {"id": {"any_": [self.deployments()[deployment]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        return int(self.ask("/flow_runs/count", asked))

    def begin(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run now; returns its id."""
        path = f"/deployments/{self.deployments()[deployment]}/create_flow_run"
        once = {"idempotency_key": str(uuid4())}
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, **once}
        return str(self.ask(path, body)["id"])

    def flow_run(self, run: str) -> dict[str, Any]:
        """Return a run as the API tells it."""
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")
        return found

    def ended(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended, and return it."""
        found: dict[str, Any] = until(
            lambda: one if (one := self.flow_run(run))["state_type"] in ENDED else None,
            f"the end of run {run}",
        )
        return found

    def looked(self, **limits: float) -> dict[str, Any]:
        """Have a health check end; one that met a scheduled one was cancelled, and is repeated."""
        found: dict[str, Any] = until(
            lambda: one
            if (one := self.ended(self.begin("health/regular", **limits)))["state_type"]
            != "CANCELLED"
            else None,
            "a health check",
        )
        return found

    def artifact(self, key: str) -> Any:
        """Return the newest data of an artifact: rows of a table, or the text."""
        data = self.get(f"/artifacts/{key}/latest")["data"]
        return json.loads(data) if data.startswith("[") else data

    def processes(self) -> list[psutil.Process]:
        """Return everything that runs for this home, the embedded Redis too."""
        socket = str(self.settings.redis_dir)
        redis = [
            one
            for one in psutil.process_iter(["cmdline", "status"])
            if one.info["status"] != psutil.STATUS_ZOMBIE
            and socket in " ".join(one.info["cmdline"] or [])
        ]
        return [*redis, *self.marked()]

    def marked(self) -> list[psutil.Process]:
        """Return the living processes that `up` started, and theirs."""
        found = []
        for one in leftovers(self.settings.home):
            with suppress(psutil.NoSuchProcess):
                if one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return found

    def of_the_worker(self) -> list[psutil.Process]:
        """Return the worker and the runs that it has started."""
        return [
            one
            for one in leftovers(self.settings.home)
            if {"worker", "prefect.engine"} & set(one.cmdline())
            or any("workspace" in part for part in one.cmdline())
        ]

    def security_events(self) -> dict[str, str]:
        """Return what each type of security event in Redis told, by its type."""
        hot = HotStore.connect(f"unix://{self.settings.redis_dir}/redis.sock")
        try:
            query = parse_query({"entry_type": "security_event", "agent_id": "claude-audit"}, None)
            entries = [entry for chunk in hot.scan(query) for entry in chunk]
        finally:
            hot.close()
        return {
            str(one.metadata["event_type"]): str(one.metadata["details"]["told"])
            for one in entries
        }

    def _program(self) -> list[str]:
        return [sys.executable, "-m", "audit_flows.cli"]


class Mailbox:
    """A webhook of the tests' own: what Prefect's notification block sends ends here."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        mailbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mailbox.subjects.append(json.loads(body)["subject"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def chromium() -> Path | None:
    """Return the machine's own Chromium; None where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    return None

