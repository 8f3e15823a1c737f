"""Lets archived days go, and says which days Redis still holds whole.

Called by the archive, after it has verified a day in the lake. An entry that the archive
does not name never gets an expiry here: a late one waits for the next archive of its day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from claude_max_audit.hot.batch import Keeping
from claude_max_audit.hot.keys import DAYS, archived_key, day_end, day_key, entry_key
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.members import Ids, chunks_of
from claude_max_audit.hot.prune import HotPruner
from claude_max_audit.hot.resp import bulk

_MARKER_LEAD_SECONDS: Final = 60
"""The marker goes this long before the first entry, so that no day looks whole which is not."""

_AT_ONCE: Final = 4_000


class HotRelease:
    """Releases days. Every call may be repeated or run twice at once."""

    def __init__(self, link: RedisLink, keeping: Keeping, pruner: HotPruner) -> None:
        self._link = link
        self._keeping = keeping
        self._pruner = pruner

    def expiry_of(self, day: str) -> int:
        """Epoch second at which the entries of an archived day go."""
        return day_end(day) + self._keeping.seconds

    def release(self, day: str, archived: int, entry_ids: Ids, now: float) -> int:
        """Let these entries of a day expire, or go at once; returns how many there were.

        If we stop half way, some entries have their expiry and there is no new marker: the
        lake serves the day, and the next archive releases it again.
        """
        at = self.expiry_of(day)
        if at <= now:
            return self._pruner.forget(entry_ids)
        released = 0
        for chunk in chunks_of(entry_ids, _AT_ONCE):
            released += sum(self._link.ask_packed(_expiries(chunk, at)))
        self._link.ask([("ZADD", DAYS, "XX", at, day)])
        if released < len(entry_ids):
            self._pruner.prune_day(day, now, all_of_it=True)
        marker_end = at - _MARKER_LEAD_SECONDS
        if released == archived and marker_end > now:
            self._link.ask([("SET", archived_key(day), archived, "EXAT", marker_end)])
        else:
            self._link.ask([("DEL", archived_key(day))])
        return released

    def complete_days(self, lake_counts: Mapping[date, int], now: float) -> set[date]:
        """Days of which Redis holds every entry that the lake does, for a minute at least."""
        days = [
            day
            for day in lake_counts
            if self.expiry_of(day.isoformat()) - _MARKER_LEAD_SECONDS > now
        ]
        markers = self._link.ask([("GET", archived_key(day.isoformat())) for day in days])
        held = self._link.ask([("ZCARD", day_key(day.isoformat())) for day in days])
        return {
            day
            for day, marker, count in zip(days, markers, held, strict=True)
            if marker is not None and int(marker) == lake_counts[day] <= count
        }


def _expiries(entry_ids: Sequence[str], at: int) -> list[bytes]:
    """A command each: packed here, as this is most of what a release of millions costs."""
    end = bulk(str(at))
    keys = [entry_key(entry_id).encode() for entry_id in entry_ids]
    return [b"*3\r\n$8\r\nEXPIREAT\r\n$%d\r\n%b\r\n%b" % (len(key), key, end) for key in keys]
