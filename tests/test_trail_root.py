"""What the archive keeps of a day while it reads: its ids, and the edge of its tree."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from uuid import UUID

import polars as pl
import pytest

from audit_storage.archive.id_list import IdList
from audit_storage.archive.trail_root import TrailRoot, UnorderedError
from audit_storage.lake.schema import to_frame
from audit_storage.merkle import leaf_hash, root_of
from claude_max_audit.entry import AuditEntry


def test_ids_come_back_in_their_order_and_odd_ones_as_they_are() -> None:
    usual = [str(UUID(int=Random(number).getrandbits(128))) for number in range(100)]
    odd = [usual[0].upper(), "nonsense", ""]
    ids = IdList()
    for chunk in (usual[:60], odd, [], usual[60:]):
        ids.add(pl.Series(chunk, dtype=pl.String))
    assert list(ids) == usual + odd
    assert len(ids) == 103


def test_the_root_is_that_of_the_trail_in_either_way(
    make_entry: Callable[..., AuditEntry],
) -> None:
    entries = [make_entry() for _ in range(37)]
    root = root_of(entry.canonical_bytes() for entry in entries)
    assert root_in([entries[:20], entries[20:20], entries[20:]], sorts=False) == root
    shuffled = Random(1).sample(entries, len(entries))
    assert root_in([shuffled[:5], shuffled[5:]], sorts=True) == root
    with pytest.raises(UnorderedError):
        root_in([entries[20:], entries[:20]], sorts=False)
    with pytest.raises(UnorderedError):
        root_in([entries, entries[-1:]], sorts=False)
    assert root_in([], sorts=True) == root_in([], sorts=False) == root_of([])


def root_in(pages: list[list[AuditEntry]], *, sorts: bool) -> bytes:
    trail = TrailRoot(sorts=sorts)
    for entries in pages:
        leaves = [leaf_hash(entry.canonical_bytes()) for entry in entries]
        trail.add(to_frame(entries, "x"), leaves)
    return trail.root()
