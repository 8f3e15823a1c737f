"""Made-up years of swarms, a day at a time, as rows of the lake: the same seed, the same rows.

Called by the benches of the lake. Swarms and their agents come and go over the years, work has
the rhythm of days and weeks, one entry in eight repeats a recent one's content (in the real
trails that this was held against it is one in twelve to one in three), a few repeat standing
phrases over all the years, and one in a thousand is permanent. Contents have 180 characters and
compress like those of real agents. Every row is a true entry: ids, both hashes and citations are
what the library would have made, so `verify` finds nothing; ids and times are the seed's own.
Nothing here is taken from anybody's data. About 60,000 rows/s on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from agent_days import ids_of, phrases, times_of_day
from audit_storage.lake.schema import FILE_SCHEMA
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    SecuritySeverity,
)

CONTENT_CHARACTERS: Final = 180
YEARS_DAYS: Final = 2_557
"""Seven years with their leap days."""

LAST_DAY: Final = date(2025, 12, 31)
PERMANENT: Final = 0.001
REPEATED: Final = 1 / 8
STANDING: Final = 0.005
"""The part of all contents that is one of the standing phrases."""

_STANDING_PHRASES: Final = 500
_SWARMS: Final = 60
_STEADY_SWARMS: Final = 8
"""Swarms that are there from the first day to the last."""

_SWARM_DAYS: Final = 400
"""How long a swarm lives on average."""

_AGENTS: Final = 40
"""Agents that a swarm has in its life."""

_ROLES: Final = ("planner", "worker", "reviewer", "guardian", "researcher", "scribe")
_FIELDS: Final = ("research", "engineering", "operations", "finance", "support", "legal", "data",
                  "web", "security", "design")  # fmt: skip
_WEEK: Final = (1.15, 1.2, 1.2, 1.2, 1.15, 0.6, 0.5)
"""How busy each day from Monday on is; the mean is one."""

_KINDS: Final = tuple(kind.value for kind in AuditEntryType)
_KIND_PARTS: Final = (0.60, 0.22, 0.10, 0.04, 0.04)
_CROSSING: Final = 0.06
"""The part of the messages that goes to another swarm."""

_LATE: Final = 0.05
"""The part of the entries that tells of something earlier than its recording: relays."""


@dataclass(frozen=True)
class SwarmDay:
    """All entries of one UTC day, in the order of their times, as columns of the lake but for
    the snapshot, which the commit names."""

    day: date
    rows: pa.Table

    def of_snapshot(self, snapshot: str) -> pa.Table:
        """Return the rows as they stand in a file of the lake."""
        names = pa.repeat(pa.scalar(snapshot, pa.string()), self.rows.num_rows)
        return self.rows.append_column("snapshot", names).cast(FILE_SCHEMA)

    def lines(self) -> list[bytes]:
        """Return each entry's canonical bytes, as its writer would have sent them."""
        return canonical(_frame(self.rows)).cast(pl.Binary).to_list()


