"""Where the code meets the system: files, the table's log, Redis, SQLite; and how each fails.

`Watch` sees every call there that our code makes, and names it by who made it. So the steps of an
operation are found by running it, and nobody has to remember to list one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler
from deltalake.fs._base_handler import BaseDeltaStorageHandler

from audit_storage.atomic_file import HashedFile
from audit_storage.lake import delta_log
from claude_max_audit.errors import RedisUnavailableError
from claude_max_audit.hot.link import RedisLink

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT}/{name}/" for name in ("ingest", "storage", "quality", "flows"))
BETWEEN = ("/pathlib.py", "/contextlib.py", "/boundary.py", "/pyarrow/parquet/core.py")
"""Files whose frames may stand between our code and a call of the system."""


def _disk(what: str) -> Exception:
    return OSError(errno.EIO, f"a fault at {what}")


def _table(what: str) -> Exception:
    return DeltaError(f"a fault at {what}")


def _redis(what: str) -> Exception:
    return RedisUnavailableError("the test's server", f"a fault at {what}")


def _polars(what: str) -> Exception:
    return pl.exceptions.ComputeError(f"a fault at {what}")


def _sqlite(what: str) -> Exception:
    failed = sqlite3.OperationalError(f"a fault at {what}")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return failed


@dataclass(frozen=True)
class Boundary:
    """A call of the system; `writes` says whether it may leave something behind."""

    owner: Any
    name: str
    error: Callable[[str], Exception]
    writes: bool = True

    def __str__(self) -> str:
        return f"{getattr(self.owner, '__name__', self.owner).rpartition('.')[2]}.{self.name}"


class TracedConnection(sqlite3.Connection):
    """SQLite's own calls, as methods that can be watched."""

    def execute(self, *given: Any) -> Any:
        return super().execute(*given)

    def executescript(self, *given: Any) -> Any:
        return super().executescript(*given)

    def __exit__(self, *given: Any) -> Any:
        return super().__exit__(*given)


class TracedStream:
    """A file of the table that is being written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: Any) -> Any:
        return self._stream.write(data)

    def close(self) -> Any:
        return self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


BOUNDARIES = (
    *(
        Boundary(os, name, _disk)
        for name in ("open", "link", "replace", "rename", "unlink", "rmdir", "mkdir", "fsync")
    ),
    Boundary(HashedFile, "write", _disk),
    *(Boundary(BaseDeltaStorageHandler, name, _disk) for name in ("move", "delete_file")),
    Boundary(DeltaStorageHandler, "open_output_stream", _disk),
    *(Boundary(TracedStream, name, _disk) for name in ("write", "close")),
    Boundary(DeltaStorageHandler, "open_input_file", _disk, writes=False),
    *(
        Boundary(BaseDeltaStorageHandler, name, _disk, writes=False)
        for name in ("get_file_info", "get_file_info_selector")
    ),
    *(
        Boundary(DeltaTable, name, _table)
        for name in (
            "create", "create_write_transaction", "create_checkpoint", "cleanup_metadata",
            "vacuum", "delete",
        )
    ),
    Boundary(delta_log, "write_deltalake", _table),
    *(
        Boundary(DeltaTable, name, _table, writes=False)
        for name in ("__init__", "update_incremental", "history", "file_uris")
    ),
    Boundary(pl.LazyFrame, "collect", _polars, writes=False),
    Boundary(pl, "collect_all", _polars, writes=False),
    Boundary(pl, "read_parquet", _polars, writes=False),
    *(Boundary(RedisLink, name, _redis)
        for name in ("ask", "ask_packed", "send", "_exchange")),
    *(Boundary(TracedConnection, name, _sqlite) for name in ("execute", "executescript")),
    Boundary(TracedConnection, "__exit__", _sqlite),
)  # fmt: skip
"""Every way in which the operations of the fault table touch anything outside their process."""


class Step(NamedTuple):
    """One call at a boundary: by whom, and which of that caller's it is."""

    boundary: str
    caller: str
    number: int

    def __str__(self) -> str:
        again = f" ({self.number})" if self.number > 1 else ""
        return f"{self.boundary} by {self.caller}{again}"


class Watch:
    """Counts the steps of whatever runs in it, and asks `at` what to do at each."""

    def __init__(self, at: Callable[[Step, Boundary, Callable[[], Any]], Any]) -> None:
        self.steps: dict[Step, Boundary] = {}
        self._at = at
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._paused = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every boundary until the end of the block."""
        before = [(one, one.owner.__dict__[one.name]) for one in BOUNDARIES]
        stream, connect = DeltaStorageHandler.open_output_stream, sqlite3.connect
        try:
            DeltaStorageHandler.open_output_stream = _traced(stream)  # type: ignore[method-assign]
            sqlite3.connect = partial(connect, factory=TracedConnection)  # type: ignore[assignment]
            for one in BOUNDARIES:
                setattr(one.owner, one.name, self._watched(one))
            yield
        finally:
            for one, original in before:
                setattr(one.owner, one.name, original)
            DeltaStorageHandler.open_output_stream = stream  # type: ignore[method-assign]
            sqlite3.connect = connect

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let everything through, uncounted, until the end of the block."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _watched(self, boundary: Boundary) -> Any:
        original = getattr(boundary.owner, boundary.name)

        def call(*given: Any, **named: Any) -> Any:
            caller = None if self._paused else _caller()
            if caller is None:
                return original(*given, **named)
            return self._at(
                self._step(boundary, caller), boundary, lambda: original(*given, **named)
            )

        raw = boundary.owner.__dict__[boundary.name]
        return staticmethod(call) if isinstance(raw, classmethod | staticmethod) else call

    def _step(self, boundary: Boundary, caller: str) -> Step:
        with self._lock:
            self._counts[str(boundary), caller] += 1
            step = Step(str(boundary), caller, self._counts[str(boundary), caller])
            self.steps[step] = boundary
        return step


def _traced(stream: Any) -> Any:
    def open_output_stream(self: Any, path: str, metadata: Any = None) -> Any:
        return pa.PythonFile(TracedStream(self._handler.open_output_stream(path, metadata)), "w")

    return open_output_stream


def _caller() -> str | None:
    """Name our function that makes the call; None where it is not ours."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith(BETWEEN):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None or not frame.f_code.co_filename.startswith(OURS):
        return None
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
