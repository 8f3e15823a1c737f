"""A Prefect API for the time of one command: a process of our own beside the one that works.

`EphemeralApi` starts it without waiting; `url()` waits until it answers. It keeps its history in
the database of `PREFECT_HOME`, listens on a free port of this machine only, serves no UI
and schedules nothing. It ends when its standard input ends, so it never outlives the
process that started it, however that one dies. Prefect's own temporary server would.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread, Timer
from types import TracebackType

from claude_max_audit.errors import TransientError

START_SECONDS = 120.0
"""How long the API may take to answer: its first start makes the database, on a slow disk."""

STOP_SECONDS = 20.0
"""How long it may take to write its last events and go before it is killed."""

LOG_NAME = "api.log"
"""File in `PREFECT_HOME` with what the API complains about."""

LOG_TAIL_LINES = 12
"""Lines of that file which an error message quotes."""


class PrefectApiError(TransientError):
    """Prefect's API did not start; the message says where it tells why."""


class EphemeralApi:
    """Open it with `with`: the process starts at once and is gone when the context closes."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.log = home / LOG_NAME
        self._environment = dict(environment)

    def __enter__(self) -> EphemeralApi:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                # A Ctrl-C is for the run: the API must be there to take its last state.
                start_new_session=True,
            )
        return self

    def url(self) -> str:
        """Wait until the API answers and return its URL; raises `PrefectApiError`."""
        assert self._process.stdout is not None
        limit = Timer(START_SECONDS, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        if not line:
            tail = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            raise PrefectApiError(
                f"Prefect's API did not start within {START_SECONDS:g} s or ended at once; "
                f"{self.log} ends:\n" + "\n".join(tail)
            )
        return line.decode().strip()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Its database is SQLite in WAL mode: a kill loses no committed row.
            process.kill()
            process.wait()
        process.stdout.close()


def serve() -> None:
    """Serve the API in this process until standard input ends; prints the URL when it answers."""
    import uvicorn
    from prefect.server.api.server import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(url, flush=True)

    app = create_app(ephemeral=True)
    server = Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    Thread(target=_end_with_input, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    sys.stdout.flush()
    # The last state is written; taking the interpreter down would only let the caller wait.
    os._exit(0)


def _end_with_input(server: object) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True  # type: ignore[attr-defined]


if __name__ == "__main__":
    serve()
