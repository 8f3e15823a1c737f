"""A terminal with `claude-audit` in it: what it shows, colours included, as its user sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence

_HOME = b"\x1b[H"
"""Where each frame of a live view begins."""


class Shell:
    """Runs commands in a pseudo-terminal of so many columns and lines."""

    def __init__(self, environment: Mapping[str, str], columns: int, lines: int) -> None:
        self._environment = {
            **without_size(environment),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        self._size = struct.pack("HHHH", lines, columns, 0, 0)

    def said(self, *arguments: str) -> str:
        """Return the prompt, the command and everything that it printed."""
        terminal, command = self._start(arguments)
        told = b"".join(iter(lambda: _read(terminal), b""))
        os.close(terminal)
        command.wait()
        line = " ".join(f'"{one}"' if " " in one else one for one in arguments)
        said = told.decode().replace("\r\n", "\n").strip("\n")
        return f"\x1b[1;32m$\x1b[0m \x1b[1mclaude-audit {line}\x1b[0m\n{said}"

    def shown(self, *arguments: str, frames: int, between: Callable[[], None]) -> str:
        """Return the screen of a live view after so many frames; q ends it.

        `between` is called after each frame, to have something happen that is seen.
        """
        terminal, command = self._start(arguments)
        told = b""
        seen = 0
        while data := _read(terminal):
            told += data
            if (begun := told.count(_HOME)) > seen:
                seen = begun
                between()
            if seen == frames + 2:  # The last one is whole when the next has begun.
                os.write(terminal, b"q")
        os.close(terminal)
        command.wait()
        return told.split(_HOME)[frames].decode().replace("\r\n", "\n").strip("\n")

    def _start(self, arguments: Sequence[str]) -> tuple[int, subprocess.Popen[bytes]]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, self._size)
        command = subprocess.Popen(
            [sys.executable, "-m", "audit_flows.cli", *arguments],
            env=self._environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        return ours, command


def without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out the two variables that say a terminal's size and win over what it says itself.

    GNU readline sets them in every process that loads it, and so for all that this one starts.
    """
    return {name: text for name, text in environment.items() if name not in ("COLUMNS", "LINES")}


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # What Linux says when the command has gone.
        return b""
