"""Reads the entries of one UTC day, page by page, each with the id that it is kept under.

The archive and the quality checks read a closed day with it. Neither the ids nor the texts of
a whole day are ever in memory: a day may have millions of entries. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from claude_max_audit.hot.entries import load_json
from claude_max_audit.hot.keys import day_key
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.members import Member, members_of, next_start

PAGE: Final = 5_000
"""Entries of one page: some megabytes, and few enough that Redis is not held up."""


class DayPage(NamedTuple):
    """Entries of a day: the full JSON of each, and the id that its key has, in one order."""

    entry_ids: list[bytes]
    texts: list[bytes]


def read_day(link: RedisLink, day: str, size: int = PAGE) -> Iterator[DayPage]:
    """Every entry of a day, in the order (timestamp, entry id), each once.

    One that comes or goes meanwhile may be left out, and so is an id that has no entry.
    """
    for entry_ids in _pages(link, day_key(day), size):
        texts = load_json(link, entry_ids)
        held = [number for number, text in enumerate(texts) if text is not None]
        yield DayPage(
            [entry_ids[number] for number in held], [text for text in texts if text is not None]
        )


def _pages(link: RedisLink, key: str, size: int) -> Iterator[list[bytes]]:
    """Ids of a day. Going by score, a page never repeats what an earlier one had."""
    lower, skip = "-inf", 0
    last: Member | None = None
    while True:
        command = ("ZRANGEBYSCORE", key, lower, "+inf", "WITHSCORES", "LIMIT", skip, size)
        [reply] = link.ask([command])
        members = members_of(reply)
        # One that came beside the last of a page shifts it into the next.
        new = members if last is None else [member for member in members if member > last]
        if new:
            yield [entry_id for _, entry_id in new]
        if len(members) < size:
            return
        last = members[-1]
        lower, skip = next_start(members, lower, skip)
