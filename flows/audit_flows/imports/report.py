"""The report of an import: what every line became, so that the numbers can be checked.

`lines == lines_with_entries + sum(passed_over.values())`, always. An entry counts as new or
as already there; a line whose every event repeats one of the same import is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

EXAMPLES = 3
"""Places named for each reason: enough to look one up, few enough to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did. Counts are of this import alone; times are aware UTC."""

    files: int = 0
    """Files that were read, empty ones too."""
    empty_files: int = 0
    left_alone: int = 0
    """Files that are no JSON lines and were not looked into."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be read (or not to the end), with the reason."""
    lines: int = 0
    lines_with_entries: int = 0
    entries: Mapping[str, int] = field(default_factory=dict)
    """New entries by type."""
    already_there: int = 0
    """Entries that the stores had before."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Lines that gave no entry, by reason."""
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each reason, the first places as file:line."""
    untimed: int = 0
    """Entries whose source states no time; theirs is the import's or its order's."""
    oldest: datetime | None = None
    newest: datetime | None = None
    """Span of the times that sources state, over new and known entries."""

    @property
    def new_entries(self) -> int:
        """New entries of all types."""
        return sum(self.entries.values())

    @property
    def accounted_for(self) -> bool:
        """Say whether every line either gave an entry or was passed over with a reason."""
        return self.lines == self.lines_with_entries + sum(self.passed_over.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = asdict(self)
        for name in ("oldest", "newest"):
            moment = values[name]
            values[name] = None if moment is None else moment.isoformat()
        return values | {"new_entries": self.new_entries}


class Tally:
    """Counts while an import runs; `report` gives the counts as they are."""

    def __init__(self, left_alone: int, unreadable: Mapping[str, str]) -> None:
        self.files = 0
        self.empty_files = 0
        self.already_there = 0
        self.untimed = 0
        self.unreadable = dict(unreadable)
        self.entries: Counter[str] = Counter()
        self._left_alone = left_alone
        self._lines_with_entries = 0
        self._passed_over: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._oldest: datetime | None = None
        self._newest: datetime | None = None

    def gave_entries(self) -> None:
        """Count a line that gave at least one entry."""
        self._lines_with_entries += 1

    def passed_over(self, reason: str, place: str, detail: str = "") -> None:
        """Count a line that gave none; `place` is file:line."""
        self._passed_over[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(f"{place} ({detail})" if detail else place)

    def timed(self, moment: datetime) -> None:
        """Widen the span of the times that sources state."""
        self._oldest = moment if self._oldest is None else min(self._oldest, moment)
        self._newest = moment if self._newest is None else max(self._newest, moment)

    def report(self) -> ImportReport:
        """Return the counts so far."""
        return ImportReport(
            files=self.files,
            empty_files=self.empty_files,
            left_alone=self._left_alone,
            unreadable=dict(self.unreadable),
            lines=self._lines_with_entries + self._passed_over.total(),
            lines_with_entries=self._lines_with_entries,
            entries=dict(self.entries),
            already_there=self.already_there,
            passed_over=dict(self._passed_over.most_common()),
            examples={reason: tuple(places) for reason, places in self._examples.items()},
            untimed=self.untimed,
            oldest=self._oldest,
            newest=self._newest,
        )
