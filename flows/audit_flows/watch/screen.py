"""The terminal while it is watched: drawn anew at each look, each key, each change of its size.

Looks are taken in a thread, so that a store that does not answer holds up neither the keys nor the
clock. However the view ends (q, Ctrl-C, SIGTERM, an error), the terminal is left as it was found.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread
from time import monotonic
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from audit_flows.watch.frame import Caption, frame, head
from audit_flows.watch.look import Look

QUIT_KEYS = frozenset(b"qQ\x03\x04")
"""q, and what a terminal may send for Ctrl-C and Ctrl-D."""

LOOK_KEYS = frozenset(b" r\r\n")
"""Keys that look again at once."""

CLOCK_SECONDS = 1.0
"""How often the head is drawn anew between looks, so that an old look is seen to be old."""

RATES = 400
"""Rates that are kept: the bars of the widest screen."""


class Screen:
    """Watches until it is told to stop."""

    def __init__(
        self, console: Console, take: Callable[[], Look], caption: Caption
    ) -> None:
        self._console = console
        self._take = take
        self._caption = caption
        self._seen: tuple[Look, float] | None = None
        """The newest look, and the monotonic second at which it was there."""
        self._failed: BaseException | None = None
        self._rates: deque[float] = deque(maxlen=RATES)
        self._ended = Event()
        self._again = Event()
        self._wake_end, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def watch(self) -> None:
        """Draw until somebody ends it; raises what a look raised."""
        looks = Thread(target=self._keep_looking, name="watch", daemon=True)
        with ExitStack() as stack:
            stack.enter_context(self._woken_by_signals())
            keys = stack.enter_context(_single_keys())
            live = stack.enter_context(
                Live(self._drawn(), console=self._console, screen=True, auto_refresh=False)
            )
            looks.start()
            while not self._ended.is_set():
                live.update(self._drawn(), refresh=True)
                self._wait(keys)
        if self._failed is not None:
            raise self._failed

    def _keep_looking(self) -> None:
        try:
            while not self._ended.is_set():
                look = self._take()
                self._rates.append(look.metrics.messages_per_second)
                self._seen = look, monotonic()
                self._poke()
                self._again.wait(self._caption.interval_seconds)
                self._again.clear()
        except BaseException as failed:  # Told by the thread that owns the screen.
            self._failed = failed
            self._end()

    def _drawn(self) -> RenderableType:
        width, height = self._console.size
        if self._seen is None:
            return head(self._caption, None, width)
        look, at = self._seen
        caption = replace(self._caption, seconds_old=monotonic() - at)
        return frame(look, caption, list(self._rates), width, height)

    def _wait(self, keys: int | None) -> None:
        """Return at a key, a new look, a signal, or when the clock is due."""
        watched = [self._wake_end] if keys is None else [self._wake_end, keys]
        ready, _, _ = select.select(watched, [], [], CLOCK_SECONDS)
        if self._wake_end in ready:
            os.read(self._wake_end, 1024)
        if keys is not None and keys in ready:
            pressed = os.read(keys, 1024)
            if not pressed or QUIT_KEYS & set(pressed):
                self._end()
            elif LOOK_KEYS & set(pressed):
                self._again.set()

    def _end(self) -> None:
        self._ended.set()
        self._again.set()
        self._poke()

    def _poke(self) -> None:
        with suppress(BlockingIOError):  # Full: it wakes anyway.
            os.write(self._wake, b".")

    @contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """End at Ctrl-C and SIGTERM; draw anew when the window has another size."""
        taken: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
            signal.SIGWINCH: self._poke,
        }
        before = {
            number: signal.signal(number, _without_arguments(action))
            for number, action in taken.items()
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _without_arguments(action: Callable[[], None]) -> Callable[[int, Any], None]:
    return lambda number, frame: action()


@contextmanager
def _single_keys() -> Iterator[int | None]:
    """Give the keyboard key by key and without echo; None where there is none."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def quiet_log() -> Iterator[None]:
    """Keep log lines off the terminal: what they tell of stores is drawn."""
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers[:] = before
