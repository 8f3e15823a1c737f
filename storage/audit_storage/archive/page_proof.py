"""Checks a page of stored entries all at once, in columns, and gives them as rows of the lake.

A page passes only when its columns, written out as an entry writes itself, are the very bytes
that Redis holds, and everything that `inspect` asks of one entry holds for all of them. A page
that does not pass is not called bad here: the archive then looks at its entries one by one.
Pure; most of it runs outside the interpreter's lock, so that pages are checked side by side.
"""

from __future__ import annotations

from datetime import date
from hashlib import sha256

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from audit_storage.archive.id_list import USUAL_ID
from audit_storage.lake.canonical import canonical_column
from audit_storage.lake.schema import FILE_SCHEMA, metadata_words
from audit_storage.layout import span_of_day
from audit_storage.merkle import leaf_hash
from claude_max_audit.citation import CITATION_PREFIX
from claude_max_audit.entry import ENTRY_FIELDS, AuditEntry
from claude_max_audit.hot.day_reader import DayPage

_TIMES = ("timestamp", "recorded_at")
_KINDS = {pa.int64(): pl.Int64(), pa.int32(): pl.Int32()}
_PARSED = pl.Struct(
    {
        name: pl.List(pl.String) if name == "swarm_ids" else _KINDS.get(kind, pl.String())
        for name, kind in zip(FILE_SCHEMA.names, FILE_SCHEMA.types, strict=True)
        if name in ENTRY_FIELDS and name != "metadata"
    }
)
"""What is read of the JSON. The metadata is cut out as it stands; times are read as texts."""

_NUMBERS = [name for name, kind in _PARSED.to_schema().items() if kind.is_integer()]
_REQUIRED = [
    field.encode_name for field in msgspec.structs.fields(AuditEntry) if field.required
] + ["entry_hash"]
_METADATA = msgspec.json.Decoder(dict)
_BEFORE_METADATA = ',"metadata":'


class _UnprovenError(ValueError):
    """Something of the page does not hold for all of its entries."""


def prove_page(page: DayPage, day: date, snapshot: str) -> tuple[pa.Table, list[bytes]] | None:
    """Return rows of `FILE_SCHEMA` and the leaf hash of each, or None if one is in doubt."""
    try:
        rows = _parsed(pl.Series("text", page.texts, dtype=pl.Binary))
        canonical = _proven(rows, page, day)
    except (ValueError, pl.exceptions.PolarsError):
        return None
    return _table(rows, snapshot), list(map(leaf_hash, canonical))


def _parsed(texts: pl.Series) -> pl.DataFrame:
    """Read the columns, in schema order; raises `ValueError` or a Polars error."""
    json = texts.cast(pl.String)
    rows = json.str.json_decode(_PARSED).struct.unnest()
    times = (_moments(rows.get_column(name)) for name in _TIMES)
    return rows.with_columns(*times, _metadata(json, rows)).select(ENTRY_FIELDS)


def _moments(texts: pl.Series) -> pl.Series:
    moments = pc.cast(texts.to_arrow().cast(pa.string()), pa.timestamp("us", tz="UTC"))
    return pl.Series(texts.name, moments)


def _metadata(json: pl.Series, rows: pl.DataFrame) -> pl.Series:
    """Cut out the metadata. No text within an entry spells what stands before it, for quotes
    within a text are escaped; what stands after it bears the entry's own id."""
    after = pl.concat_str(pl.lit(',"citation":"'), "citation", pl.lit('","retention":"'))
    text = pl.col("text")
    start = text.str.find(_BEFORE_METADATA, literal=True) + len(_BEFORE_METADATA)
    cut = text.cast(pl.Binary).bin.slice(start, text.str.find(after, literal=True) - start)
    found = rows.with_columns(json).select(cut.cast(pl.String).alias("metadata"))
    return found.to_series()


def _proven(rows: pl.DataFrame, page: DayPage, day: date) -> list[bytes]:
    """Return the canonical bytes of each row, when nothing is wrong with any of them."""
    if sum(rows.select(_REQUIRED).null_count().row(0)):
        raise _UnprovenError
    canonical = canonical_column(rows)
    _check(rows, canonical, page, day)
    written = canonical.to_list()
    if [sha256(text).hexdigest() for text in written] != rows.get_column("entry_hash").to_list():
        raise _UnprovenError
    metadata = rows.get_column("metadata")
    contents = rows.get_column("content").fill_null(metadata).cast(pl.Binary).to_list()
    if [sha256(text).hexdigest() for text in contents] != rows.get_column("content_hash").to_list():
        raise _UnprovenError
    for text in metadata.filter(metadata != "{}").to_list():
        _METADATA.decode(text)
    return written


def _check(rows: pl.DataFrame, canonical: pl.Series, page: DayPage, day: date) -> None:
    """Compare bytes, ids, citations, times and numbers; raises `ValueError`."""
    span = span_of_day(day)
    stored = pl.Series("stored", page.texts, dtype=pl.Binary)
    held = pl.Series("held", page.entry_ids, dtype=pl.Binary)
    frame = rows.with_columns(canonical.alias("canonical"), stored, held)
    body = pl.col("canonical").cast(pl.String).str.strip_suffix("}")
    hashed = pl.concat_str(body, pl.lit(',"entry_hash":"'), "entry_hash", pl.lit('"}'))
    entry_id = pl.col("entry_id")
    citation = pl.concat_str(pl.lit(CITATION_PREFIX), "entry_type", pl.lit("/"), entry_id)
    holds = frame.select(
        (hashed.cast(pl.Binary) == pl.col("stored")).all().alias("bytes"),
        (entry_id.cast(pl.Binary) == pl.col("held")).all().alias("key"),
        entry_id.str.contains(USUAL_ID).all().alias("id"),
        (citation == pl.col("citation")).all().alias("citation"),
        pl.col("timestamp").is_between(span.start, span.end).all().alias("day"),
        *((pl.col(name) >= 0).all().alias(name) for name in _NUMBERS),
    )
    if not all(holds.row(0)):
        raise _UnprovenError


def _table(rows: pl.DataFrame, snapshot: str) -> pa.Table:
    table = rows.to_arrow()
    texts = table.column("metadata").combine_chunks().cast(pa.string())
    columns = [*table.columns, *metadata_words(texts)]
    columns.append(pa.repeat(pa.scalar(snapshot, pa.string()), rows.height))
    return pa.Table.from_arrays(columns, names=FILE_SCHEMA.names).cast(FILE_SCHEMA)
