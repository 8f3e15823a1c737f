"""All of `claude-audit up`: which parts there are, in which order they come up, and that all end.

Redis, Prefect's server, the file server, the deployments and automations, the worker. Called by
the command `up` alone, in whose process it stays until `stop` is set.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from time import monotonic

from audit_flows.file_server import HOST
from audit_flows.supervisor.leftovers import end_leftovers
from audit_flows.supervisor.part import Part, ProcessPart, RedisPart
from audit_flows.supervisor.parts_of_prefect import (
    api_url,
    environment_of,
    server_part,
    worker_part,
)
from audit_flows.supervisor.standing import Hold, Standing
from audit_flows.supervisor.supervisor import PartFailedError, Supervisor
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace

DEPLOY_SECONDS = 300.0
"""How long the deployments may take to be registered, on a slow machine."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports of this machine; 0: any that is free."""

    ui: int
    files: int


class House:
    """The parts of one home, up together."""

    def __init__(
        self, place: Workplace, held: Hold, ports: Ports, deploy_options: list[str], tell: Tell
    ) -> None:
        self._place = place
        self._held = held
        self._deploy_options = deploy_options
        self._tell = tell
        self._port = _free_port(ports.ui, "--port")
        self._files_port = _free_port(ports.files, "--files-port")

    def live(self, stop: Event, on_ready: Callable[[Standing], None]) -> None:
        """Bring everything up, keep it up until `stop` is set, and end it, whatever happens.

        Raises `PartFailedError` for what does not come up at all, and what a Redis that is named
        and does not answer raises, before anything is started.
        """
        settings = self._place.settings
        settings.prefect_dir.mkdir(parents=True, exist_ok=True)
        if settings.redis_url is not None:
            self._place.hot.ping()
        if ended := end_leftovers(settings.home):
            self._tell(f"ended {ended} processes that a killed `up` had left behind")
        up = self._held.publish(self._standing())
        first, worker = self._parts_before_worker(), worker_part(settings, self._port)
        supervisor = Supervisor([*first, worker], self._tell)
        try:
            for part in first:
                supervisor.bring_up(part, stop)
            self._deploy(stop)
            supervisor.bring_up(worker, stop)
            if not stop.is_set():
                on_ready(self._held.publish_ready(up))
                supervisor.watch(stop)
        finally:
            self._tell("ending")
            supervisor.stop()
            end_leftovers(settings.home)

    def _standing(self) -> Standing:
        return Standing(
            pid=os.getpid(),
            since=datetime.now(UTC),
            api_url=api_url(self._port),
            ui_url=f"http://{HOST}:{self._port}",
            files_url=f"http://{HOST}:{self._files_port}",
        )

    def _parts_before_worker(self) -> list[Part]:
        place = self._place
        redis = [RedisPart(place.embedded)] if place.settings.redis_url is None else []
        return [*redis, server_part(place.settings, self._port), self._files_part()]

    def _files_part(self) -> Part:
        return ProcessPart(
            "the file server",
            [sys.executable, "-m", "audit_flows.file_server", str(self._files_port)],
            environment_of(self._place.settings, self._port),
            self._place.settings.prefect_dir / "files.log",
            lambda: _listens(self._files_port),
        )

    def _deploy(self, stop: Event) -> None:
        """Register everything in a process of its own: Prefect is too large to keep here."""
        if stop.is_set():
            return
        self._tell("registering deployments and automations")
        log = self._place.settings.prefect_dir / "deploy.log"
        with log.open("wb") as told:
            deploying = subprocess.Popen(
                [sys.executable, "-m", "audit_flows.cli", "deploy", *self._deploy_options],
                env=environment_of(self._place.settings, self._port),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        deadline = monotonic() + DEPLOY_SECONDS
        while deploying.poll() is None and monotonic() < deadline and not stop.wait(0.2):
            pass
        if deploying.poll() is None:
            os.killpg(deploying.pid, signal.SIGKILL)
        if deploying.wait() and not stop.is_set():
            lines = log.read_text(errors="replace").strip()
            raise PartFailedError(f"the deployments were not registered:\n{lines}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def _free_port(port: int, option: str) -> int:
    """Return the port, or a free one for 0; raises `UsageError` for one that is taken."""
    try:
        with socket.create_server((HOST, port)) as free:
            return int(free.getsockname()[1])
    except OSError as taken:
        raise UsageError(
            f"port {port} is taken ({taken.strerror}); choose another with {option}"
        ) from None
