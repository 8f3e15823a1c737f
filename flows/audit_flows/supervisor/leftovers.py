"""Processes that an `up` of a home left behind, found by the mark in their environment.

Every process that `up` starts carries the mark, and so does whatever those start: a run that
outlived its worker, a worker that outlived its `up`. The embedded Redis does not; it is found
by its own lock. Called when everything else has been ended in order.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

MARK = "CLAUDE_AUDIT_UP_OF"
"""The variable that says in which home's `up` a process belongs."""

TERM_SECONDS = 10.0
"""How long a process left behind may take to end by itself before it is killed."""

_KILL_SECONDS = 10.0


def mark(home: Path) -> dict[str, str]:
    """Return the variable that every process of a home's `up` carries."""
    return {MARK: str(home)}


def leftovers(home: Path) -> list[psutil.Process]:
    """Return the living processes that carry the mark of this home, but for this one."""
    return [one for one in psutil.process_iter() if _carries(one, str(home))]


def end_leftovers(home: Path) -> int:
    """End them, and kill what does not go; returns how many there were."""
    found = leftovers(home)
    for process in found:
        _tell(process, kill=False)
    _, stubborn = psutil.wait_procs(found, timeout=TERM_SECONDS)
    # What a process started while it was being ended carries the mark as well.
    for process in {*stubborn, *leftovers(home)}:
        _tell(process, kill=True)
    psutil.wait_procs(leftovers(home), timeout=_KILL_SECONDS)
    return len(found)


def _carries(process: psutil.Process, home: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return bool(process.environ().get(MARK) == home)
    except (psutil.Error, OSError):
        return False  # Another user's, a kernel's, or one that has just ended.


def _tell(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
