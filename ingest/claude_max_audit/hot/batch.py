"""A batch of entries as the bytes of Redis commands, one command per index, made part by part.

Doing a batch twice, or once more after it was cut anywhere, gives the same keys: every
command sets or adds. The order is part of the contract: first the entries, then their
days, then what finds a day's keys again, then all other indexes, last the writer's mark. So
an id in an index has an entry, an id in any index stands in its day already, which
`hot/prune.py` relies on, and a mark stands behind all that it speaks for. The commands are
packed by hand (`hot/resp.py`), because the same few bytes of an id and its score go into seven
indexes and are made once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import inf
from time import perf_counter
from typing import Final, NamedTuple
from zlib import compress

from claude_max_audit.entry import AuditEntry, entry_hash_field
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.hot.indexed import places_of, read_indexed
from claude_max_audit.hot.keys import (
    AGENTS,
    DAYS,
    KINDS,
    USUAL_KIND_NAMES,
    content_part,
    content_part_key,
    day_key,
    day_of,
    packed_moment,
    touched_key,
)
from claude_max_audit.hot.mark import Mark, first_mark
from claude_max_audit.hot.resp import bulk, command

HOLD_SECONDS: Final = 0.001
"""How long packing goes on before a part is handed over to be sent: other threads of the
program, an event loop say, wait for the interpreter no longer than that."""

LONG_HOLD_SECONDS: Final = 0.0025
"""The same while it takes long to get the interpreter back: a program that never waits gives
it up every five milliseconds (`sys.getswitchinterval`), so there are few turns to be had."""

_LONG_WAIT_SECONDS: Final = 0.004

_PIECES_A_STEP: Final = 64
"""Pieces of bytes between two looks at the clock: of a dozen entries or twenty commands."""

_DAY_SECONDS: Final = 86_400
_KIND_PREFIX: Final = "audit:kind:"


Pieces = Sequence[bytes]
"""Bytes that follow each other on the line."""


class DayBatch:
    """What a batch adds to the indexes of one UTC day, packed as far as all of them share it."""

    def __init__(self) -> None:
        self.members: dict[tuple[str, ...], list[bytes]] = defaultdict(list)
        """Score and id, by the index keys that they go into."""
        self.copies: dict[int, list[bytes]] = defaultdict(list)
        """Members for the parts of the day's contents."""
        self.due: int | None = None
        """Epoch second at which the first of the entries expires."""

    def expires(self, second: int) -> None:
        """Note when an entry of this day expires."""
        self.due = second if self.due is None else min(second, self.due)


class Stamped(NamedTuple):
    """An entry and its canonical bytes, as they were encoded once at the source."""

    entry: AuditEntry
    canonical: bytes


class Keeping(NamedTuple):
    """How long entries stay: `hot_days`, counted from the archive or from the first write."""

    hot_days: int
    until_archived: bool

    @property
    def seconds(self) -> int:
        """The hot days in seconds."""
        return self.hot_days * _DAY_SECONDS

    def expiry_of(self, happened_us: int, recorded_us: int) -> int:
        """Epoch second at which an entry goes that waits for no archive.

        Hot days after it happened or was taken down, whichever is later, rounded down to
        the minute so that the indexes need no more than one trim a minute. An entry dated
        more than a day ahead counts as one day ahead: no date may keep it for ever.
        """
        recorded, happened = recorded_us // 1_000_000, happened_us // 1_000_000
        latest = min(max(happened, recorded), recorded + _DAY_SECONDS)
        return (latest + self.seconds) // 60 * 60

    @property
    def index_seconds(self) -> int:
        """How long an index that nobody writes or trims stays: longer than any entry of it."""
        return self.seconds + 2 * _DAY_SECONDS


