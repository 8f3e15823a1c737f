"""The index of the trail: finds entries by their words and by what they mean.

A view of the lake, month by month, that can always be rebuilt from it: the archive adds to
it last, the purge takes from it first, the search asks it. A month that cannot be read is
named in the answer, never raised from a search. Thread-safe; not for use across a fork.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from audit_storage.index.embed_text import meaning_text
from audit_storage.index.embedder import Embedder, open_embedder
from audit_storage.index.fresh_entries import FreshEntries, word_row
from audit_storage.index.minilm import Vectors
from audit_storage.index.month import (
    MonthDamagedError,
    MonthUnavailableError,
    month_of,
    months_within,
)
from audit_storage.index.semantic_index import SemanticIndex
from audit_storage.index.text_matches import Hit, RowIds, TextMatches
from audit_storage.index.text_query import Keep, TextQuery
from audit_storage.index.word_index import WordIndex
from audit_storage.index.word_query import parse_words, what_is_meant
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import EmbedderMissingError
from claude_max_audit.query import Span
from claude_max_audit.settings import HOT_EMBED_ENTRIES, Settings

EMBED_AT_ONCE: Final = 1_024
"""Entries embedded between two writes: what a stop loses is a few seconds of work."""

SMALL_SPAN: Final = 20_000
"""Entries of a month among which the nearest are sought exactly when a span cuts the month:
about 50 ms; of more, the month's nearest are sought and those outside the span dropped."""

Progress = Callable[[int, int], None]
"""Told after each write: the entries embedded so far, and how many there are to embed."""

EVER: Final = Span()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)


