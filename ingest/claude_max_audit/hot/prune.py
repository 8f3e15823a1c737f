"""Takes what has expired out of the indexes, and what is purged out of everything.

An entry expires by itself, its ids in the sorted sets do not. `audit:days` says when
something of a day is due; whoever reads or archives then trims that day. Only the ids of
entries that are gone are taken out, each by name, the day's own set last: so a late entry
of the same day stays, a writer may write beside it, and a prune that is killed anywhere
leaves the day due, for the next one to finish.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from claude_max_audit.entry import AuditEntry, decode_entry, epoch_us
from claude_max_audit.hot.batch import Keeping
from claude_max_audit.hot.entries import load_json
from claude_max_audit.hot.keys import (
    AGENTS,
    DAYS,
    KINDS,
    Kind,
    archived_key,
    content_key,
    content_keys,
    content_member,
    content_name,
    day_key,
    day_of,
    entry_key,
    index_keys,
    touched_key,
)
from claude_max_audit.hot.link import Command, RedisLink
from claude_max_audit.hot.members import Ids, Member, chunks_of, members_of, next_start

_AT_ONCE: Final = 4_000
"""Members looked at in one round trip."""

_KEYS_AT_ONCE: Final = 200
"""Index keys trimmed in one round trip."""

_RETRY_SECONDS: Final = 60
"""When a day that is being pruned is due again, should we be killed before the end."""

_NEVER: Final = float("inf")
_GONE, _STAYS = -2, -1
"""What PTTL says of a key that does not exist, and of one that does not expire."""


class HotPruner:
    """Trims indexes and forgets entries. Every call may be repeated or run twice at once."""

    def __init__(self, link: RedisLink, keeping: Keeping) -> None:
        self._link = link
        self._keeping = keeping

    def prune(self, now: float) -> int:
        """Trim every day that is due at epoch second `now`; returns the entries that were gone."""
        [due] = self._link.ask([("ZRANGEBYSCORE", DAYS, "-inf", now)])
        pruned = sum(self.prune_day(day.decode(), now) for day in due)
        oldest = int((now - self._keeping.seconds) * 1_000_000)
        self._link.ask([("ZREMRANGEBYSCORE", AGENTS, "-inf", f"({oldest}")])
        self._prune_kinds()
        return pruned

    def prune_day(self, day: str, now: float, *, all_of_it: bool = False) -> int:
        """Trim one day of the entries that are gone, and set when it is due next.

        Only what is old enough to have expired is looked at, unless `all_of_it` is asked for.
        """
        retry_at = int(now) + _RETRY_SECONDS
        self._link.ask([("ZADD", DAYS, "XX", retry_at, day)])
        upper = "+inf"
        if not all_of_it:
            # Expiry is rounded down to the minute: look a minute further.
            upper = str(int((now - self._keeping.seconds + 60) * 1_000_000))
        pruned, next_due = 0, self._due_after(day, upper)
        for chunk, expiries in self._walk_day(day, upper):
            gone = {m[1] for m, at in zip(chunk, expiries, strict=True) if at is None}
            if gone:
                self._take_out(day, chunk, gone)
                pruned += len(gone)
            next_due = min([next_due, *(at for at in expiries if at is not None)])
        self._close(day, retry_at, next_due)
        return pruned

    def forget(self, entry_ids: Ids) -> int:
        """Remove entries and their index members at once; returns how many were there.

        An entry's hash goes last: cut before, the next call finds in it what to remove.
        """
        return sum(self._forget(chunk) for chunk in chunks_of(entry_ids, _AT_ONCE // 4))

    def forget_agents(self) -> int:
        """Take senders off the list of whom Redis holds no entry; returns how many.

        One that logs at this very moment may be missing there until its next entry.
        """
        [names] = self._link.ask([("ZRANGE", AGENTS, 0, -1)])
        gone = 0
        for chunk in chunks_of(names, _AT_ONCE):
            there = self._link.ask([("EXISTS", b"audit:agent:" + name) for name in chunk])
            absent = [name for name, held in zip(chunk, there, strict=True) if not held]
            if absent:
                self._link.ask([("ZREM", AGENTS, *absent)])
            gone += len(absent)
        return gone

    def _forget(self, entry_ids: Sequence[str]) -> int:
        texts = load_json(self._link, [entry_id.encode() for entry_id in entry_ids])
        known: list[AuditEntry] = []
        damaged: list[str] = []
        for entry_id, text in zip(entry_ids, texts, strict=True):
            if text is not None:
                try:
                    known.append(decode_entry(text))
                except ValueError:
                    damaged.append(entry_id)
        days = sorted({day_of(epoch_us(entry.timestamp)) for entry in known})
        # First: a late entry beside it could make up the number of a day that lost one.
        self._link.ask([("DEL", archived_key(day)) for day in days])
        self._link.ask(list(_removals(known)))
        unlinked = self._link.ask([("UNLINK", entry_key(entry.entry_id)) for entry in known])
        for day in days:
            self._close(day, None, _NEVER)
        return unlinked.count(1) + sum(map(self._forget_damaged, damaged))

    def _forget_damaged(self, entry_id: str) -> int:
        """Remove an entry whose text does not tell its indexes: find its day and prune that."""
        [days] = self._link.ask([("ZRANGE", DAYS, 0, -1)])
        names = [day.decode() for day in days]
        held = self._link.ask([("ZSCORE", day_key(day), entry_id) for day in names])
        [removed] = self._link.ask([("UNLINK", entry_key(entry_id))])
        for day, score in zip(names, held, strict=True):
            if score is not None:
                self.prune_day(day, 0, all_of_it=True)
        return int(removed)

    def _walk_day(self, day: str, upper: str) -> Iterator[tuple[list[Member], list[float | None]]]:
        """A day's members, oldest first, with the epoch second at which each one's entry goes.

        None is an entry that is gone; only such members may be taken out between two chunks.
        """
        lower, skip = "-inf", 0
        while True:
            command = ("ZRANGEBYSCORE", day_key(day), lower, upper, "WITHSCORES")
            [reply] = self._link.ask([(*command, "LIMIT", skip, _AT_ONCE)])
            chunk = members_of(reply)
            if not chunk:
                return
            expiries = self._expiries(chunk)
            yield chunk, expiries
            if len(chunk) < _AT_ONCE:
                return
            alive = [m for m, at in zip(chunk, expiries, strict=True) if at is not None]
            if alive:
                lower, skip = next_start(alive, lower, skip)

    def _expiries(self, members: Sequence[Member]) -> list[float | None]:
        """Epoch second by Redis' clock at which each entry goes, None if it is gone."""
        clock, *remaining = self._link.ask(
            [("TIME",), *(("PTTL", b"audit:entry:" + entry_id) for _, entry_id in members)]
        )
        now = int(clock[0])
        return [
            None if ttl == _GONE else _NEVER if ttl == _STAYS else now + ttl / 1000
            for ttl in remaining
        ]

    def _due_after(self, day: str, upper: str) -> float:
        """When the first entry after `upper` may expire at the earliest."""
        if upper == "+inf":
            return _NEVER
        command = ("ZRANGEBYSCORE", day_key(day), f"({upper}", "+inf", "WITHSCORES")
        [reply] = self._link.ask([(*command, "LIMIT", 0, 1)])
        if not reply:
            return _NEVER
        [(score, _)] = members_of(reply)
        return (score // 1_000_000 + self._keeping.seconds) // 60 * 60

    def _take_out(self, day: str, chunk: Sequence[Member], gone: set[bytes]) -> None:
        """Take ids that are gone out of all indexes of their day, then out of the day."""
        low, high = chunk[0][0], chunk[-1][0]
        [touched] = self._link.ask([("SMEMBERS", touched_key(day))])
        for keys in chunks_of(touched, _KEYS_AT_ONCE):
            found = self._link.ask([("ZRANGEBYSCORE", key, low, high) for key in keys])
            self._link.ask(list(_intersections(keys, found, gone)))
        self._link.ask([("ZREM", day_key(day), *gone)])

    def _close(self, day: str, retry_at: int | None, next_due: float) -> None:
        """Unlist an empty day and what belongs to it; else note when it is due next.

        Should a writer or a release have changed either meanwhile, the day stays as it is,
        due when `prune_day` or they have said.
        """

        def decide(replies: list[Any]) -> list[Command]:
            count, due = replies
            if not count:
                rest = (touched_key(day), *content_keys(day))
                return [("DEL", *rest), ("ZREM", DAYS, day)]
            if due is not None and float(due) == retry_at:
                return [("ZADD", DAYS, next_due, day)]
            return []

        look: list[Command] = [("ZCARD", day_key(day)), ("ZSCORE", DAYS, day)]
        self._link.change_unless_touched([day_key(day), DAYS], look, decide)

    def _prune_kinds(self) -> None:
        [kinds] = self._link.ask([("ZRANGE", KINDS, 0, -1)])
        for name in kinds:
            key = Kind.parse(name.decode()).key

            def decide(replies: list[Any], name: bytes = name) -> list[Command]:
                return [] if replies[0] else [("ZREM", KINDS, name)]

            self._link.change_unless_touched([key, KINDS], [("EXISTS", key)], decide)


def _removals(entries: Sequence[AuditEntry]) -> Iterator[Command]:
    """One command per key that takes the entries out, their days last."""
    indexes: dict[str, list[str]] = defaultdict(list)
    contents: dict[str, list[bytes]] = defaultdict(list)
    days: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        score = epoch_us(entry.timestamp)
        day = day_of(score)
        for key in index_keys(entry):
            indexes[key].append(entry.entry_id)
        content = content_name(entry.content_hash)
        copy = content_member(content, score, entry.entry_id.encode())
        contents[content_key(day, content)].append(copy)
        days[day_key(day)].append(entry.entry_id)
    for group in (indexes, contents, days):
        for key, members in group.items():
            yield ("ZREM", key, *members)


def _intersections(
    keys: Sequence[bytes], found: Sequence[list[bytes]], gone: set[bytes]
) -> Iterator[Command]:
    for key, members in zip(keys, found, strict=True):
        held = [member for member in members if member in gone]
        if held:
            yield ("ZREM", key, *held)