class BatchPacker:
    """Packs one batch of canonical bytes. Once all `parts` were taken, `replies` counts the
    commands. Given `after` (see `Mark`), the last of them moves the mark as `mark` says."""

    def __init__(
        self,
        batch: Sequence[bytes],
        keeping: Keeping,
        now: float,
        *,
        after: int | None = None,
        fresh: FreshMessages | None = None,
        compress_bytes: float = inf,
    ) -> None:
        """Pack canonical bytes of one writer; `fresh` may know some of them."""
        self.replies = 0
        self.mark: Mark | None = None
        self._batch = batch
        self._keeping = keeping
        self._now = now
        self._after = after
        self._fresh = fresh
        self._compress_bytes = compress_bytes
        self._days: dict[str, DayBatch] = defaultdict(DayBatch)
        self._agents: dict[str, int] = {}
        self._last_seq = 0

    def parts(self) -> Iterator[bytes]:
        """The commands' bytes, in their order, each part a moment's work."""
        made: list[bytes] = []
        hold = HOLD_SECONDS
        since = perf_counter()
        for step in self._steps():
            made += step
            if perf_counter() - since > hold:
                sent = perf_counter()
                yield b"".join(made)
                made.clear()
                since = perf_counter()
                hold = LONG_HOLD_SECONDS if since - sent > _LONG_WAIT_SECONDS else HOLD_SECONDS
        if made:
            yield b"".join(made)

    def _steps(self) -> Iterator[Pieces]:
        if not self._batch:
            return
        writer_id = read_indexed(self._batch[0]).writer_id
        if self._after == 0:
            yield self._command(*first_mark(writer_id))
        yield from self._entries()
        pieces = chain.from_iterable(self._index_commands())
        while step := list(islice(pieces, _PIECES_A_STEP)):
            yield step
        if self._after is not None:
            self.mark = Mark(writer_id, self._after, self._last_seq)
            yield self._command(*self.mark.command())

    def _entries(self) -> Iterator[Pieces]:
        """Pack the entries' hashes, and note where they are to be indexed.

        One loop with few calls: it runs for every entry, and each call would lengthen it.
        """
        step: list[bytes] = []
        waits, days, agents = self._keeping.until_archived, self._days, self._agents
        for canonical, place in zip(
            self._batch, places_of(self._batch, self._fresh), strict=True
        ):
            entry_id, score, recorded_us, keys, content, agent_id, self._last_seq = place
            day = days[day_of(score)]
            expiry = b""
            if not waits:
                second = self._keeping.expiry_of(score, recorded_us)
                if second <= self._now:
                    continue  # spooled for longer than it would have been kept
                expiry = self._expire_at(entry_id, second)
                day.expires(second)
            size, score_text = len(entry_id), b"%d" % score
            day.members[keys].append(
                b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(score_text), score_text, size, entry_id)
            )
            copy = content + packed_moment(score) + entry_id
            day.copies[content_part(content)].append(
                b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(copy), copy)
            )
            if recorded_us >= agents.get(agent_id, recorded_us):
                agents[agent_id] = recorded_us
            field, text, end = self._text(canonical)
            step += (
                b"*4\r\n$4\r\nHSET\r\n$%d\r\naudit:entry:%b\r\n$4\r\n%b\r\n$%d\r\n"
                % (size + 12, entry_id, field, len(text) + len(end)),
                text,
                end,
                b"\r\n",
                expiry,
            )
            self.replies += 1
            if len(step) >= _PIECES_A_STEP:
                yield step
                step = []
        yield step

    def _text(self, canonical: bytes) -> tuple[bytes, bytes, bytes]:
        """The field of the entry's hash, and its value in two pieces."""
        text, end = canonical[:-1], entry_hash_field(canonical)
        if len(text) + len(end) < self._compress_bytes:
            return b"json", text, end
        return b"zlib", compress(text + end, 1), b""

    def _expire_at(self, entry_id: bytes, second: int) -> bytes:
        self.replies += 1
        at = b"%d" % second
        return b"*3\r\n$8\r\nEXPIREAT\r\n$%d\r\naudit:entry:%b\r\n$%d\r\n%b\r\n" % (
            len(entry_id) + 12,
            entry_id,
            len(at),
            at,
        )

    def _index_commands(self) -> Iterator[Pieces]:
        days = {name: day for name, day in self._days.items() if day.members}
        indexes: dict[str, list[bytes]] = defaultdict(list)
        for day in days.values():
            for keys, members in day.members.items():
                for key in keys:
                    indexes[key] += members
        for name, day in days.items():
            yield self._add("ZADD", day_key(name), list(chain(*day.members.values())), 2)
        for name, day in days.items():
            touched = {key for keys in day.members for key in keys}
            yield self._add("SADD", touched_key(name), [bulk(key) for key in touched], 1)
        if days:
            yield self._list_days(days)
        for name, day in days.items():
            yield from self._content_commands(name, day)
        for key, members in indexes.items():
            yield self._add("ZADD", key, members, 2)
        yield from self._list_agents_and_kinds(indexes)

    def _content_commands(self, name: str, day: DayBatch) -> Iterator[Pieces]:
        """As `_add` makes them, in less time: there is about one for each entry."""
        for part, copies in day.copies.items():
            key = content_part_key(name, part)
            start = f"*{2 + 2 * len(copies)}\r\n$4\r\nZADD\r\n${len(key)}\r\n{key}\r\n".encode()
            self.replies += 1
            if self._keeping.until_archived:
                yield (start, *copies)
            else:
                yield (start, *copies, *self._expire(key))

    def _list_days(self, days: Mapping[str, DayBatch]) -> Pieces:
        """List the days; a known day keeps its due time unless something is due earlier."""
        if self._keeping.until_archived:
            return self._add("ZADD", DAYS, [bulk("+inf", name) for name in days], 2, "NX")
        listed = [bulk(str(day.due), name) for name, day in days.items()]
        return self._add("ZADD", DAYS, listed, 2, "LT")

    def _list_agents_and_kinds(self, keys: Iterable[str]) -> Iterator[Pieces]:
        if self._agents:
            seen = [bulk(str(at), agent) for agent, at in self._agents.items()]
            yield self._add("ZADD", AGENTS, seen, 2, "GT")
            if self._keeping.until_archived:
                yield self._expire(AGENTS)
        kinds = {key[len(_KIND_PREFIX) :] for key in keys if key.startswith(_KIND_PREFIX)}
        unusual = [bulk("0", name) for name in sorted(kinds - USUAL_KIND_NAMES)]
        if unusual:
            yield self._add("ZADD", KINDS, unusual, 2)

    def _add(
        self, name: str, key: str, members: Sequence[bytes], words_each: int, *flags: str
    ) -> Pieces:
        """One adding command with members that are packed already, and the key's expiry."""
        self.replies += 1
        count = 2 + len(flags) + words_each * len(members)
        start = b"*%d\r\n%b" % (count, bulk(name, key, *flags))
        if self._keeping.until_archived:
            return (start, *members)
        return (start, *members, *self._expire(key))

    def _expire(self, key: str) -> Pieces:
        return self._command("EXPIRE", key, str(self._keeping.index_seconds))

    def _command(self, *words: str) -> Pieces:
        self.replies += 1
        return (command(*words),)
