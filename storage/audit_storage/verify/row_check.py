"""Holds each row of the lake against its own hashes: everything is computed anew from its bytes.

`verify` calls it frame by frame. It mends nothing and trusts no column that another could prove.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from audit_storage.lake.schema import METADATA_WORDS, entries_of
from audit_storage.merkle import leaf_hash
from audit_storage.verify.findings import Findings
from claude_max_audit.entry import AuditEntry, content_hash_of, entry_hash_of

LEAF_COLUMNS: tuple[str, ...] = ("timestamp", "entry_id", "snapshot", "leaf")
"""What is left of a row once it is checked: its place in the trail, its commit, its leaf hash."""


def check_rows(rows: pl.DataFrame, findings: Findings) -> pl.DataFrame:
    """Check every row; returns `LEAF_COLUMNS` of those that are entries at all, in order."""
    rows, entries = _readable(rows, findings)
    words = [rows.get_column(key).to_list() for key in METADATA_WORDS]
    snapshots = rows.get_column("snapshot").to_list()
    leaves = []
    for entry, snapshot, *stored in zip(entries, snapshots, *words, strict=True):
        canonical = entry.canonical_bytes()
        leaves.append(leaf_hash(canonical))
        for kind, detail in _misfits(entry, canonical, stored):
            findings.add(kind, f"{entry.day}, commit {snapshot}", detail, entry.entry_id)
    return rows.select(
        "timestamp", "entry_id", "snapshot", pl.Series("leaf", leaves, dtype=pl.Binary)
    )


def _misfits(entry: AuditEntry, canonical: bytes, stored: list[Any]) -> list[tuple[str, str]]:
    found = []
    computed = entry_hash_of(canonical)
    if computed != entry.entry_hash:
        found.append(("entry_hash", f"stored {entry.entry_hash}, computed {computed}"))
    computed = content_hash_of(entry.content, bytes(entry.metadata_json))
    if computed != entry.content_hash:
        found.append(("content_hash", f"stored {entry.content_hash}, computed {computed}"))
    citation = f"if://audit/{entry.entry_type}/{entry.entry_id}"
    if citation != entry.citation:
        found.append(("citation", f"stored {entry.citation}, should be {citation}"))
    for key, column, word in zip(METADATA_WORDS, stored, _words(entry), strict=True):
        if column != word:
            found.append(("derived_column", f"{key} is {column!r}, the metadata says {word!r}"))
    return found


def _words(entry: AuditEntry) -> list[str | None]:
    try:
        metadata = entry.metadata
        words = [metadata.get(key) for key in METADATA_WORDS]
    except (ValueError, AttributeError):  # no JSON object; entry_hash tells of it
        return [None] * len(METADATA_WORDS)
    return [word if isinstance(word, str) else None for word in words]


def _readable(
    rows: pl.DataFrame, findings: Findings
) -> tuple[pl.DataFrame, list[AuditEntry]]:
    """Return the rows that are entries, with them; row by row only where one is not."""
    try:
        return rows, entries_of(rows)
    except (ValueError, TypeError, AttributeError):
        pass
    kept: list[int] = []
    entries: list[AuditEntry] = []
    for at in range(rows.height):
        row = rows.slice(at, 1)
        try:
            entries += entries_of(row)
        except (ValueError, TypeError, AttributeError) as unreadable:
            where = f"{row.item(0, 'timestamp')}, commit {row.item(0, 'snapshot')}"
            findings.add("unreadable_row", where, str(unreadable), row.item(0, "entry_id"))
        else:
            kept.append(at)
    return rows[kept], entries
