"""One text query at work: it collects, table by table, what fits by words and by meaning.

Made by `index` for each search and used up by it. A table is a month of the index, or the
entries that only Redis holds. Reads only; raises nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

import numpy as np

from audit_storage.index.minilm import Vectors
from audit_storage.index.ranking import Ranked, rank_hits
from audit_storage.index.word_query import WordQuery
from audit_storage.index.word_table import WordMatches, WordTable
from claude_max_audit.entry import epoch_us
from claude_max_audit.query import Span

NEAREST: Final = 200
"""Most entries that are found by some of the words, and most by meaning: past the first
pages nobody reads on, and the total stays a number that means something."""

LEAST_COSINE: Final = 0.28
"""Likeness below which an entry is no hit. On real agent traffic seven of eight entries that
a paraphrase asks for lie above it (median 0.42); the tenth best answer to a question about
nothing in the data lies at 0.25."""

FURTHEST: Final = 3_200
"""Most candidates looked at when a filter lets few of the nearest pass: 20 ms a month."""

_ASKED_AT_ONCE: Final = 5_000
"""Ids given to a filter at once: it may have to fetch each entry."""

Keep = Callable[[Sequence[str]], Collection[str]]
"""Given ids, returns those that a filter lets pass."""

Nearest = Callable[[Vectors, int], list[tuple[str, float]]]
"""Given a vector and a number, returns that many (id, cosine), nearest first."""

_NONE: Final = WordMatches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class TextQuery:
    """The words, the vector (None: words only) and the filter of one search."""

    def __init__(
        self, words: WordQuery, vector: Vectors | None, span: Span, keep: Keep | None
    ) -> None:
        self._words = words
        self._vector = vector
        self._span = span
        self._keep = keep
        self._every: list[WordMatches] = []
        self._some: list[WordMatches] = []
        self._near: list[WordMatches] = []

    def look_at(self, table: WordTable, nearest: Nearest) -> None:
        """Collect one table's matches; tables are numbered in the order of these calls.

        What `nearest` gives and the table does not know has been forgotten, and is no hit.
        """
        every = _NONE
        if self._words.every is not None:
            every = self._kept(table, table.matches(self._words.every, self._span))
        some = self._grown(table, lambda most: self._best(table, most))
        near = self._grown(table, lambda most: self._nearest(table, nearest, most))
        self._every.append(every)
        self._some.append(some)
        self._near.append(near)

    def ranked(self) -> Ranked:
        """Return everything found, best first."""
        return rank_hits(
            self._every,
            _best_of(self._some),
            _best_of(self._near),
            newest_first=self._words.name,
        )

    def _best(self, table: WordTable, most: int) -> WordMatches:
        if self._words.some is None:
            return _NONE
        return table.best(self._words.some, self._span, most)

    def _nearest(self, table: WordTable, nearest: Nearest, most: int) -> WordMatches:
        if self._vector is None:
            return _NONE
        pairs = [pair for pair in nearest(self._vector, most) if pair[1] >= LEAST_COSINE]
        places = table.places_of([entry_id for entry_id, _ in pairs])
        first, last = epoch_us(self._span.start), epoch_us(self._span.end)
        rows = [
            (*places[entry_id], cosine)
            for entry_id, cosine in pairs
            if entry_id in places and first <= places[entry_id][1] <= last
        ]
        found = np.array(rows, dtype="i8,i8,f8")
        return WordMatches(found["f0"], found["f1"], found["f2"])

    def _grown(self, table: WordTable, fetch: Callable[[int], WordMatches]) -> WordMatches:
        """Fetch ever more candidates until enough pass the filter or there are no more."""
        most = NEAREST
        while True:
            found = fetch(most)
            kept = self._kept(table, found)
            if len(kept.numbers) >= NEAREST or len(found.numbers) < most or most >= FURTHEST:
                return kept.of_rows(slice(NEAREST))
            most *= 4

    def _kept(self, table: WordTable, found: WordMatches) -> WordMatches:
        if self._keep is None or not len(found.numbers):
            return found
        passing: list[int] = []
        for start in range(0, len(found.numbers), _ASKED_AT_ONCE):
            ids = table.ids_of(found.numbers[start : start + _ASKED_AT_ONCE].tolist())
            kept = set(self._keep(list(ids.values())))
            passing += [number for number, entry_id in ids.items() if entry_id in kept]
        return found.of_rows(np.isin(found.numbers, np.array(passing, np.int64)))


def _best_of(parts: Sequence[WordMatches]) -> list[WordMatches]:
    """Leave the `NEAREST` most relevant of all tables, each in its table."""
    if not parts:
        return []
    relevance = np.concatenate([part.relevance for part in parts])
    if len(relevance) <= NEAREST:
        return list(parts)
    least = np.partition(relevance, -NEAREST)[-NEAREST]
    return [part.of_rows(part.relevance >= least) for part in parts]
