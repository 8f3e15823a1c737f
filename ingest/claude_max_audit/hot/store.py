"""The hot store: the newest entries in Redis, found by every query key, counted exactly.

Called by the writer (`append_batch`), by searches and exports, and by the archive, which
alone lets entries go when there is a cold tier. Synchronous and thread-safe; one object
may be used before and after a fork. Every failure of Redis is a `RedisUnavailableError`
(try again) or a `RedisRefusedError` (mend what it names). Nothing here reads the lake.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import inf
from typing import Any

from claude_max_audit.entry import AuditEntry, epoch_us
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.hot.batch import BatchPacker, Keeping, Stamped
from claude_max_audit.hot.day_reader import PAGE, DayPage, read_day
from claude_max_audit.hot.entries import UnreadableEntryError, load, load_readable
from claude_max_audit.hot.erasure import rewrite_files
from claude_max_audit.hot.keep import keep
from claude_max_audit.hot.keys import (
    AGENTS,
    CROSS_SWARM,
    day_key,
    day_of,
    entry_key,
    writer_key,
)
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.mark import mark_of
from claude_max_audit.hot.members import Ids, Member, Members, Window, chunks_of
from claude_max_audit.hot.prune import HotPruner
from claude_max_audit.hot.reader import HotReader
from claude_max_audit.hot.release import HotRelease
from claude_max_audit.hot.server import ServerFigures, server_figures
from claude_max_audit.hot.stream import RedisStream
from claude_max_audit.hot.view import View
from claude_max_audit.query import Query, Span
from claude_max_audit.results import Page
from claude_max_audit.settings import HOT_COMPRESS_BYTES, HOT_STORAGE_DAYS

__all__ = ["HotFigures", "HotStore", "Stamped", "UnreadableEntryError"]

_log = logging.getLogger("claude_max_audit")

_AT_ONCE = 1_000
"""Entries fetched in one round trip."""


@dataclass(frozen=True, slots=True)
class HotFigures:
    """Numbers of the hot store. `active_agents` sent something in the last hot days."""

    entries: int
    active_agents: int
    cross_swarm_messages: int
    entries_last_minute: int
    days: int


class HotStore:
    """Entries in one Redis, kept `hot_days` from the archive on, or from their writing.

    With `keeps_until_archived` (there is a cold tier) no entry expires before `release_day`;
    without, each gets its expiry when it is written. Entries whose JSON has `compress_bytes` or
    more are written compressed, none where it is 0; reading does not depend on it. `clock`
    gives the epoch second at which reads look for what has expired.
    """

    def __init__(
        self,
        client: Any,
        *,
        hot_days: int = HOT_STORAGE_DAYS,
        keeps_until_archived: bool = True,
        compress_bytes: int = HOT_COMPRESS_BYTES,
        address: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = client if isinstance(client, RedisLink) else RedisLink.adopt(client, address)
        self._keeping = Keeping(hot_days, keeps_until_archived)
        self._compress_bytes = compress_bytes or inf
        self._clock = clock
        self._pruner = HotPruner(self._link, self._keeping)
        self._release = HotRelease(self._link, self._keeping, self._pruner)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        hot_days: int = HOT_STORAGE_DAYS,
        keeps_until_archived: bool = True,
        compress_bytes: int = HOT_COMPRESS_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> HotStore:
        """Use the Redis at redis://, rediss:// or unix://; it is first spoken to when used.

        Raises `ValueError` for an address of another form.
        """
        return cls(
            RedisLink.open(url),
            hot_days=hot_days,
            keeps_until_archived=keeps_until_archived,
            compress_bytes=compress_bytes,
            clock=clock,
        )

    @classmethod
    def from_client(
        cls,
        client: Any,
        *,
        hot_days: int = HOT_STORAGE_DAYS,
        keeps_until_archived: bool = True,
        compress_bytes: int = HOT_COMPRESS_BYTES,
    ) -> HotStore:
        """Use a caller's `redis.Redis` (whatever it decodes) or `redis.asyncio.Redis`.

        The caller's client stays open; raises `TypeError` for anything else.
        """
        return cls(
            client,
            hot_days=hot_days,
            keeps_until_archived=keeps_until_archived,
            compress_bytes=compress_bytes,
        )

    @property
    def address(self) -> str:
        """Where this Redis is, without user or password."""
        return self._link.address

    def close(self) -> None:
        """Close the connections that are ours; the next call would open new ones."""
        self._link.close()

    def ping(self) -> None:
        """Return when Redis answers; raises `RedisUnavailableError` or `RedisRefusedError`."""
        self._link.ask([("PING",)])

    def append_batch(self, batch: Sequence[Stamped]) -> None:
        """Write entries with all their indexes in one round trip; in Redis on return.

        Idempotent: after an error, or in doubt, write the same batch again.
        """
        if batch:
            self._send(self._packer([stamped.canonical for stamped in batch]))

    def append_marked(self, batch: Sequence[bytes], after: int) -> int:
        """Write canonical bytes of one writer as `append_batch` does, and move its mark.

        Returns where the mark stood (`hot/mark.py`): before `after`, entries are missing.
        """
        found: int = self._send(self.pack(batch, after))
        return found

    def pack(
        self, batch: Sequence[bytes], after: int, fresh: FreshMessages | None = None
    ) -> BatchPacker:
        """Canonical bytes of one writer as the commands of a batch, the mark with them."""
        return self._packer(batch, after, fresh)

    def open_stream(self) -> RedisStream:
        """A line on which packed batches may be in flight; it connects when used."""
        return RedisStream(self._link)

    def marked(self, writer_id: str) -> int:
        """Up to which number Redis holds every entry of a writer; 0 if it does not know."""
        return mark_of(self._link.ask([("GET", writer_key(writer_id))])[0])

    def _send(self, packer: BatchPacker) -> Any:
        """Write a batch and return the reply to its last command."""
        return self._link.send(packer.parts(), lambda: packer.replies)

    def _packer(
        self,
        batch: Sequence[bytes],
        after: int | None = None,
        fresh: FreshMessages | None = None,
    ) -> BatchPacker:
        return BatchPacker(
            batch,
            self._keeping,
            self._clock(),
            after=after,
            fresh=fresh,
            compress_bytes=self._compress_bytes,
        )

    def page(self, query: Query, limit: int, offset: int) -> Page:
        """Entries that fit, newest first by (timestamp, entry id), and their exact number.

        `query.text` is ignored. An entry whose text was damaged is counted and left out with
        a warning: one bad entry must not hide the others. (`scan` and `find` raise instead.)
        """
        total, entries, gone = self._page(query, limit, offset)
        if gone:
            # Expired since the last look, or evicted: out with them, and look again.
            for day in {day_of(score) for score, _ in gone}:
                self._pruner.prune_day(day, self._clock(), all_of_it=True)
            total, entries, gone = self._page(query, limit, offset)
        return Page(entries, total - len(gone))

    def _page(
        self, query: Query, limit: int, offset: int
    ) -> tuple[int, list[AuditEntry], list[Member]]:
        total, members = self._reader(query).page(limit, offset)
        entries: list[AuditEntry] = []
        gone: list[Member] = []
        for chunk in chunks_of(members, _AT_ONCE):
            found = load_readable(self._link, [entry_id for _, entry_id in chunk])
            for member, read in zip(chunk, found, strict=True):
                if read is None:
                    gone.append(member)
                elif isinstance(read, UnreadableEntryError):
                    _log.warning("%s", read)
                else:
                    entries.append(read)
        return total, entries, gone

    def count(self, query: Query) -> int:
        """The exact number of entries that fit; `query.text` is ignored."""
        return self._reader(query).count()

    def scan(self, query: Query, chunk: int = _AT_ONCE) -> Iterator[list[AuditEntry]]:
        """Every entry that fits, newest first, with at most `chunk` in memory at once.

        Entries written meanwhile may be missing; none comes twice. Raises
        `UnreadableEntryError` at a damaged one: a scan is whole or fails.
        """
        for members in chunks_of(self._reader(query).walk(), chunk):
            found = load(self._link, [entry_id for _, entry_id in members])
            entries = [entry for entry in found if entry is not None]
            if entries:
                yield entries

    def find(self, entry_ids: Sequence[str]) -> dict[str, AuditEntry]:
        """Those of the entries that Redis holds, by id; may raise `UnreadableEntryError`."""
        found: dict[str, AuditEntry] = {}
        for ids in chunks_of(entry_ids, _AT_ONCE):
            entries = load(self._link, [entry_id.encode() for entry_id in ids])
            found |= {e_id: e for e_id, e in zip(ids, entries, strict=True) if e is not None}
        return found

    def existing(self, entry_ids: Collection[str]) -> set[str]:
        """Those of the ids that Redis holds an entry of."""
        held: set[str] = set()
        for ids in chunks_of(entry_ids, _AT_ONCE):
            replies = self._link.ask([("EXISTS", entry_key(entry_id)) for entry_id in ids])
            held |= {entry_id for entry_id, there in zip(ids, replies, strict=True) if there}
        return held

    def days(self) -> dict[date, int]:
        """UTC days that have entries, in order, with their number."""
        names = sorted(self._view().days)
        counts = self._link.ask([("ZCARD", day_key(day)) for day in names])
        return {
            date.fromisoformat(day): count
            for day, count in zip(names, counts, strict=True)
            if count
        }

    def read_day(self, day: date, chunk: int = PAGE) -> Iterator[DayPage]:
        """A UTC day's entries in the order (timestamp, entry id), with the ids of their keys."""
        return read_day(self._link, day.isoformat(), chunk)

    def scan_day(self, day: date, chunk: int = PAGE) -> Iterator[list[bytes]]:
        """Full JSON of a UTC day's entries in the order (timestamp, entry id)."""
        for page in self.read_day(day, chunk):
            yield page.texts

    def count_day(self, day: date) -> int:
        """The number of entries of a UTC day."""
        [count] = self._link.ask([("ZCARD", day_key(day.isoformat()))])
        return int(count)

    def day_ids(self, day: date) -> list[str]:
        """Ids of a UTC day's entries in the order (timestamp, entry id)."""
        members = Members(self._link, Window.of(Span())).walk([day_key(day.isoformat())])
        return [entry_id.decode() for _, entry_id in members][::-1]

    def release_day(
        self,
        day: date,
        archived: int,
        now: datetime,
        verified: Ids | None = None,
    ) -> int:
        """Let the entries of a day go that are in the lake; returns how many were here.

        They expire `hot_days` after the day's end, or go at once if that is past. `archived`
        is the lake's number of the day's entries, `verified` the ids, all of the day, that it
        was verified to hold; it is only counted and walked, so millions need no set. Without
        it all the day's entries are taken to be in the lake, unless they are more than it has:
        then none is released, and the day waits for the next archive.
        """
        if verified is None:
            verified = self.day_ids(day)
            if len(verified) > archived:
                return 0
        return self._release.release(day.isoformat(), archived, verified, now.timestamp())

    def complete_days(self, lake_counts: Mapping[date, int], now: datetime) -> set[date]:
        """Days of which Redis still holds every entry that the lake has, by its counts."""
        return self._release.complete_days(lake_counts, now.timestamp())

    def forget(self, entry_ids: Collection[str]) -> int:
        """Remove entries and their index members at once; returns how many were there."""
        return self._pruner.forget(entry_ids)

    def erase_traces(self) -> bool:
        """Forget agents without entries, and make Redis write its files anew, without what was
        forgotten; False where the server forbids it.

        Takes as long as the server needs to write what it holds. May be repeated.
        """
        self._pruner.forget_agents()
        return rewrite_files(self._link)

    def keep(self, entries: Sequence[AuditEntry]) -> int:
        """Let these entries stay until an archive releases them; returns how many had an
        expiry. Only for what the lake lacks."""
        return keep(self._link, entries)

    def prune(self, now: datetime) -> int:
        """Take expired ids out of all indexes that are due; returns their number."""
        return self._pruner.prune(now.timestamp())

    def figures(self, now: datetime) -> HotFigures:
        """The store's numbers, in one short look whatever its size."""
        days = self.days()
        minute_ago = epoch_us(now) - 60_000_000
        oldest = epoch_us(now) - self._keeping.seconds * 1_000_000
        today, yesterday = day_key(day_of(epoch_us(now))), day_key(day_of(minute_ago))
        agents, crossing, *minute = self._link.ask(
            [
                ("ZCOUNT", AGENTS, oldest, "+inf"),
                ("ZCARD", CROSS_SWARM),
                *(
                    ("ZCOUNT", key, f"({minute_ago}", epoch_us(now))
                    for key in sorted({today, yesterday})
                ),
            ]
        )
        return HotFigures(sum(days.values()), agents, crossing, sum(minute), len(days))

    def server(self) -> ServerFigures:
        """What the server says of its memory; raises as `ping` does."""
        return server_figures(self._link)

    def _reader(self, query: Query) -> HotReader:
        return HotReader(self._link, query, self._view())

    def _view(self) -> View:
        """What Redis holds now, trimmed first if something is due."""
        view = View.take(self._link)
        now = self._clock()
        if view.next_due <= now:
            self._pruner.prune(now)
            view = View.take(self._link)
        return view
