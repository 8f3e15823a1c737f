"""Entries that only Redis holds, searched as a month of the index is.

Used by `index`: such entries are in no index yet. Their words are tabled in memory for the
one search; the newest are compared by meaning too, and their vectors are remembered, so that
each is embedded once in a process while it stays among the newest.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import numpy as np

from audit_storage.index.embed_text import meaning_text, words_text
from audit_storage.index.embedder import Embedder
from audit_storage.index.minilm import DIMENSION, Vectors
from audit_storage.index.text_query import TextQuery
from audit_storage.index.word_table import WordRow, WordTable
from claude_max_audit.entry import AuditEntry, epoch_us
from claude_max_audit.settings import HOT_EMBED_ENTRIES

REMEMBERED: Final = 4_096
"""Vectors kept in memory: 6 MB."""


class FreshEntries:
    """Looks through entries outside the index; remembers vectors by id. Thread-safe."""

    def __init__(self, embedder: Embedder | None) -> None:
        self._embedder = embedder
        self._known: OrderedDict[str, Vectors] = OrderedDict()
        self._using = threading.Lock()

    def look_at(self, query: TextQuery, entries: Sequence[AuditEntry]) -> dict[int, str]:
        """Let the query look at `entries`, newest first; return the row numbers it may find.

        By words all are compared, by meaning the first `HOT_EMBED_ENTRIES`.
        """
        with closing(sqlite3.connect(":memory:")) as connection:
            table = WordTable(connection)
            table.create()
            table.add(word_row(entry) for entry in entries)
            query.look_at(
                table, lambda vector, most: self._nearest(entries[:HOT_EMBED_ENTRIES], vector, most)
            )
            return table.ids_of(range(1, table.count() + 1))

    def _nearest(
        self, newest: Sequence[AuditEntry], vector: Vectors, most: int
    ) -> list[tuple[str, float]]:
        cosines = self._vectors_of(newest) @ vector
        order = np.argsort(-cosines, kind="stable")[:most]
        return [(newest[row].entry_id, float(cosines[row])) for row in order]

    def _vectors_of(self, newest: Sequence[AuditEntry]) -> Vectors:
        if self._embedder is None or not newest:
            return np.empty((0, DIMENSION), np.float32)
        with self._using:
            unknown = [entry for entry in newest if entry.entry_id not in self._known]
            made = self._embedder.embed([meaning_text(entry) for entry in unknown])
            for entry, vector in zip(unknown, made, strict=True):
                self._known[entry.entry_id] = vector
            for entry in newest:
                self._known.move_to_end(entry.entry_id)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return np.stack([self._known[entry.entry_id] for entry in newest])


def word_row(entry: AuditEntry) -> WordRow:
    """Return what the word index keeps of an entry."""
    return WordRow(entry.entry_id, epoch_us(entry.timestamp), words_text(entry))
