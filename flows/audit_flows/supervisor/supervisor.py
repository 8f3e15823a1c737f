"""Starts parts in order, waits until each answers, starts again what dies, ends all in reverse.

A part that dies again and again is started after ever longer waits, never given up. One that is
there and does not answer for `HANG_SECONDS` is ended and started like one that died, where its
kind says so. Called by `claude-audit up`; knows nothing of what the parts are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from time import monotonic

from audit_flows.supervisor.part import Part
from claude_max_audit.errors import AuditError, TransientError

READY_SECONDS = 180.0
"""How long a part may take to answer at first: a first start makes a database, on a slow disk."""

FIRST_WAIT_SECONDS = 1.0
"""Wait before a part that died is started again; doubled each time that it dies soon after."""

LONGEST_WAIT_SECONDS = 60.0
"""Longest such wait: a minute after its cause is mended, everything runs."""

STEADY_SECONDS = 120.0
"""A part that ran for so long before it died starts over with the first wait."""

HANG_SECONDS = 120.0
"""How long a part may be there without answering; a database under load answers late."""

LOOK_SECONDS = 0.5
ASK_SECONDS = 10.0
"""Between two looks at the processes, and between two questions to them, which cost more."""


class PartFailedError(TransientError):
    """A part did not come up; the message names its log."""


@dataclass(slots=True)
class _Watched:
    """What the supervisor remembers of a part. Times are of the monotonic clock."""

    part: Part
    started_at: float = field(default_factory=monotonic)
    answered_at: float = field(default_factory=monotonic)
    wait_seconds: float = FIRST_WAIT_SECONDS
    start_at: float | None = None


class Supervisor:
    """Keeps parts running until told to stop. `tell` gets a line for everything that happens."""

    def __init__(self, parts: Sequence[Part], tell: Callable[[str], None]) -> None:
        self._watched = [_Watched(part) for part in parts]
        self._tell = tell
        self._asked_at = monotonic()

    def bring_up(self, part: Part, stop: Event) -> None:
        """Start a part and wait until it answers, or until `stop` is set.

        Raises `PartFailedError` when it ends or does not answer within `READY_SECONDS`.
        """
        self._tell(f"starting {part.name}")
        part.start()
        deadline = monotonic() + READY_SECONDS
        while not stop.is_set() and not part.answers():
            if not part.alive() or monotonic() > deadline:
                raise PartFailedError(f"{part.name} did not come up: it {part.ending()}")
            stop.wait(LOOK_SECONDS)

    def watch(self, stop: Event) -> None:
        """Start again what dies, until `stop` is set."""
        now = monotonic()
        for one in self._watched:
            one.started_at = one.answered_at = now
        while not stop.wait(LOOK_SECONDS):
            asking = monotonic() - self._asked_at >= ASK_SECONDS
            if asking:
                self._asked_at = monotonic()
            for one in self._watched:
                self._look_at(one, asking)

    def stop(self) -> None:
        """End every part, the last one first; one that does not end does not keep the others."""
        for one in reversed(self._watched):
            try:
                one.part.stop()
            except AuditError as failed:
                self._tell(str(failed))

    def _look_at(self, one: _Watched, asking: bool) -> None:
        now = monotonic()
        if one.start_at is not None:
            if now >= one.start_at:
                self._start_again(one)
        elif not one.part.alive():
            self._died(one)
        elif asking and one.part.hangs_when_silent:
            if one.part.answers():
                one.answered_at = now
            elif now - one.answered_at >= HANG_SECONDS:
                self._died(one)

    def _died(self, one: _Watched) -> None:
        now = monotonic()
        if now - one.started_at >= STEADY_SECONDS:
            one.wait_seconds = FIRST_WAIT_SECONDS
        self._tell(
            f"{one.part.name} {one.part.ending()}; started again in {one.wait_seconds:g} s"
        )
        one.start_at = now + one.wait_seconds
        one.wait_seconds = min(one.wait_seconds * 2, LONGEST_WAIT_SECONDS)

    def _start_again(self, one: _Watched) -> None:
        told = "answers again"
        try:
            # A job may have started the embedded Redis meanwhile.
            if not one.part.answers():
                one.part.stop()
                one.part.start()
                told = "was started again"
        except (AuditError, OSError) as failed:
            self._tell(f"{one.part.name} did not start: {failed}")
            one.start_at = monotonic() + one.wait_seconds
            one.wait_seconds = min(one.wait_seconds * 2, LONGEST_WAIT_SECONDS)
            return
        one.started_at = one.answered_at = monotonic()
        one.start_at = None
        self._tell(f"{one.part.name} {told}")