class SwarmYears:
    """`entries` rows over `days` days up to `LAST_DAY`; each day can be made by itself."""

    def __init__(self, entries: int, days: int = YEARS_DAYS, seed: int = 1) -> None:
        self.entries = entries
        self.first_day = LAST_DAY - timedelta(days=days - 1)
        self.days = days
        self._seed = seed
        chance = np.random.default_rng(seed)
        self._settle(chance)
        self._standing = phrases(chance, _STANDING_PHRASES, CONTENT_CHARACTERS)
        weights = np.array([_WEEK[self._date(n).weekday()] for n in range(days)])
        edges = np.rint(np.cumsum(weights) / weights.sum() * entries).astype(np.int64)
        self._sizes = np.diff(edges, prepend=0)
        self._busy = weights

    def each_day(self) -> Iterator[SwarmDay]:
        """Give all days that have entries, oldest first."""
        for number in range(self.days):
            if self._sizes[number]:
                yield self.day(number)

    def day(self, number: int, size: int | None = None) -> SwarmDay:
        """Return the day with this number, from 0 on; `size` is its share unless given."""
        count = int(self._sizes[number]) if size is None else size
        chance = np.random.default_rng((self._seed, number))
        day = self._date(number)
        frame = self._who(chance, number, count)
        frame = frame.with_columns(*_what(chance, frame), *_when(chance, day, count))
        frame = frame.with_columns(self._said(chance, count), *self._writers(frame, number))
        return SwarmDay(day, _sealed(frame, chance))

    def agent_of(self, number: int) -> tuple[str, str]:
        """Return an agent who is at work on a day, neither the busiest nor the laziest, and its
        swarm."""
        there = self._there(number)
        chosen = there[np.argsort(self._activity[there])[len(there) * 3 // 4]]
        return str(self._names[chosen]), str(self._swarm_names[self._swarm_of[chosen]])

    def _date(self, number: int) -> date:
        return self.first_day + timedelta(days=number)

    def _settle(self, chance: np.random.Generator) -> None:
        """Decide which swarms and agents there ever are, and from when to when."""
        joined = chance.integers(-_SWARM_DAYS, self.days, _SWARMS)
        joined[:_STEADY_SWARMS] = 0
        left = joined + 30 + chance.exponential(_SWARM_DAYS, _SWARMS).astype(np.int64)
        left[:_STEADY_SWARMS] = self.days
        self._swarm_names = np.array(
            [f"{_FIELDS[n % len(_FIELDS)]}-{n // len(_FIELDS) + 1}" for n in range(_SWARMS)]
        )
        swarms = np.repeat(np.arange(_SWARMS), _AGENTS)
        life = (left - joined)[swarms]
        come = joined[swarms] + (chance.random(len(swarms)) * life * 0.8).astype(np.int64)
        come[::4] = joined[swarms][::4]  # a fourth is there from its swarm's beginning
        self._from = come
        self._until = np.minimum(
            left[swarms], come + 14 + chance.exponential(life * 0.5).astype(np.int64)
        )
        self._until[::8] = left[swarms][::8]  # and an eighth to its end: no swarm is ever empty
        self._swarm_of = swarms
        self._activity = chance.lognormal(0, 1, len(swarms))
        self._names = np.array(
            [f"{_ROLES[n % len(_ROLES)]}-{n:04d}" for n in chance.permutation(len(swarms))]
        )

    def _there(self, number: int) -> np.ndarray:
        found: np.ndarray = np.flatnonzero((self._from <= number) & (number < self._until))
        return found

    def _who(self, chance: np.random.Generator, number: int, count: int) -> pl.DataFrame:
        """Senders by their activity, and for each someone else of the same or another swarm."""
        there = self._there(number)  # in the order of their swarms
        activity = self._activity[there]
        at = chance.choice(len(there), count, p=activity / activity.sum())
        swarms = self._swarm_of[there]
        starts = np.searchsorted(swarms, swarms)[at]
        sizes = np.searchsorted(swarms, swarms, side="right")[at] - starts
        steps = 1 + (chance.random(count) * np.maximum(sizes - 1, 1)).astype(np.int64)
        near = starts + (at - starts + steps) % sizes
        far = chance.integers(len(there), size=count)
        other = np.where(chance.random(count) < _CROSSING, far, near)
        return pl.DataFrame(
            {
                "agent_id": self._names[there][at],
                "receiver": self._names[there][other],
                "swarm": swarms[at],
                "swarm_id": self._swarm_names[swarms[at]],
                "other_swarm": self._swarm_names[swarms[other]],
            }
        )

    def _said(self, chance: np.random.Generator, count: int) -> pl.Series:
        fresh = phrases(chance, count, CONTENT_CHARACTERS)
        places = np.arange(count)
        again = chance.random(count) < REPEATED
        places = np.where(again, np.maximum(places - chance.integers(1, 30, count), 0), places)
        said = fresh.gather(places)
        standing = self._standing.gather(chance.integers(0, _STANDING_PHRASES, count))
        return said.zip_with(pl.Series(chance.random(count) >= STANDING), standing).alias("content")

    def _writers(self, frame: pl.DataFrame, number: int) -> list[pl.Series]:
        """Every swarm has one writer a day, which numbers its entries from 1."""
        names = [
            sha256(f"{self._seed}/{number}/{swarm}".encode()).hexdigest()[:16]
            for swarm in range(_SWARMS)
        ]
        numbers = frame.select(pl.int_range(1, pl.len() + 1).over("swarm")).to_series()
        writers = pl.Series(names).gather(frame.get_column("swarm"))
        return [writers.alias("writer_id"), numbers.alias("writer_seq")]


def _what(chance: np.random.Generator, frame: pl.DataFrame) -> list[pl.Expr | pl.Series]:
    """The type of each entry, and what its type has beside the content."""
    count = frame.height
    kind = pl.Series("entry_type", np.array(_KINDS)[chance.choice(5, count, p=_KIND_PARTS)])
    numbers = pl.Series(chance.integers(0, 900, count)).cast(pl.String)
    message, access, decision, security, metric = (kind == word for word in _KINDS)
    crossing = message & (frame["swarm_id"] != frame["other_swarm"])
    words = [
        (crossing, pl.lit('{"cross_swarm":true}')),
        (decision, pl.concat_str(pl.lit('{"decision_type":"'),
                                 _one_of(chance, ("approval", "veto", "plan", "handover"), count),
                                 pl.lit('","source_citation":"if://guardian/'), numbers,
                                 pl.lit('"}'))),
        (security, pl.concat_str(pl.lit('{"details":{"attempts":'), numbers.str.head(1),
                                 pl.lit('},"event_type":"'),
                                 _one_of(chance, ("auth_failure", "rate_limit_violation",
                                                  "anomalous_pattern"), count),
                                 pl.lit('"}'))),
        (metric, pl.concat_str(pl.lit('{"metric_type":"latency","unit":"ms","value":'), numbers,
                               pl.lit("}"))),
    ]  # fmt: skip
    metadata = pl.lit("{}")
    for which, text in words:
        metadata = pl.when(which).then(text).otherwise(metadata)
    return [
        kind,
        metadata.alias("metadata"),
        _where(message, pl.col("agent_id"), "from_agent"),
        _where(message, pl.col("receiver"), "to_agent"),
        _where(crossing, pl.col("other_swarm"), "to_swarm"),
        _where(message, _one_of(chance, tuple(MessageType), count), "message_type"),
        _where(access, _one_of(chance, tuple(OperationType), count), "operation"),
        _where(access, pl.concat_str(pl.lit("session-"), pl.col("agent_id"), pl.lit("-"),
                                     numbers.str.head(1)), "session_id"),
        _where(security, _one_of(chance, tuple(SecuritySeverity), count), "severity"),
        pl.Series("size_bytes", np.where(access, chance.integers(1, 200_000, count),
                                         CONTENT_CHARACTERS)),
        _one_of(chance, ("permanent",), count, PERMANENT).fill_null("standard").alias("retention"),
    ]  # fmt: skip


def _where(which: pl.Series, value: pl.Expr | pl.Series, name: str) -> pl.Expr:
    return pl.when(which).then(value).otherwise(None).alias(name)


def _one_of(
    chance: np.random.Generator, words: tuple[str, ...], count: int, part: float = 1.0
) -> pl.Series:
    """One of the words for each row, or for a part of the rows."""
    chosen = pl.Series([str(word) for word in words]).gather(chance.integers(0, len(words), count))
    return chosen.set(pl.Series(chance.random(count) >= part), None)


def _when(chance: np.random.Generator, day: date, count: int) -> list[pl.Series]:
    """When things happened, in order, and when they were recorded: mostly at once."""
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    happened = midnight + times_of_day(chance, count)
    lag = np.where(chance.random(count) < _LATE, chance.integers(2, 4_000_000, count) * 2, 0)
    return [
        pl.Series("timestamp", happened).cast(pl.Datetime("us", "UTC")),
        pl.Series("recorded_at", happened + lag).cast(pl.Datetime("us", "UTC")),
    ]


def _sealed(frame: pl.DataFrame, chance: np.random.Generator) -> pa.Table:
    """Give the entries their ids, citations and hashes, and the lake's columns their order."""
    swarm, to_swarm = pl.col("swarm_id"), pl.col("to_swarm")
    content = frame.get_column("content").cast(pl.Binary).to_list()
    frame = frame.with_columns(
        ids_of(chance, frame.get_column("timestamp")).alias("entry_id"),
        pl.Series("content_hash", [sha256(text).hexdigest() for text in content]),
        pl.when(to_swarm.is_null()).then(pl.concat_list(swarm))
        .otherwise(pl.concat_list(swarm, to_swarm)).alias("swarm_ids"),
        pl.lit(1, pl.Int32).alias("schema_version"),
        pl.lit(None, pl.Int64).alias("context_window_size"),
        pl.lit(None, pl.String).alias("parent_id"),
        pl.col("metadata").str.extract('"event_type":"([^"]*)"').alias("event_type"),
        pl.col("metadata").str.extract('"decision_type":"([^"]*)"').alias("decision_type"),
    )  # fmt: skip
    citation = pl.concat_str(pl.lit("if://audit/"), "entry_type", pl.lit("/"), "entry_id")
    frame = frame.with_columns(citation.alias("citation"))
    hashes = [sha256(line).hexdigest() for line in canonical(frame).cast(pl.Binary).to_list()]
    rows = frame.with_columns(pl.Series("entry_hash", hashes))
    schema = FILE_SCHEMA.remove(FILE_SCHEMA.get_field_index("snapshot"))
    return rows.select(schema.names).to_arrow().cast(schema)


def canonical(rows: pl.DataFrame) -> pl.Series:
    """Return each row's canonical bytes as text. These texts need no escapes, and no time is
    on a full second."""
    swarms = pl.col("swarm_ids").list.join('","')
    parts = [pl.concat_str(pl.lit('{"entry_id":"'), "entry_id", pl.lit('"'))]
    for name in FILE_SCHEMA.names[1 : FILE_SCHEMA.get_field_index("entry_hash")]:
        column = pl.col(name)
        if name in ("timestamp", "recorded_at"):
            parts.append(_field(name, column.dt.strftime('"%Y-%m-%dT%H:%M:%S%.6fZ"')))
        elif name == "swarm_ids":
            parts.append(_field(name, pl.concat_str(pl.lit('["'), swarms, pl.lit('"]'))))
        elif name == "metadata" or not pa.types.is_string(FILE_SCHEMA.field(name).type):
            parts.append(_field(name, column.cast(pl.String)))
        else:
            parts.append(_field(name, pl.concat_str(pl.lit('"'), column, pl.lit('"'))))
    text = pl.concat_str(*parts, pl.lit("}"), ignore_nulls=True)
    return rows.select(text.alias("canonical")).to_series()


def _field(name: str, value: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(f',"{name}":'), value)


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
