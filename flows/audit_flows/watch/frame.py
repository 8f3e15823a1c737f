"""One frame of the live view: the panels put together for a width and, on a screen, a height.

Pure, so that the same look gives the same frame on a screen, in a pipe and in a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from audit_flows.amounts import age
from audit_flows.terminal import ending, one_line
from audit_flows.watch import panels
from audit_flows.watch.look import Look

CARD_LINES, MIDDLE_LINES = 6, 8
"""Heights of the row of cards, and of alerts and jobs: one line for each job and the border."""

LEAST_ENTRY_LINES = 5
"""Where a screen has less left for entries, alerts and jobs are told in one line."""

LEAST_CARD_WIDTH = 20
"""Narrower cards go in two rows."""

PIPED_ENTRIES = 15
"""Newest entries of a frame that goes to a pipe, where there is no height to fill."""

LATE_LOOKS = 3
"""Intervals after which a look counts as old: the next one waits for a store."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands in the head beside the name: whose trail, how old, how it goes on."""

    home: str
    seconds_old: float = 0.0
    interval_seconds: float = 0.0
    """How often the view is drawn anew; 0: once."""


def frame(
    look: Look,
    caption: Caption,
    rates: Sequence[float],
    width: int,
    height: int | None = None,
) -> RenderableType:
    """Return the whole view; without a `height` as much of it as a page takes."""
    notes = look.notes[: 2 if height else None]
    parts: list[RenderableType] = [head(caption, look, width), *_cards(look, rates, width)]
    taken = 1 + CARD_LINES * (len(parts) - 1) + len(notes)
    if height is None or height - taken - MIDDLE_LINES >= LEAST_ENTRY_LINES:
        alerts = panels.alerts_panel(look, MIDDLE_LINES)
        parts.append(_beside(alerts, panels.jobs_panel(look, MIDDLE_LINES)))
        taken += MIDDLE_LINES
    else:
        parts.append(panels.in_one_line(look))
        taken += 1
    if height is None:
        room = min(max(len(look.recent.entries), 1), PIPED_ENTRIES) + 2
    else:
        room = max(height - taken, 3)
    parts.append(panels.entries_panel(look, room, width))
    parts.extend(_note(note, width, whole=height is None) for note in notes)
    return Group(*parts)


def head(caption: Caption, look: Look | None, width: int) -> Table:
    """Return the line above everything."""
    right = Text("looking …" if look is None else f"{look.at:%Y-%m-%d %H:%M:%S} UTC")
    if caption.interval_seconds:
        right.append(f" · every {caption.interval_seconds:g} s · q quits", style="dim")
        if caption.seconds_old > LATE_LOOKS * caption.interval_seconds:
            right = Text(f"{age(caption.seconds_old)} old, waiting for a store", style="yellow")
            right.append(" · q quits", style="dim")
    left = Text(" Claude Max Audit ", style="bold reverse")
    room = max(width - len(left) - len(right) - 4, 8)
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(Text.assemble(left, "  ", (ending(caption.home, room), "dim")), right)
    return grid


def _cards(look: Look, rates: Sequence[float], width: int) -> list[Table]:
    in_a_row = 4 if width // 4 >= LEAST_CARD_WIDTH else 2
    room = max(width // in_a_row - 4, 4)
    cards = [
        panels.redis_card(look, CARD_LINES),
        panels.lake_card(look, CARD_LINES),
        panels.spool_card(look, CARD_LINES),
        panels.traffic_card(look, rates[-room:], CARD_LINES),
    ]
    return [_beside(*cards[at : at + in_a_row]) for at in range(0, len(cards), in_a_row)]


def _beside(*parts: RenderableType) -> Table:
    grid = Table.grid(expand=True)
    for _ in parts:
        grid.add_column(ratio=1)
    grid.add_row(*parts)
    return grid


def _note(note: str, width: int, *, whole: bool) -> Text:
    return Text(f"! {note if whole else one_line(note, width - 2)}", style="yellow")
