"""What became of all calls since the endpoint began: tallies as numbers that only grow.

A writer's folder goes when its process has ended and all of it is stored; the sum over the
folders would then fall, and Prometheus would take that for a restart. So what was seen last
of each writer stays in the sum. What a writer did after the last look, or between two, is not
in it; Redis and the lake count every entry.
"""

from __future__ import annotations

from collections.abc import Mapping

from claude_max_audit.spool.tally import Tally


class TallyBook:
    """Keeps the sum. Memory grows with the writers that are there, not with those that were."""

    def __init__(self) -> None:
        self._gone = Tally(0, 0, 0)
        self._seen: dict[str, Tally] = {}

    def total(self, found: Mapping[str, Tally]) -> Tally:
        """Take what was found now, by writer, and return the sum over all writers ever seen."""
        for writer in self._seen.keys() - found.keys():
            self._gone = _sum(self._gone, self._seen.pop(writer))
        for writer, tally in found.items():
            before = self._seen.get(writer, tally)
            # A number may look lower for a moment while its file is being written.
            self._seen[writer] = Tally(*map(max, before, tally))
        total = self._gone
        for tally in self._seen.values():
            total = _sum(total, tally)
        return total


def _sum(one: Tally, other: Tally) -> Tally:
    return Tally(*(a + b for a, b in zip(one, other, strict=True)))