class EntryIndex:
    """Words and meaning of entries, under the settings' `chroma` folder.

    Without an embedder it works by words alone.
    """

    def __init__(self, settings: Settings, embedder: Embedder | None) -> None:
        self._words = WordIndex(settings.chroma / "words")
        self._embedder = embedder
        self._vectors = SemanticIndex(
            settings.chroma / "vectors", embedder.name if embedder is not None else ""
        )
        self._fresh = FreshEntries(embedder)
        self._no_model: EmbedderMissingError | None = None

    @classmethod
    def open(cls, settings: Settings, progress: Callable[[str], None] | None = None) -> EntryIndex:
        """Open the index with the embedder that the settings choose.

        When its model is not installed, searches go by words and say so in `missing`, and
        `add` indexes the words and then raises `EmbedderMissingError`.
        """
        try:
            return cls(settings, open_embedder(settings, progress))
        except EmbedderMissingError as missing:
            index = cls(settings, None)
            index._no_model = missing
            return index

    def add(self, entries: Iterable[AuditEntry], progress: Progress | None = None) -> int:
        """Index entries by words, then by meaning; return how many were given and are in.

        Durable on return, and idempotent: what is in already is not embedded again. A
        damaged month does not hold up the others; `MonthDamagedError` is raised at the end.
        """
        by_month: dict[str, dict[str, AuditEntry]] = {}
        for entry in entries:
            by_month.setdefault(month_of(entry.timestamp), {})[entry.entry_id] = entry
        damage: MonthDamagedError | None = None
        lacking: list[tuple[str, list[AuditEntry]]] = []
        for month, chosen in by_month.items():
            try:
                self._words.add(month, [word_row(entry) for entry in chosen.values()])
                lacking.append((month, self._without_vectors(month, chosen)))
            except MonthDamagedError as failure:
                damage = failure
        self._embed(lacking, progress)
        if damage is not None:
            raise damage
        return sum(map(len, by_month.values()))

    def search(
        self,
        text: str,
        span: Span = EVER,
        *,
        keep: Keep | None = None,
        fresh: Sequence[AuditEntry] = (),
    ) -> TextMatches:
        """Find entries of the span by words and by meaning, best first.

        `fresh` are entries that the index lacks, newest first (those that only Redis
        holds); they are ranked with the others by the same rules, the first few hundred by
        meaning too. `keep` filters ids before anything is counted. Names, numbers and
        quoted phrases (see `word_query`) are sought as words only, newest first.
        """
        words = parse_words(text)
        missing: list[str] = []
        vector = None if words.name else self._query_vector(text, missing)
        query = TextQuery(words, vector, span, keep)
        months: list[str] = []
        for month in months_within(span, self._words.months()):
            try:
                self._look_at(query, month, span, missing)
                months.append(month)
            except (MonthDamagedError, MonthUnavailableError) as failure:
                missing.append(f"index of {month}: {failure.reason}")
        rows = self._fresh.look_at(query, fresh) if fresh else {}
        if vector is not None and len(fresh) > HOT_EMBED_ENTRIES:
            missing.append(
                f"redis: by meaning only the newest {HOT_EMBED_ENTRIES} of {len(fresh):,} entries "
                "that are not archived yet were compared; all of them were by words"
            )
        return TextMatches(query.ranked(), RowIds(self._words, months, rows), missing)

    def rank_texts(self, text: str, entries: Sequence[AuditEntry]) -> list[Hit]:
        """Return those of `entries` (newest first) that fit, best first, without the index."""
        words = parse_words(text)
        vector = None if words.name else self._query_vector(text, [])
        query = TextQuery(words, vector, EVER, None)
        rows = self._fresh.look_at(query, entries)
        return list(TextMatches(query.ranked(), RowIds(self._words, [], rows), ()))

    def missing(self, month: str, entry_ids: Collection[str]) -> set[str]:
        """Return those of `entry_ids` that the month lacks, by words or by meaning.

        Of a damaged month it lacks all; `drop_month` it before adding them again.
        """
        ids = list(entry_ids)
        try:
            with self._words.reading(month) as table:
                held = set(table.places_of(ids))
            return set(ids) - (held & self._vectors.held(month, ids) if self._embedder else held)
        except MonthDamagedError:
            return set(ids)

    def ids_by_day(self, month: str) -> dict[date, set[str]]:
        """Return the ids that the month holds by words, by UTC day; of a damaged month none."""
        try:
            with self._words.reading(month) as table:
                places = table.places_of(table.ids())
        except MonthDamagedError:
            return {}
        days: dict[date, set[str]] = {}
        for entry_id, (_, at) in places.items():
            day = (_EPOCH + timedelta(microseconds=at)).date()
            days.setdefault(day, set()).add(entry_id)
        return days

    def without_words(self, month: str) -> set[str]:
        """Return the ids of which the month has a vector and no words; of a damaged one none."""
        if self._embedder is None:
            return set()
        try:
            ids = self._vectors.ids(month)
            with self._words.reading(month) as table:
                return ids - set(table.places_of(list(ids)))
        except MonthDamagedError:
            return set()

    def counts(self) -> dict[str, int]:
        """Return for each month how many entries are in by words and by meaning; damaged: 0."""
        months = {*self._words.months(), *(self._vectors.months() if self._embedder else ())}
        return {month: self._count(month) for month in sorted(months)}

    def count(self) -> int:
        """Return the number of entries in the index."""
        return sum(self.counts().values())

    def behind(self, expected: Mapping[str, int]) -> list[str]:
        """Return the months of which the index holds fewer entries than `expected` says."""
        counts = self.counts()
        return sorted(month for month, number in expected.items() if counts.get(month, 0) < number)

    def forget(self, entry_ids: Collection[str], month: str | None = None) -> int:
        """Erase entries from the disk, of one month or whatever month they are in; return how
        many were found.

        Rewrites each month concerned, once a call: give all ids of a month together. A
        month that is damaged goes whole, to be rebuilt from what the lake still has.
        """
        found = 0
        there = {*self._words.months(), *self._vectors.months()}
        for one in there if month is None else there & {month}:
            try:
                self._vectors.forget(one, entry_ids)
                found += self._words.forget(one, entry_ids)
            except MonthDamagedError as damage:
                log.warning("%s; it is dropped, since it may hold what must be erased", damage)
                self.drop_month(one)
        return found

    def drop_month(self, month: str) -> None:
        """Remove a month ("YYYY-MM") from the disk, damaged or not."""
        self._words.drop(month)
        self._vectors.drop(month)

    def close(self) -> None:
        """Close what is open; the next call opens it again."""
        self._vectors.close()

    def _count(self, month: str) -> int:
        try:
            with self._words.reading(month) as table:
                number = table.count()
            return min(number, self._vectors.count(month)) if self._embedder else number
        except MonthDamagedError:
            return 0

    def _without_vectors(
        self, month: str, chosen: Mapping[str, AuditEntry]
    ) -> list[AuditEntry]:
        if self._embedder is None:
            return []
        held = self._vectors.held(month, list(chosen))
        return [entry for entry_id, entry in chosen.items() if entry_id not in held]

    def _embed(
        self, lacking: Sequence[tuple[str, list[AuditEntry]]], progress: Progress | None
    ) -> None:
        if self._no_model is not None:
            raise self._no_model
        if self._embedder is None:
            return
        done, total = 0, sum(len(entries) for _, entries in lacking)
        for month, entries in lacking:
            # By length, so that little is padded, and equal texts meet and are embedded once.
            texts = sorted(_measured(entry) for entry in entries)
            for start in range(0, len(texts), EMBED_AT_ONCE):
                block = texts[start : start + EMBED_AT_ONCE]
                vectors = self._embedder.embed([text for _, text, _ in block])
                self._vectors.add(month, [entry_id for _, _, entry_id in block], vectors)
                done += len(block)
                if progress is not None:
                    progress(done, total)

    def _query_vector(self, text: str, missing: list[str]) -> Vectors | None:
        try:
            if self._no_model is not None:
                raise self._no_model
            if self._embedder is None:
                return None
            vector: Vectors = self._embedder.embed([what_is_meant(text)])[0]
            return vector
        except EmbedderMissingError as no_model:
            missing.append(f"search by meaning: {no_model}")
            return None

    def _look_at(self, query: TextQuery, month: str, span: Span, missing: list[str]) -> None:
        with self._words.reading(month) as table:
            among: list[str] | None = None
            if month in (month_of(span.start), month_of(span.end)):
                among = table.ids(span, SMALL_SPAN + 1)
                among = among if len(among) <= SMALL_SPAN else None

            def nearest(vector: Vectors, most: int) -> list[tuple[str, float]]:
                try:
                    return self._vectors.nearest(month, vector, most, among)
                except MonthDamagedError as damage:  # its words still answer
                    missing.append(f"meaning in {month}: {damage.reason}")
                    return []

            query.look_at(table, nearest)


def _measured(entry: AuditEntry) -> tuple[int, str, str]:
    text = meaning_text(entry)
    return len(text), text, entry.entry_id
