"""The words of a set of entries, as SQLite FTS5 keeps them: without the texts themselves.

Used by the word index, one table per month, and in memory for entries that only Redis holds.
Keeps each entry's id and time and, per word, the places where it stands. Adding is
idempotent and one transaction. Forgetting erases and needs no text to do it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from claude_max_audit.entry import epoch_us
from claude_max_audit.query import Span

_CHUNK: Final = 500
"""Values in one statement: below the 999 that every SQLite allows."""

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS entries (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        entry_id TEXT NOT NULL UNIQUE,
        at INTEGER NOT NULL);
    CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
        text, content = '', tokenize = "unicode61 remove_diacritics 2 tokenchars '_'");
"""
"""`at` is microseconds since 1970 UTC. Case and accents do not count; `_` joins words. A row
number is never used again, so that hits being read cannot come to mean another entry."""

_FITTING: Final = (
    "FROM words JOIN entries ON entries.number = words.rowid "
    "WHERE words MATCH ? AND at BETWEEN ? AND ?"
)


class WordRow(NamedTuple):
    """One entry to index: its id, its time in epoch microseconds, its words."""

    entry_id: str
    at: int
    text: str


class WordMatches(NamedTuple):
    """Matches in one table, each array one long: row, time, relevance (more is better)."""

    numbers: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    relevance: npt.NDArray[np.float64]

    def of_rows(self, rows: slice | npt.NDArray[np.bool_]) -> WordMatches:
        """Return the matches in this slice, or where this mask is true."""
        return WordMatches(self.numbers[rows], self.at[rows], self.relevance[rows])


class WordTable:
    """A table over an open connection. Locking and closing are the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def create(self) -> None:
        """Make the tables where they are not there yet."""
        self._db.executescript(_SCHEMA)

    def add(self, rows: Iterable[WordRow]) -> int:
        """Index the rows whose ids are new, all or none; return how many were."""
        added = 0
        with self._db:
            for row in rows:
                done = self._db.execute(
                    "INSERT OR IGNORE INTO entries (entry_id, at) VALUES (?, ?)", row[:2]
                )
                if done.rowcount:
                    place = (done.lastrowid, row.text)
                    self._db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", place)
                    added += 1
        return added

    def matches(self, words: str, span: Span) -> WordMatches:
        """Return every entry of the span that fits the FTS5 expression `words`."""
        return self._fitting(f"SELECT number, at, -bm25(words) {_FITTING}", words, span)

    def best(self, words: str, span: Span, most: int) -> WordMatches:
        """Return the `most` most relevant of `matches`, best first."""
        ordered = f"SELECT number, at, -bm25(words) {_FITTING} ORDER BY bm25(words) LIMIT ?"
        return self._fitting(ordered, words, span, most)

    def ids_of(self, numbers: Sequence[int]) -> dict[int, str]:
        """Return the ids of the entries with these row numbers, as far as they are there."""
        return dict(self._chosen("number, entry_id", "number", numbers))

    def places_of(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return row number and time (epoch microseconds) of those of `ids` that are here."""
        chosen = self._chosen("entry_id, number, at", "entry_id", ids)
        return {entry_id: (number, at) for entry_id, number, at in chosen}

    def ids(self, span: Span = Span(), most: int = -1) -> list[str]:  # noqa: B008 (frozen)
        """Return the ids of all entries of the span, at most `most` of them (-1: all)."""
        select = "SELECT entry_id FROM entries WHERE at BETWEEN ? AND ? LIMIT ?"
        bounds = (epoch_us(span.start), epoch_us(span.end), most)
        return [entry_id for (entry_id,) in self._db.execute(select, bounds)]

    def count(self) -> int:
        """Return the number of entries."""
        number: int = self._db.execute("SELECT count(*) FROM entries").fetchone()[0]
        return number

    def forget(self, ids: Collection[str]) -> int:
        """Erase the entries and their words from the file's bytes; return how many there were.

        The words of an entry are read back from the index itself, then taken out, and what
        remains is written anew. All or nothing up to the rewriting, which a second call
        repeats. Raises `sqlite3.DatabaseError` when a word of theirs would stay.
        """
        gone = {number for number, _ in self.places_of(list(ids)).values()}
        with self._db:
            self._db.execute("CREATE TEMP TABLE gone (number INTEGER PRIMARY KEY)")
            self._db.executemany("INSERT INTO gone VALUES (?)", ((number,) for number in gone))
            self._db.execute(
                "CREATE VIRTUAL TABLE temp.places USING fts5vocab('main', 'words', 'instance')"
            )
            for number, text in list(self._texts_of_gone()):
                self._db.execute(
                    "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (number, text)
                )
            if next(self._texts_of_gone(), None) is not None:
                raise sqlite3.DatabaseError("words of a forgotten entry would remain")
            self._db.execute("DELETE FROM entries WHERE number IN (SELECT number FROM gone)")
            self._db.execute("INSERT INTO words (words) VALUES ('optimize')")
            self._db.execute("DROP TABLE temp.places")
            self._db.execute("DROP TABLE temp.gone")
        self._db.execute("VACUUM")  # until here the freed pages still hold the words
        return len(gone)

    def _texts_of_gone(self) -> Iterator[tuple[int, str]]:
        """Yield row number and words, in their order, of each entry in `gone`."""
        places = self._db.execute(
            "SELECT doc, term FROM temp.places WHERE doc IN (SELECT number FROM gone) "
            "ORDER BY doc, offset"
        )
        for number, terms in groupby(places, key=itemgetter(0)):
            yield number, " ".join(term for _, term in terms)

    def _fitting(self, select: str, words: str, span: Span, *more: int) -> WordMatches:
        bounds = (words, epoch_us(span.start), epoch_us(span.end), *more)
        rows = np.fromiter(self._db.execute(select, bounds), dtype="i8,i8,f8")
        return WordMatches(rows["f0"], rows["f1"], rows["f2"])

    def _chosen(self, columns: str, key: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            yield from self._db.execute(
                f"SELECT {columns} FROM entries WHERE {key} IN ({marks})", chunk
            )
