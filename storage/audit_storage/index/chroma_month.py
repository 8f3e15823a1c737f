"""One month's vectors in one Chroma folder: the only file that speaks to Chroma.

Used by the semantic index, which does the locking: Chroma's local store is not safe across
processes. Measured with 1.5.9: a client keeps its nearest-neighbour graph in memory and
never sees what another process wrote, though `count` does; it must be closed and opened
again. Telemetry is off, no documents and no metadata are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from audit_storage.index.minilm import Vectors
from audit_storage.index.month import MonthDamagedError

COLLECTION_PREFIX: Final = "audit-"
"""A month's collection is `audit-2025-11`."""

_PAGE: Final = 5_000
"""Vectors written or read at once: below Chroma's own bound of 5,461."""


class ChromaMonth:
    """An open collection. Not for use after `close`, nor across a fork.

    Every failure of Chroma's is raised as `MonthDamagedError`.
    """

    def __init__(self, folder: Path, month: str, *, create: bool = False) -> None:
        import chromadb
        from chromadb.config import Settings

        self._month = month
        with self._guarded():
            quiet = Settings(anonymized_telemetry=False)
            # The type that Chroma declares lacks the `close` that the client has.
            self._client = cast(Any, chromadb.PersistentClient(path=str(folder), settings=quiet))
            try:
                self._collection: Any = self._opened(create)
            except BaseException:
                self._client.close()
                raise

    def close(self) -> None:
        """Give back the files and threads of the client."""
        self._client.close()

    def upsert(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Write vectors by id, page by page; writing one again changes nothing."""
        with self._guarded():
            for start in range(0, len(ids), _PAGE):
                page = slice(start, start + _PAGE)
                self._collection.upsert(ids=list(ids[page]), embeddings=vectors[page])

    def nearest(
        self, vector: Vectors, most: int, among: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Return up to `most` (id, cosine) pairs, nearest first; `among` bounds the ids."""
        with self._guarded():
            chosen: dict[str, Any] = {}
            if among is not None:  # an id without a vector would be refused
                chosen["ids"] = self._held(among)
            there = len(chosen["ids"]) if chosen else int(self._collection.count())
            if not there:
                return []
            answer = self._collection.query(
                query_embeddings=vector.reshape(1, -1),
                n_results=most,
                include=["distances"],
                **chosen,
            )
        ids, distances = answer["ids"][0], answer["distances"][0]
        # A lost graph does not fail: it answers with next to nothing.
        if among is None and len(ids) < min(most, there) // 2:
            raise MonthDamagedError(self._month, f"{len(ids)} of {there} vectors can be reached")
        return [(one, 1.0 - float(far)) for one, far in zip(ids, distances, strict=True)]

    def held(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that have a vector here."""
        with self._guarded():
            return set(self._held(ids))

    def pages(self) -> Iterator[tuple[list[str], Vectors]]:
        """Yield all ids with their vectors, some thousands at a time."""
        with self._guarded():
            for start in range(0, int(self._collection.count()), _PAGE):
                page = self._collection.get(include=["embeddings"], limit=_PAGE, offset=start)
                yield page["ids"], np.asarray(page["embeddings"], np.float32)

    def ids(self) -> set[str]:
        """Return the ids of all vectors."""
        with self._guarded():
            found: set[str] = set()
            for start in range(0, int(self._collection.count()), _PAGE):
                found |= set(self._collection.get(include=[], limit=_PAGE, offset=start)["ids"])
            return found

    def count(self) -> int:
        """Return the number of vectors."""
        with self._guarded():
            return int(self._collection.count())

    def _held(self, ids: Sequence[str]) -> list[str]:
        held: list[str] = []
        for start in range(0, len(ids), _PAGE):
            page = list(ids[start : start + _PAGE])
            held += self._collection.get(ids=page, include=[])["ids"]
        return held

    def _opened(self, create: bool) -> Any:
        name = f"{COLLECTION_PREFIX}{self._month}"
        if not create:
            return self._client.get_collection(name, embedding_function=None)
        return self._client.create_collection(
            name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as failure:  # Chroma raises errors of many kinds, none of them ours
            if isinstance(failure, MonthDamagedError):
                raise
            raise MonthDamagedError(self._month, failure) from failure
