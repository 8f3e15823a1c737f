"""A batch of entries as the bytes of Redis commands, one command per index, made part by part.

Doing a batch twice, or once more after it was cut anywhere, gives the same keys: every
command sets or adds. The order is part of the contract: first the entries, then their
days, then what finds a day's keys again, then all other indexes, last the writer's mark. So
an id in an index has an entry, an id in any index stands in its day already, which
`hot/prune.py` relies on, and a mark stands behind all that it speaks for. The commands are
packed by hand (RESP, redis.io/docs/reference/protocol-spec), because the same few bytes
of an id and its score go into seven indexes and are made once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from math import inf
from time import perf_counter
from typing import Final, NamedTuple
from zlib import compress

from claude_max_audit.entry import AuditEntry, epoch_us, with_entry_hash
from claude_max_audit.hot.indexed import Indexed, keys_of, read_indexed
from claude_max_audit.hot.keys import (
    AGENTS,
    DAYS,
    KINDS,
    USUAL_KIND_NAMES,
    content_key,
    content_member,
    content_name,
    day_key,
    day_of,
    touched_key,
)
from claude_max_audit.hot.mark import Mark, first_mark

HOLD_SECONDS: Final = 0.001
"""How long packing goes on before a part is handed over to be sent: other threads of the
program, an event loop say, wait for the interpreter no longer than that."""

LONG_HOLD_SECONDS: Final = 0.0025
"""The same while it takes long to get the interpreter back: a program that never waits gives
it up every five milliseconds (`sys.getswitchinterval`), so there are few turns to be had."""

_LONG_WAIT_SECONDS: Final = 0.004

_PIECES_A_LOOK: Final = 16
"""Pieces between two looks at the clock."""

_DAY_SECONDS: Final = 86_400
_KIND_PREFIX: Final = "audit:kind:"


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

    def expiry_of(self, timestamp: datetime, recorded_at: datetime) -> int:
        """Epoch second at which an entry goes that waits for no archive.

        Hot days after it happened or was taken down, whichever is later, rounded down to
        the minute so that the indexes need no more than one trim a minute. An entry dated
        more than a day ahead counts as one day ahead: no date may keep it for ever.
        """
        recorded = epoch_us(recorded_at) // 1_000_000
        happened = epoch_us(timestamp) // 1_000_000
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
        compress_bytes: float = inf,
    ) -> None:
        self.replies = 0
        self.mark: Mark | None = None
        self._batch = batch
        self._keeping = keeping
        self._now = now
        self._after = after
        self._compress_bytes = compress_bytes
        self._members: dict[tuple[str, tuple[str, ...]], list[bytes]] = defaultdict(list)
        self._copies: dict[str, list[bytes]] = defaultdict(list)
        self._agents: dict[str, datetime] = {}
        self._due: dict[str, int] = {}

    def parts(self) -> Iterator[bytes]:
        """The commands' bytes, in their order, each part a moment's work."""
        made: list[bytes] = []
        hold = HOLD_SECONDS
        since = perf_counter()
        for number, piece in enumerate(self._pieces()):
            made.append(piece)
            if number % _PIECES_A_LOOK == 0 and perf_counter() - since > hold:
                sent = perf_counter()
                yield b"".join(made)
                made.clear()
                since = perf_counter()
                hold = LONG_HOLD_SECONDS if since - sent > _LONG_WAIT_SECONDS else HOLD_SECONDS
        if made:
            yield b"".join(made)

    def _pieces(self) -> Iterator[bytes]:
        last: Indexed | None = None
        for canonical in self._batch:
            entry = read_indexed(canonical)
            if last is None and self._after == 0:
                self.replies += 1
                yield _command(*first_mark(entry.writer_id))
            last = entry
            yield self._entry(entry, canonical)
        yield from self._index_commands()
        if self._after is not None and last is not None:
            self.mark = Mark(last.writer_id, self._after, last.writer_seq)
            self.replies += 1
            yield _command(*self.mark.command())

    def _entry(self, entry: Indexed, canonical: bytes) -> bytes:
        """Pack one entry's hash, and note where it is to be indexed."""
        entry_id = entry.entry_id.encode()
        score = epoch_us(entry.timestamp)
        day = day_of(score)
        expiry = b""
        if not self._keeping.until_archived:
            second = self._keeping.expiry_of(entry.timestamp, entry.recorded_at)
            if second <= self._now:
                return b""  # spooled for longer than it would have been kept
            expiry = self._expire_at(entry_id, second)
            self._due[day] = min(second, self._due.get(day, second))
        score_text = b"%d" % score
        self._members[day, keys_of(entry, canonical)].append(
            b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(score_text), score_text, len(entry_id), entry_id)
        )
        content = content_name(entry.content_hash)
        copy = content_member(content, score, entry.entry_id)
        self._copies[content_key(day, content)].append(
            b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(copy), copy)
        )
        recorded = entry.recorded_at
        if recorded >= self._agents.setdefault(entry.agent_id, recorded):
            self._agents[entry.agent_id] = recorded
        text, field = with_entry_hash(canonical), b"json"
        if len(text) >= self._compress_bytes:
            text, field = compress(text, 1), b"zlib"
        self.replies += 1
        return b"*4\r\n$4\r\nHSET\r\n$%d\r\naudit:entry:%b\r\n$4\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            len(entry_id) + 12,
            entry_id,
            field,
            len(text),
            text,
            expiry,
        )

    def _expire_at(self, entry_id: bytes, second: int) -> bytes:
        self.replies += 1
        at = b"%d" % second
        return b"*3\r\n$8\r\nEXPIREAT\r\n$%d\r\naudit:entry:%b\r\n$%d\r\n%b\r\n" % (
            len(entry_id) + 12,
            entry_id,
            len(at),
            at,
        )

    def _index_commands(self) -> Iterator[bytes]:
        days: dict[str, list[bytes]] = defaultdict(list)
        touched: dict[str, set[str]] = defaultdict(set)
        indexes: dict[str, list[bytes]] = defaultdict(list)
        for (day, keys), pairs in self._members.items():
            days[day] += pairs
            touched[day].update(keys)
            for key in keys:
                indexes[key] += pairs
        for day, members in days.items():
            yield from self._add("ZADD", day_key(day), members, 2)
        for day, names in touched.items():
            yield from self._add("SADD", touched_key(day), [_words(key) for key in names], 1)
        if days:
            yield from self._list_days(days)
        yield from self._content_commands()
        for key, members in indexes.items():
            yield from self._add("ZADD", key, members, 2)
        yield from self._list_agents_and_kinds(indexes)

    def _content_commands(self) -> Iterator[bytes]:
        """As `_add` makes them, in less time: there is about one for each entry."""
        for key, copies in self._copies.items():
            name = key.encode()
            yield b"*%d\r\n$4\r\nZADD\r\n$%d\r\n%b\r\n%b" % (
                2 + 2 * len(copies),
                len(name),
                name,
                b"".join(copies),
            )
            self.replies += 1
            if not self._keeping.until_archived:
                yield self._expire(key)

    def _list_days(self, days: Iterable[str]) -> Iterator[bytes]:
        """List the days; a known day keeps its due time unless something is due earlier."""
        if self._keeping.until_archived:
            listed = [_words("+inf", day) for day in days]
            yield from self._add("ZADD", DAYS, listed, 2, "NX")
        else:
            listed = [_words(str(second), day) for day, second in self._due.items()]
            yield from self._add("ZADD", DAYS, listed, 2, "LT")

    def _list_agents_and_kinds(self, keys: Iterable[str]) -> Iterator[bytes]:
        if self._agents:
            seen = [_words(str(epoch_us(at)), agent) for agent, at in self._agents.items()]
            yield from self._add("ZADD", AGENTS, seen, 2, "GT")
            if self._keeping.until_archived:
                yield self._expire(AGENTS)
        kinds = {key[len(_KIND_PREFIX) :] for key in keys if key.startswith(_KIND_PREFIX)}
        unusual = [_words("0", name) for name in sorted(kinds - USUAL_KIND_NAMES)]
        if unusual:
            yield from self._add("ZADD", KINDS, unusual, 2)

    def _add(
        self, name: str, key: str, members: Sequence[bytes], words_each: int, *flags: str
    ) -> Iterator[bytes]:
        """One adding command with members that are packed already, and the key's expiry."""
        count = 2 + len(flags) + words_each * len(members)
        yield b"*%d\r\n%b%b" % (count, _words(name, key, *flags), b"".join(members))
        self.replies += 1
        if not self._keeping.until_archived:
            yield self._expire(key)

    def _expire(self, key: str) -> bytes:
        self.replies += 1
        return _command("EXPIRE", key, str(self._keeping.index_seconds))


def _command(*words: str) -> bytes:
    return b"*%d\r\n%b" % (len(words), _words(*words))


def _words(*words: str) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in map(str.encode, words)])
