"""What a text query found: every hit, best first, and what could not be looked at.

Made by `index`; read by the search, which fetches the entries by id. Hits are small until
they are read: a query that fits a million entries costs some bytes for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from audit_storage.index.ranking import Ranked
from audit_storage.index.word_index import WordIndex

FoundBy = Literal["words", "meaning", "both", "some words"]
"""`words`: holds every word that was asked for; `some words`: only some, or other forms."""

_CHUNK: Final = 500
"""Hits whose ids are read at once."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One entry that was found. Scores compare within one answer only."""

    entry_id: str
    score: float
    by: FoundBy


class RowIds:
    """Row numbers to ids: tables are the months that were looked at, then the fresh entries."""

    def __init__(self, words: WordIndex, months: Sequence[str], fresh: dict[int, str]) -> None:
        self._words = words
        self._months = months
        self._fresh = fresh

    def of(self, table: int, numbers: Sequence[int]) -> dict[int, str]:
        """Return the ids of these rows of a table, as far as they are still there."""
        if table == len(self._months):
            return {number: self._fresh[number] for number in numbers}
        with self._words.reading(self._months[table]) as words:
            return words.ids_of(numbers)


class TextMatches:
    """The hits of one query, which may be walked through more than once.

    `total` is the number of hits: all entries that hold every word, exactly, and the
    nearest others by some of the words or by meaning, which are bounded. `missing` names
    months or means that should have been looked at and could not be.
    """

    def __init__(
        self,
        ranked: Ranked,
        ids_of: RowIds,
        missing: Sequence[str],
    ) -> None:
        self._ranked = ranked
        self._ids_of = ids_of
        self.missing = tuple(missing)
        self.total = len(ranked.numbers)

    def __iter__(self) -> Iterator[Hit]:
        """Yield the hits, best first; one that was forgotten meanwhile is left out."""
        for start in range(0, self.total, _CHUNK):
            rows = range(start, min(start + _CHUNK, self.total))
            ids = self._ids(rows)
            for row in rows:
                if row in ids:
                    yield Hit(ids[row], float(self._ranked.score[row]), self._found_by(row))

    def _ids(self, rows: range) -> dict[int, str]:
        """Return the ids of these hits, by their place in the ranking."""
        by_table: dict[int, dict[int, int]] = {}
        for row in rows:
            numbers = by_table.setdefault(int(self._ranked.tables[row]), {})
            numbers[int(self._ranked.numbers[row])] = row
        return {
            numbers[number]: entry_id
            for table, numbers in by_table.items()
            for number, entry_id in self._ids_of.of(table, list(numbers)).items()
        }

    def _found_by(self, row: int) -> FoundBy:
        if self._ranked.by_words[row]:
            return "both" if self._ranked.by_meaning[row] else "words"
        return "meaning" if self._ranked.by_meaning[row] else "some words"
