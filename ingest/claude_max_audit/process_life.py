"""What a process's end and its forks mean for the trails in it.

At exit, and at the end of a `multiprocessing` child, every trail is closed: what is accepted
is written, or safe in the spool. A forked child starts over with a writer of its own. Trails
register here when they are built; nothing keeps one alive.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from typing import Protocol


class Living(Protocol):
    """What is asked of a trail."""

    @property
    def spool_lock(self) -> threading.Lock | None:
        """The lock that is held while an entry is appended; None before the first."""

    def close(self) -> None:
        """Write what is accepted within a few seconds, then stop."""

    def start_over_in_child(self) -> None:
        """Let go of what is the parent's."""


_alive: weakref.WeakSet[Living] = weakref.WeakSet()
_held_for_fork: list[threading.Lock] = []


def watch_over(trail: Living) -> None:
    """Close this trail at the process's end, and start it over in forked children."""
    _alive.add(trail)


def finish_with_multiprocessing() -> None:
    """Close at the end of a `multiprocessing` child too, which skips `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=10)


def _close_all() -> None:
    for trail in list(_alive):
        trail.close()


def _before_fork() -> None:
    """Take every spool's lock, so that the child never copies one in mid-append."""
    for trail in list(_alive):
        lock = trail.spool_lock
        if lock is not None:
            lock.acquire()
            _held_for_fork.append(lock)


def _release_in_parent() -> None:
    while _held_for_fork:
        _held_for_fork.pop().release()


def _start_over_in_child() -> None:
    _held_for_fork.clear()
    for trail in list(_alive):
        trail.start_over_in_child()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_release_in_parent,
        after_in_child=_start_over_in_child,
    )
