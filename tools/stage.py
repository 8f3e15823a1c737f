"""The stage on which the pictures are taken: a home of generated entries, and a Prefect server.

Everything on it is made up by `generated_swarm`, which says so in each entry; nobody's data is ever
on a picture. It lives in a folder of its own and leaves nothing behind, no process and no file.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.generated_swarm import generate_swarm
from audit_flows.prefect_home import (
    API_URL_VARIABLE,
    audit_environment,
    environment,
    prefect_environment,
)
from audit_flows.run_in_process import run_flow
from audit_storage.jobs import JobTable
from audit_storage.lake.lake import Lake
from claude_max_audit import ClaudeMaxAuditor, SecuritySeverity
from claude_max_audit.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
PREFECT = Path(sys.executable).parent / "prefect"

DAYS, ENTRIES = 10, 6_000
"""Closed days and entries of the swarm: nights enough for a page of history."""

PATIENCE_SECONDS = 180.0
"""How long the server, or a run, may take on a busy machine."""

MADE_UP = {"generated": True}

# Made-up alarms are no news for whoever takes pictures.
logging.getLogger("claude_max_audit.security").addHandler(logging.NullHandler())


class Stage:
    """What the pictures are taken of."""

    traffic: LiveTraffic

    def __init__(self, settings: Settings, api: str) -> None:
        self.settings = settings
        self.ui = api.removesuffix("/api")
        self.environment = {
            **os.environ,
            **prefect_environment(settings),
            **audit_environment(settings),
            API_URL_VARIABLE: api,
        }

    @property
    def last_day(self) -> str:
        """The newest UTC day that was archived and checked."""
        return str(max(Lake(self.settings).days()))

    def artifact(self, key: str) -> str:
        """Return the id of the newest artifact with this key."""
        question = {"artifacts": {"key": {"any_": [key]}}}
        asked = urllib.request.Request(
            f"{self.ui}/api/artifacts/latest/filter",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return str(json.load(answer)[0]["latest_id"])

    def prefect(self, *arguments: str) -> None:
        """Run one of Prefect's commands in the checkout."""
        done = subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"prefect {' '.join(arguments)}\n{done.stdout}")


@contextmanager
def stage(told: Callable[[str], None]) -> Iterator[Stage]:
    """Set everything up, a dozen runs included, and take it down at the end."""
    with TemporaryDirectory(prefix="audit-") as folder:
        home = Path(folder) / "trail"
        redis = EmbeddedRedis(home / "redis").start()
        settings = load_settings(
            environ={}, home=home, redis_url=redis.url, embedder="none"
        )
        settings.prefect_dir.mkdir()
        try:
            told("entries of a generated swarm")
            days = _fill(settings)
            told("Prefect server, deployments and a worker")
            with _prefect_server(settings) as made, _worker(made):
                told(f"{len(days)} archives and one run of each other job")
                _run_jobs(made, days)
                made.traffic = LiveTraffic(settings)
                try:
                    yield made
                finally:
                    made.traffic.close()
        finally:
            redis.stop()


class LiveTraffic:
    """Entries that are logged while a picture is being taken: a swarm's last ones, as of now."""

    def __init__(self, settings: Settings) -> None:
        with environment(audit_environment(settings)):
            self._auditor = ClaudeMaxAuditor(redis_url=settings.redis_url)
        self._drafts = list(generate_swarm(datetime.now(UTC), seed=7, days=1, entries=2_000))
        self._burst = 0

    def some(self) -> None:
        """Log some dozen entries; each time another number of them."""
        self._burst += 1
        for _ in range(8 + 17 * self._burst % 29):
            given = self._drafts.pop().arguments()
            del given["entry_id"]
            self._auditor.sync.record(**{**given, "timestamp": datetime.now(UTC)})
        self._auditor.sync.flush_all()

    def close(self) -> None:
        """End its writer."""
        self._auditor.sync.close()


def _fill(settings: Settings) -> list[datetime]:
    """Log the swarm up to now, with two alerts of the last hour; returns its closed days."""
    now = datetime.now(UTC)
    with environment(audit_environment(settings)):
        auditor = ClaudeMaxAuditor(redis_url=settings.redis_url)
    for draft in generate_swarm(now, days=DAYS, entries=ENTRIES):
        auditor.sync.record(**draft.arguments())
    for minutes, agent, event in (
        (38, "haiku_worker_research_3", "context_poisoning"),
        (12, "haiku_worker_operations_1", "unauthorized_access"),
    ):
        auditor.sync.log_security_event(
            agent,
            event,
            SecuritySeverity.CRITICAL,
            {"observed_seconds": 60},
            swarm_id="swarm_research",
            metadata=MADE_UP,
            timestamp=now - timedelta(minutes=minutes),
        )
    auditor.sync.flush_all()
    auditor.sync.close()
    return [now - timedelta(days=before) for before in range(DAYS, 0, -1)]


@contextmanager
def _prefect_server(settings: Settings) -> Iterator[Stage]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Stage(settings, f"http://127.0.0.1:{port}/api")
    command = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
    with _process(made, "server.log", *command):
        _until(lambda: _answers(f"{made.ui}/api/health"), "Prefect's server")
        made.prefect("work-pool", "create", "audit", "--type", "process")
        made.prefect("deploy", "--all")
        yield made


@contextmanager
def _worker(made: Stage) -> Iterator[None]:
    with _process(made, "worker.log", "worker", "start", "--pool", "audit"):
        yield


@contextmanager
def _process(made: Stage, log: str, *command: str) -> Iterator[None]:
    with (made.settings.prefect_dir / log).open("wb") as lines:
        process = subprocess.Popen(
            [PREFECT, *command], env=made.environment, stdout=lines, stderr=lines
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run_jobs(made: Stage, days: list[datetime]) -> None:
    """Archive night after night in this process, and the rest once by the worker."""
    with environment({API_URL_VARIABLE: made.environment[API_URL_VARIABLE]}):
        for day in days:
            run_flow("daily-archive", made.settings, day=day.date())
    made.prefect("deployment", "run", "data-quality/nightly")
    made.prefect("deployment", "run", "verify/weekly")
    made.prefect("deployment", "run", "retention-purge/nightly", "-p", "dry_run=true")
    made.prefect("deployment", "run", "export/adhoc", "-p", "swarm_id=swarm_research")
    jobs, wanted = JobTable(made.settings), {"data-quality", "verify", "retention-purge", "export"}
    _until(lambda: wanted <= {state.job for state in jobs.states()}, "a run of each job")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} did not come up within {PATIENCE_SECONDS:g} s")
        time.sleep(0.2)
