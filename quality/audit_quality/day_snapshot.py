"""One archived day, made ready for checking: what is stored beside what should be stored.

A snapshot has one row per entry and only the columns that a check reads, all of them text.
Hashes and citations are recomputed here from the row's own columns; whether they agree is for
`expectations` to say. Contents are hashed chunk by chunk and not kept, so a day of a million
entries needs no more memory than its ids and hashes. Reads no store and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import polars as pl

from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.schema import to_frame
from claude_max_audit.citation import CITATION_PREFIX
from claude_max_audit.entry import content_hash_of, entry_hash_of
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

REQUIRED_FIELDS: tuple[str, ...] = (
    "entry_id",
    "timestamp",
    "entry_type",
    "agent_id",
    "swarm_id",
    "swarm_ids",
    "content_hash",
    "size_bytes",
    "metadata",
    "citation",
    "retention",
    "recorded_at",
    "writer_id",
    "writer_seq",
    "schema_version",
    "entry_hash",
)
"""Fields that every entry has; the others depend on what happened."""

CLOSED_WORDS: dict[str, type[StrEnum]] = {
    "entry_type": AuditEntryType,
    "message_type": MessageType,
    "operation": OperationType,
    "severity": SecuritySeverity,
    "retention": Retention,
}
"""Columns whose values come from a closed list; null where the entry has none."""

NOT_REBUILT = "(cannot be rebuilt)"
"""Stands for a recomputed value where the row lacks what it is made of."""

_STORED = ("entry_id", "entry_hash", "content_hash", "citation")


def snapshot_of(chunks: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the snapshot of a day from frames of `schema.FILE_SCHEMA`, in the rows' order.

    Columns: `entry_id`, `entry_hash`, `content_hash` and `citation` as stored (empty text where
    missing), the last three also recomputed as `expected_...`; the closed words as stored;
    `day`, the UTC date of the timestamp in ISO form; `missing_fields`, names joined by commas
    or empty; `has_content`, yes or no.
    """
    parts = [_snapshot_of_chunk(rows) for rows in chunks]
    return pl.concat(parts) if parts else _snapshot_of_chunk(to_frame([], ""))


def _snapshot_of_chunk(rows: pl.DataFrame) -> pl.DataFrame:
    missing = rows.select(_missing_fields()).to_series()
    return rows.select(
        *(pl.col(name).fill_null("") for name in _STORED),
        *(pl.col(name) for name in CLOSED_WORDS),
        _expected_citation(),
        pl.col("timestamp").dt.strftime("%Y-%m-%d").fill_null("").alias("day"),
        pl.when(pl.col("content").is_null())
        .then(pl.lit("no"))
        .otherwise(pl.lit("yes"))
        .alias("has_content"),
        missing,
        _expected_content_hashes(rows),
        _expected_entry_hashes(rows, missing),
    )


def _missing_fields() -> pl.Expr:
    names = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in REQUIRED_FIELDS]
    return pl.concat_str(*names, separator=", ", ignore_nulls=True).alias("missing_fields")


def _expected_citation() -> pl.Expr:
    """The form is the customer's: if://audit/{entry_type}/{entry_id}."""
    parts = (pl.lit(CITATION_PREFIX), pl.col("entry_type"), pl.lit("/"), pl.col("entry_id"))
    return pl.concat_str(*parts).fill_null(NOT_REBUILT).alias("expected_citation")


def _expected_content_hashes(rows: pl.DataFrame) -> pl.Series:
    hashes = [
        NOT_REBUILT
        if content is None and metadata is None
        else content_hash_of(content, (metadata or "").encode())
        for content, metadata in rows.select("content", "metadata").iter_rows()
    ]
    return pl.Series("expected_content_hash", hashes, dtype=pl.String)


def _expected_entry_hashes(rows: pl.DataFrame, missing: pl.Series) -> pl.Series:
    """Hash the canonical bytes of every row that is whole; the others have none."""
    known_words = rows.select(
        pl.all_horizontal(
            pl.col(name).is_null() | pl.col(name).is_in([word.value for word in words])
            for name, words in CLOSED_WORDS.items()
        )
    ).to_series()
    whole = (missing == "") & known_words
    hashes = iter([entry_hash_of(canonical) for canonical in canonical_of(rows.filter(whole))])
    found = [next(hashes) if rebuilt else NOT_REBUILT for rebuilt in whole]
    return pl.Series("expected_entry_hash", found, dtype=pl.String)
