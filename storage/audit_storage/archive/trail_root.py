"""The Merkle root of a day, leaf by leaf as the day is read: nothing but the tree's edge is kept.

Redis gives a day in the order of the trail. Only when somebody has changed an entry's time does
the order differ; then the leaves must be kept and sorted, some 100 bytes an entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from audit_storage.lake.schema import TRAIL_ORDER
from audit_storage.merkle import MerkleTree, root_of_hashes


class UnorderedError(Exception):
    """The leaves do not come in the order of the trail: read again, and sort."""


class TrailRoot:
    """Takes leaf hashes in the trail's order; with `sorts`, in any order."""

    def __init__(self, *, sorts: bool) -> None:
        self._tree = MerkleTree()
        self._last: pl.DataFrame | None = None
        self._kept: list[pl.DataFrame] | None = [] if sorts else None

    def add(self, keys: pl.DataFrame, leaves: Sequence[bytes]) -> None:
        """Append leaves with their `TRAIL_ORDER` columns; raises `UnorderedError`."""
        keys = keys.select(TRAIL_ORDER)
        if self._kept is not None:
            self._kept.append(keys.with_columns(pl.Series("leaf", leaves, dtype=pl.Binary)))
            return
        if not _ascends(keys if self._last is None else pl.concat([self._last, keys])):
            raise UnorderedError
        self._last = keys.tail(1) if keys.height else self._last
        self._tree.add_hashes(leaves)

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self._kept:
            return self._tree.root()
        ordered = pl.concat(self._kept).sort(TRAIL_ORDER)
        return root_of_hashes(ordered.get_column("leaf"))


def _ascends(keys: pl.DataFrame) -> bool:
    """Say whether each row comes after the one before it."""
    at, entry_id = (pl.col(name) for name in TRAIL_ORDER)
    same = (at == at.shift()) & (entry_id > entry_id.shift())
    found = keys.select(((at > at.shift()) | same).fill_null(True).all())
    return bool(found.item())
