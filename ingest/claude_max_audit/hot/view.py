"""What Redis holds at one moment: its days and kinds, and when something expires next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from claude_max_audit.hot.keys import DAYS, KINDS, Kind, day_of
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.members import Window


@dataclass(frozen=True, slots=True)
class View:
    """Days, newest first, and kinds beyond the usual."""

    days: tuple[str, ...]
    kinds: tuple[Kind, ...]
    next_due: float
    """Epoch second at which something expires next."""

    @classmethod
    def take(cls, link: RedisLink) -> View:
        """Ask for it."""
        days, kinds = link.ask([("ZRANGE", DAYS, 0, -1, "WITHSCORES"), ("ZRANGE", KINDS, 0, -1)])
        listed = _scored(days)
        return cls(
            tuple(sorted((day for day, _ in listed), reverse=True)),
            tuple(Kind.parse(name.decode()) for name in kinds),
            min((due for _, due in listed), default=float("inf")),
        )

    def days_within(self, window: Window) -> list[str]:
        """Days that the window touches, newest first."""
        first, last = day_of(window.low), day_of(window.high)
        return [day for day in self.days if first <= day <= last]


def _scored(reply: list[Any]) -> list[tuple[str, float]]:
    """Days with their due times, of a reply that is flat in RESP2 and in pairs in RESP3."""
    if reply and isinstance(reply[0], list):
        return [(day.decode(), due) for day, due in reply]
    pairs = iter(reply)
    return [(day.decode(), float(due)) for day, due in zip(pairs, pairs, strict=True)]
