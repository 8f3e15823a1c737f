"""Members of the hot store's sorted sets: reading them newest first, counting, asking after.

A member is (epoch microsecond, entry id); tuples sort as Redis sorts them. All reads are
non-blocking ranges in bounded chunks, and none writes: so queries also work on a replica,
and on a server that is out of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from claude_max_audit.entry import epoch_us
from claude_max_audit.hot.link import Command, RedisLink
from claude_max_audit.query import BEGINNING, END, Span

Member = tuple[int, bytes]
T = TypeVar("T")

FIRST_CHUNK: Final = 256
LARGEST_CHUNK: Final = 4096
"""Members in one reply: chunks double from the first, so that a page asks for little and a
long walk takes few round trips, none of which holds Redis for more than some milliseconds."""


class Window(NamedTuple):
    """A span as scores, both inclusive, and as the text that range commands take."""

    low: int
    high: int
    low_text: str
    high_text: str

    @classmethod
    def of(cls, span: Span) -> Window:
        """The window of a span."""
        low, high = epoch_us(span.start), epoch_us(span.end)
        return cls(
            low,
            high,
            "-inf" if span.start == BEGINNING else str(low),
            "+inf" if span.end == END else str(high),
        )


class Ids(Protocol):
    """Entry ids that are only counted and walked, whatever keeps them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Members:
    """Reads members within one window."""

    link: RedisLink
    window: Window

    def count_command(self, key: str) -> Command:
        """Ask how many members `key` has in the window."""
        return ("ZCOUNT", key, self.window.low_text, self.window.high_text)

    def top_command(self, key: str, skip: int, limit: int) -> Command:
        """Ask for the newest members of `key`, after `skip` of them."""
        return (
            "ZREVRANGEBYSCORE",
            key,
            self.window.high_text,
            self.window.low_text,
            "WITHSCORES",
            "LIMIT",
            skip,
            limit,
        )

    def counts(self, keys: Iterable[str]) -> list[int]:
        """Number of members of each key."""
        return self.link.ask([self.count_command(key) for key in keys])

    def walk(self, keys: Sequence[str]) -> Iterator[Member]:
        """Every member of any of the keys once, newest first."""
        if len(keys) == 1:
            return self._walk_one(keys[0])
        return without_repeats(merge(*map(self._walk_one, keys), reverse=True))

    def _walk_one(self, key: str) -> Iterator[Member]:
        """Members of one key, each chunk from the score that the one before ended with.

        Going by score, not by rank, neither repeats nor leaves out a member when others
        come or go meanwhile.
        """
        upper, skip, size = self.window.high_text, 0, FIRST_CHUNK
        while True:
            command = ("ZREVRANGEBYSCORE", key, upper, self.window.low_text, "WITHSCORES")
            [reply] = self.link.ask([(*command, "LIMIT", skip, size)])
            chunk = members_of(reply)
            yield from chunk
            if len(chunk) < size:
                return
            upper, skip = next_start(chunk, upper, skip)
            size = min(2 * size, LARGEST_CHUNK)

    def held(self, members: Sequence[Member], keys: Sequence[str]) -> list[list[Any]]:
        """For each key, a list that has None where the member is not in it."""
        ids = [entry_id for _, entry_id in members]
        return self.link.ask([("ZMSCORE", key, *ids) for key in keys])


def next_start(chunk: Sequence[Member], bound: str, skip: int) -> tuple[str, int]:
    """Where a walk by score goes on after `chunk`: the score, and how many of it are done."""
    last = chunk[-1][0]
    done = sum(1 for score, _ in chunk if score == last)
    return str(last), done + (skip if bound == str(last) else 0)


def members_of(reply: list[Any]) -> list[Member]:
    """Members of a WITHSCORES reply, which is flat in RESP2 and in pairs in RESP3."""
    if reply and isinstance(reply[0], list):
        return [(int(score), entry_id) for entry_id, score in reply]
    pairs = iter(reply)
    return [(int(float(score)), entry_id) for entry_id, score in zip(pairs, pairs, strict=True)]


def without_repeats(members: Iterable[Member]) -> Iterator[Member]:
    """Sorted members, each once."""
    last: Member | None = None
    for member in members:
        if member != last:
            yield member
            last = member


def chunks_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive items in lists of at most `size`."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def growing_chunks(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Consecutive members in lists that double from the first to the largest chunk."""
    rest = iter(members)
    size = FIRST_CHUNK
    while chunk := list(islice(rest, size)):
        yield chunk
        size = min(2 * size, LARGEST_CHUNK)
