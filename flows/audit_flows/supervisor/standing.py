"""Who is up in a home: one `claude-audit up` at a time, and where its parts answer.

`up` holds `up.lock` for as long as it lives, so the kernel itself says whether it does: a killed
one is not up. `up.json` beside it says where the parts are. Read by `down`, `status`, by every
command that runs a job, and by the jobs for their links. Imports nothing heavy.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from claude_max_audit.errors import TerminalError

LOCK_NAME, RECORD_NAME = "up.lock", "up.json"


class AlreadyUpError(TerminalError):
    """Another `up` holds this home; the message says where it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An `up` that lives. `since` is an aware UTC time; `ready`: every part has answered."""

    pid: int
    since: datetime
    api_url: str
    ui_url: str
    files_url: str
    ready: bool = False


class Hold:
    """The lock on a home, held by this process until it ends."""

    def __init__(self, home: Path, descriptor: int) -> None:
        self._home = home
        self._descriptor = descriptor

    def publish(self, standing: Standing) -> Standing:
        """Say where the parts are; readers see the old record or the new one, never half."""
        record = self._home / RECORD_NAME
        told = {**asdict(standing), "since": standing.since.isoformat()}
        draft = record.with_suffix(".draft")
        draft.write_text(json.dumps(told))
        draft.replace(record)
        return standing

    def publish_ready(self, standing: Standing) -> Standing:
        """Say that every part has answered."""
        return self.publish(replace(standing, ready=True))


@contextmanager
def hold(home: Path) -> Iterator[Hold]:
    """Take the home for this process; raises `AlreadyUpError` while another one has it."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUpError(_told(home)) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        (home / RECORD_NAME).unlink(missing_ok=True)
        yield Hold(home, descriptor)
        (home / RECORD_NAME).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def holder(home: Path) -> int | None:
    """Return the process of the `up` that lives in this home, ready or not; 0: not known yet."""
    try:
        descriptor = os.open(home / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who ask at once do not take each other for an `up`.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0) or b"0")
    finally:
        os.close(descriptor)
    return None


def standing(home: Path) -> Standing | None:
    """Return what is up in this home; None where nothing is, or has only just begun."""
    if holder(home) is None:
        return None
    try:
        told = json.loads((home / RECORD_NAME).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return Standing(**{**told, "since": datetime.fromisoformat(told["since"])})


def _told(home: Path) -> str:
    up = standing(home)
    where = f": {up.ui_url} (process {up.pid})" if up else " and has only just begun"
    return f"it is already up in {home}{where}; `claude-audit down` ends it"
