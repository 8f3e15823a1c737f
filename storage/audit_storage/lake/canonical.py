"""The canonical bytes of lake rows, rebuilt from their columns, a whole frame at once.

Verify and purge hash them. They are what `canonical_bytes` of `entries_of` gives, byte for byte,
in a fifth of the time: no entry is made, and the columns are joined outside the interpreter.
"""

from __future__ import annotations

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from audit_storage.lake.schema import WORDS, check_words
from claude_max_audit.entry import ENTRY_FIELDS

_TIMES = ("timestamp", "recorded_at")
_NUMBERS = ("size_bytes", "context_window_size", "writer_seq", "schema_version")
_ESCAPED = [chr(code) for code in range(0x20)] + ['"', "\\"]
_ESCAPES = [msgspec.json.encode(letter)[1:-1].decode() for letter in _ESCAPED]
_NEEDS_ESCAPES = r'["\\\x00-\x1f]'
_PLACE_OF_T = len("2026-01-01")


def canonical_of(rows: pl.DataFrame, prefix: bytes = b"") -> list[bytes]:
    """Return the canonical bytes of each lake row in order, each after `prefix` (ASCII).

    Raises `ValueError` when a closed word is not one that an entry may have.
    """
    for name in WORDS:
        check_words(name, rows.get_column(name))
    rows = rows.select(name for name in ENTRY_FIELDS if name != "entry_hash")
    rows = rows.with_columns(_time_texts(rows.get_column(name)) for name in _TIMES)
    escaped = _columns_to_escape(rows)
    # Fields in their order, empty ones left out: what `AuditEntry` says of its bytes.
    first, *others = rows.columns
    fields = [_field(f'"{first}":', first, escaped)]
    fields += [_field(f',"{name}":', name, escaped) for name in others]
    start, end = pl.lit(prefix.decode("ascii") + "{"), pl.lit("}")
    text = pl.concat_str(start, *fields, end, ignore_nulls=True).cast(pl.Binary)
    return rows.select(text).to_series().to_list()


def _time_texts(moments: pl.Series) -> pl.Series:
    """Times as entries write them (RFC 3339): six decimals, or none on a full second."""
    naive = moments.dt.replace_time_zone(None).to_arrow()
    written = pc.cast(naive, pa.large_string())  # 2026-01-01 10:00:00.000001
    written = pc.binary_replace_slice(written, _PLACE_OF_T, _PLACE_OF_T + 1, "T")
    texts = pl.Series(moments.name, written)
    if (moments.dt.microsecond() == 0).any():
        texts = texts.str.strip_suffix(".000000")
    return texts + "Z"


def _columns_to_escape(rows: pl.DataFrame) -> set[str]:
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    texts = [name for name in texts if name not in (*WORDS, *_TIMES, "metadata")]
    found = rows.select(
        *(pl.col(name).str.contains(_NEEDS_ESCAPES).any() for name in texts),
        pl.col("swarm_ids").list.join("").str.contains(_NEEDS_ESCAPES).any(),
    )
    return {name for name, is_there in found.row(0, named=True).items() if is_there}


def _field(name: str, column: str, escaped: set[str]) -> pl.Expr:
    lead, value = name, pl.col(column)
    if column == "metadata":
        return pl.concat_str(pl.lit(lead), value)  # verbatim, as the entry holds it
    if column in _NUMBERS:
        return pl.concat_str(pl.lit(lead), value.cast(pl.String))
    if column == "swarm_ids":
        each = pl.element().str.replace_many(_ESCAPED, _ESCAPES)
        names = (value.list.eval(each) if column in escaped else value).list.join('","')
        some = pl.concat_str(pl.lit(lead + '["'), names, pl.lit('"]'))
        return pl.when(value.list.len() == 0).then(pl.lit(lead + "[]")).otherwise(some)
    if column in escaped:
        value = value.str.replace_many(_ESCAPED, _ESCAPES)
    return pl.concat_str(pl.lit(lead + '"'), value, pl.lit('"'))
