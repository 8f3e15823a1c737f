"""One process that `up` keeps running: started, asked whether it answers, ended.

It gets a session of its own, so that Ctrl-C reaches `up` alone and `up` decides the order in
which things end. Its output goes to a log of its own. Never restarts itself; the supervisor does.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from audit_flows.embedded_redis import EmbeddedRedis

STOP_SECONDS = 20.0
"""How long a process may take to end in order before its session is killed. What is cut off by
that is taken up by the next run; nothing of the trail depends on a clean end."""

LOG_BYTES = 8 * 1024 * 1024
"""Size above which a log is set aside as `.old` when its process starts."""


class Part(Protocol):
    """What the supervisor keeps running."""

    name: str
    hangs_when_silent: bool
    """Whether it is ended and started again when it is there and does not answer for long. Not
    where that may be somebody else's fault, or where ending it would cut off work."""

    def start(self) -> None:
        """Start it, or find it running; returns before it answers."""

    def alive(self) -> bool:
        """Say whether its process is there."""

    def answers(self) -> bool:
        """Say whether it does its work now."""

    def stop(self) -> None:
        """End it; gone on return."""

    def ending(self) -> str:
        """Say in a few words how it ended."""


class ProcessPart:
    """A child process in a session of its own."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        answers: Callable[[], bool],
        *,
        hangs_when_silent: bool = True,
    ) -> None:
        self.name = name
        self.hangs_when_silent = hangs_when_silent
        self.log = log
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's number; None before the first start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process anew."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                env=self._environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Say whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Ask it, if it is there."""
        return self.alive() and self._answers()

    def stop(self) -> None:
        """End it, then whatever is left of its session."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ending(self) -> str:
        """Say how it ended, and where it may have said why."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return f"does not answer ({self.log})"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{how} ({self.log})"


class RedisPart:
    """The embedded Redis: found when it runs already, and ended with the rest."""

    name = "Redis"
    hangs_when_silent = False  # It is busy writing its file anew, or reading it.

    def __init__(self, redis: EmbeddedRedis) -> None:
        self._redis = redis

    def start(self) -> None:
        """Start it or find it; it answers on return."""
        self._redis.start()

    def alive(self) -> bool:
        """Say whether it is there, answering or not."""
        return self._redis.lives()

    def answers(self) -> bool:
        """Say whether it answers."""
        return self._redis.running()

    def stop(self) -> None:
        """Stop it; its last command is on disk on return."""
        self._redis.stop()

    def ending(self) -> str:
        """Say that it is gone, or where it may have said what it does."""
        return f"{'does not answer' if self.alive() else 'ended'} ({self._redis.log})"
