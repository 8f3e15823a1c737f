"""When an event happened: its own time, or a stated stand-in that keeps the file's order.

A stand-in is never passed off as the source's own: `mark` goes into the metadata as
`timestamp_source`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from claude_max_audit.entry import as_utc

ORDER_STEP = timedelta(milliseconds=1)
"""Distance of untimed events from a given start: the finest step that every tool shows."""

IMPORT_STEP = timedelta(microseconds=1)
"""Distance of untimed events at the import's own time: they stay next to its start."""

TIMESTAMP_SOURCE = "timestamp_source"


class TimestampFault(ValueError):
    """A timestamp is there and cannot be read; the message is the reason."""


def parse_timestamp(value: object) -> datetime | None:
    """Return the source's time as aware UTC; None stays None, no zone is taken as UTC.

    Digits beyond microseconds are cut. Raises `TimestampFault` for what is not ISO 8601.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TimestampFault("timestamp is not text")
    try:
        return as_utc(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        raise TimestampFault("timestamp is not ISO 8601") from None


@dataclass
class StandInClock:
    """Gives untimed events their time, in the order in which they are asked for."""

    start: datetime
    step: timedelta
    mark: str
    given: int = 0

    def next(self) -> datetime:
        """Return the next stand-in time, one step after the last."""
        moment = self.start + self.given * self.step
        self.given += 1
        return moment


def stand_in_clock(untimed_from: datetime | None) -> StandInClock:
    """Return the clock for one import.

    With `untimed_from`, untimed events follow each other from that instant, 1 ms apart
    (`order`); without, from the import's own start, 1 microsecond apart (`import`).
    """
    if untimed_from is None:
        return StandInClock(datetime.now(UTC), IMPORT_STEP, "import")
    return StandInClock(as_utc(untimed_from), ORDER_STEP, "order")
