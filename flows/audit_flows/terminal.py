"""How output looks: rich text for people, JSON for scripts, nothing that a log could forge.

Results go to stdout, progress and remarks to stderr. Without a terminal there is no colour
and lines are 100 wide. Text from entries is data: control and direction-changing
characters are shown as visible marks, never sent to the terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 100
"""Columns of the output where there is no terminal to ask: fits a page and a wide editor."""

MAX_WIDTH = 120
"""Most columns used on a terminal: longer lines are hard to read."""

TELL_SECONDS = 5.0
"""Least time between two lines about long work where there is no terminal to redraw."""

_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return `text` with every character that could act on a terminal shown as its code."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: str, width: int) -> str:
    """Return the beginning of `text` on one line of at most `width` characters."""
    joined = printable(" ".join(text[: width * 4].split()))
    return joined if len(joined) <= width else joined[: width - 1].rstrip() + "…"


def ending(text: str, width: int) -> str:
    """Return the end of `text`, at most `width` characters: for paths, whose end tells most."""
    return text if len(text) <= width else "…" + text[1 - width :]


class Terminal:
    """Where one command prints. `as_json` silences everything but the JSON and failures."""

    def __init__(
        self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.as_json = as_json
        self._out = _console(out or sys.stdout)
        self._err = _console(err or sys.stderr)

    @property
    def width(self) -> int:
        """Columns that a line may take."""
        return self._out.width

    def show(self, *parts: RenderableType) -> None:
        """Print what a person reads: renderables, or text that is shown as it stands."""
        if self.as_json:
            return
        shown = [plain(part) for part in parts]
        if self._out.is_terminal:
            self._out.print(*shown, sep="\n")
            return
        with self._out.capture() as captured:
            self._out.print(*shown, sep="\n")
        lines = captured.get().splitlines()
        self._out.file.write("".join(f"{line.rstrip()}\n" for line in lines))

    def json(self, value: Any) -> None:
        """Print `value` as JSON, when JSON was asked for."""
        if self.as_json:
            print(json.dumps(value, indent=2, ensure_ascii=False, default=str), file=self._out.file)

    def remark(self, text: str) -> None:
        """Print a remark to stderr, so that it never mixes with the result."""
        if not self.as_json:
            self._err.print(Text(printable(text), style="dim"))

    def warn(self, text: str) -> None:
        """Print a warning to stderr, in JSON mode too."""
        self._err.print(Text.assemble(("warning: ", "yellow"), printable(text)))

    @contextmanager
    def progress(self, what: str, noun: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show a bar on stderr while the block runs; yields what takes (done, total)."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(noun),
            TimeElapsedColumn(),
            console=self._err,
            transient=True,
            disable=self.as_json or not self._err.is_terminal,
        )
        with bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def counting(self, what: str, noun: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show the bar of `progress`; without a terminal, a line is written now and then."""
        if self.as_json or self._err.is_terminal:
            with self.progress(what, noun) as bar:
                yield bar
        else:
            tell = _now_and_then(lambda line: self.remark(f"{what}: {line}"))
            yield lambda done, total: tell(
                f"{done:,} {noun}" if total is None else f"{done:,} of {total:,} {noun}"
            )

    @contextmanager
    def telling(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show on stderr that `what` goes on, and the newest line of what it tells.

        Without a terminal, a line is written now and then. Yields what takes the lines.
        """
        if self.as_json:
            yield lambda _: None
        elif self._err.is_terminal:
            with self._err.status(plain(f"{what} …")) as status:
                yield lambda line: status.update(plain(one_line(f"{what}: {line}", self.width - 4)))
        else:
            yield _now_and_then(lambda line: self.remark(f"{what}: {one_line(line, PIPED_WIDTH)}"))


def _now_and_then(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return what passes a line on when some seconds have gone by since the last one."""
    told_at = monotonic()

    def maybe(line: str) -> None:
        nonlocal told_at
        if monotonic() - told_at >= TELL_SECONDS:
            tell(line)
            told_at = monotonic()

    return maybe


def fields(rows: Iterable[tuple[str, RenderableType]], indent: int = 2) -> Table:
    """Return names and values in two columns, for `show`."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(" " * indent + name, plain(value))
    return table


def listing(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Return a table with a head; a column's name with a leading `>` is right-aligned."""
    table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        right = name.startswith(">")
        table.add_column(
            name.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    return table


def plain(value: RenderableType) -> RenderableType:
    """Return text as it stands: no markup in it is obeyed, no control character sent."""
    return Text(printable(value)) if isinstance(value, str) else value


def _console(file: TextIO) -> Console:
    console = Console(file=file, soft_wrap=False, emoji=False)
    if not console.is_terminal:
        return Console(file=file, width=PIPED_WIDTH, emoji=False, color_system=None)
    console.width = min(console.width, MAX_WIDTH)
    return console
