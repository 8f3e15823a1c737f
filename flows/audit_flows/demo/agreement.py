"""Numbers that must be equal, each read back from another place; and whether they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Disagreement(NamedTuple):
    """Two numbers that should be one."""

    what: str
    expected: int | str
    found: int | str

    def __str__(self) -> str:
        return f"{self.what}: {_shown(self.found)} instead of {_shown(self.expected)}"


@dataclass(slots=True)
class Agreement:
    """Collects comparisons; `wrong` are those that failed."""

    made: int = 0
    wrong: list[Disagreement] = field(default_factory=list)

    def compare(self, what: str, expected: int | str, found: int | str) -> None:
        """Note whether what was found is what must be there."""
        self.made += 1
        if found != expected:
            self.wrong.append(Disagreement(what, expected, found))


def _shown(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
