"""The semantic index: for each month, the vectors of its entries in a Chroma collection.

Called by `index`. Folder layout: `2025-11.<generation>/` holds a Chroma store and the file
`written`, which names the model and changes with every write. Writers of a month hold its
lock alone, readers share it, and whoever sees that another process wrote opens the store
anew. To erase is to build the next generation from what stays, rename it into place, and
remove the old folder whole. Vectors are written by id, so adding twice changes nothing.
"""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from audit_storage.index.chroma_month import ChromaMonth
from audit_storage.index.minilm import Vectors
from audit_storage.index.month import MONTH_PATTERN, MonthDamagedError, month_lock

OPEN_MONTHS: Final = 12
"""Months kept open in a process: each costs some threads, files and its graph in memory."""

_WRITTEN: Final = "written"
_BUILDING: Final = ".building"


class _Open(NamedTuple):
    chroma: ChromaMonth
    written: str


_open_months: OrderedDict[Path, _Open] = OrderedDict()
"""The process's open stores, last used last. Chroma itself has one per folder and process,
so two indexes over one folder share it here too; else neither could open it anew."""

_using: Final = threading.RLock()
"""Held for each call: Chroma answers in milliseconds, and an open store may be closed."""


class SemanticIndex:
    """The months' vectors in `folder`, all made by the model `model`."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model

    def months(self) -> list[str]:
        """Return the months that have vectors, in order."""
        return sorted({path.name.partition(".")[0] for path in self._generations()})

    def add(self, month: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Write the vectors of a month's entries; shape (len(ids), dimension)."""
        with _using, month_lock(self._folder, month):
            self._sweep(month)
            folder = self._latest(month) or self._build(month, self._model, [])
            with self._opened(month, folder) as chroma:
                # The mark changes first: if we stop below, nobody goes on with a store that
                # was opened before, and adding again completes what is half written.
                _open_months[folder] = _Open(chroma, _mark(folder, self._model))
                chroma.upsert(ids, vectors)

    def nearest(
        self, month: str, vector: Vectors, most: int, among: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Return up to `most` (id, cosine) of the month, nearest first; none if it is absent.

        `among` looks at these ids only.
        """
        with self._reading(month) as chroma:
            return chroma.nearest(vector, most, among) if chroma is not None else []

    def held(self, month: str, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that the month has vectors of."""
        with self._reading(month) as chroma:
            return chroma.held(ids) if chroma is not None else set()

    def ids(self, month: str) -> set[str]:
        """Return the ids of all the month's vectors."""
        with self._reading(month) as chroma:
            return chroma.ids() if chroma is not None else set()

    def count(self, month: str) -> int:
        """Return the number of the month's vectors."""
        with self._reading(month) as chroma:
            return chroma.count() if chroma is not None else 0

    def forget(self, month: str, ids: Collection[str]) -> int:
        """Erase these ids' vectors from the disk, without embedding anything again.

        Returns how many there were. A stop before the rename leaves the month as it was;
        one after it leaves the old folder, which the next write of the month removes.
        """
        gone = set(ids)
        with _using, month_lock(self._folder, month):
            self._sweep(month)
            folder = self._latest(month)
            if folder is None:
                return 0
            with self._opened(month, folder, any_model=True) as chroma:
                found = chroma.held(list(gone))
                if not found:
                    return 0
                model = json.loads(_open_months[folder].written)["model"]
                self._build(month, model, _survivors(chroma, gone))
            self._sweep(month)
            return len(found)

    def drop(self, month: str) -> None:
        """Remove the month's vectors, damaged or not."""
        with _using, month_lock(self._folder, month):
            for path in self._folder.glob(f"{month}.*"):
                _remove(path)

    def close(self) -> None:
        """Close this folder's open months; the next call opens what it needs."""
        with _using:
            for path in [path for path in _open_months if path.parent == self._folder]:
                _close(path)

    def _generations(self, month: str = "*") -> list[Path]:
        return sorted(
            path
            for path in self._folder.glob(f"{month}.*")
            if MONTH_PATTERN.fullmatch(path.name.partition(".")[0]) and path.suffix != _BUILDING
        )

    def _latest(self, month: str) -> Path | None:
        return next(reversed(self._generations(month)), None)

    @contextmanager
    def _reading(self, month: str) -> Iterator[ChromaMonth | None]:
        if self._latest(month) is None:
            yield None
            return
        with _using, month_lock(self._folder, month, shared=True):
            folder = self._latest(month)
            if folder is None:  # dropped while we waited
                yield None
                return
            with self._opened(month, folder) as chroma:
                yield chroma

    @contextmanager
    def _opened(
        self, month: str, folder: Path, *, any_model: bool = False
    ) -> Iterator[ChromaMonth]:
        """Give the generation's store, opened anew if somebody wrote it since; locked by us."""
        try:
            written = _read_mark(month, folder, None if any_model else self._model)
            known = _open_months.get(folder)
            if known is None or known.written != written:
                _close(folder)
                _open_months[folder] = _Open(ChromaMonth(folder, month), written)
            _open_months.move_to_end(folder)
            yield _open_months[folder].chroma
        except BaseException:
            _close(folder)
            raise
        while len(_open_months) > OPEN_MONTHS:
            _close(next(iter(_open_months)))

    def _build(
        self, month: str, model: str, pages: Iterable[tuple[Sequence[str], Vectors]]
    ) -> Path:
        """Put the next generation in place, made of `pages`, and return it; locked by us."""
        place = self._folder / f"{month}.{time.time_ns():016x}"
        building = place.with_name(place.name + _BUILDING)
        chroma = ChromaMonth(building, month, create=True)
        try:
            for ids, vectors in pages:
                chroma.upsert(ids, vectors)
        finally:
            chroma.close()
        _mark(building, model)
        building.rename(place)
        return place

    def _sweep(self, month: str) -> None:
        """Remove what an interrupted writer left: unfinished and superseded generations."""
        for path in self._folder.glob(f"{month}.*{_BUILDING}"):
            _remove(path)
        for path in self._generations(month)[:-1]:
            _remove(path)


def _mark(folder: Path, model: str) -> str:
    """Change the folder's mark, at one instant; returns its text."""
    written = json.dumps({"model": model, "write": secrets.token_hex(16)})
    fresh = folder / f"{_WRITTEN}.new"
    fresh.write_text(written)
    fresh.replace(folder / _WRITTEN)
    return written


def _read_mark(month: str, folder: Path, model: str | None) -> str:
    """Return the mark's text; `model` None takes vectors of any model."""
    try:
        written = (folder / _WRITTEN).read_text()
        found = json.loads(written)["model"]
    except (OSError, ValueError, KeyError, TypeError) as damage:
        raise MonthDamagedError(month, damage) from damage
    if model is not None and found != model:
        raise MonthDamagedError(month, f"its vectors are of the model {found!r}")
    return written


def _close(folder: Path) -> None:
    known = _open_months.pop(folder, None)
    if known is not None:
        known.chroma.close()


def _remove(folder: Path) -> None:
    _close(folder)
    shutil.rmtree(folder)


def _survivors(chroma: ChromaMonth, gone: set[str]) -> Iterator[tuple[list[str], Vectors]]:
    for ids, vectors in chroma.pages():
        rows = [row for row, one in enumerate(ids) if one not in gone]
        if rows:
            yield [ids[row] for row in rows], vectors[rows]
