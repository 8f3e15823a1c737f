"""The lake's columns, and the two ways between them and entries.

Columns are the entry's fields in their order, then what queries and proofs need beside them:
`event_type` and `decision_type` (out of the metadata), `snapshot` (the commit that brought
the row, see `layout.snapshot_name`) and the partition column `month`. Archive, search, export,
purge and verify all convert here. Nothing is lost: `entries_of` gives back entries whose
canonical bytes are those that went in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from claude_max_audit.entry import ENTRY_FIELDS, AuditEntry, epoch_us
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

_TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_TYPES: dict[str, pa.DataType] = {
    "timestamp": _TIME,
    "recorded_at": _TIME,
    "swarm_ids": pa.list_(pa.string()),
    "size_bytes": pa.int64(),
    "context_window_size": pa.int64(),
    "writer_seq": pa.int64(),
    "schema_version": pa.int32(),
}
WORDS: dict[str, dict[str, Any]] = {
    "entry_type": {m.value: m for m in AuditEntryType},
    "message_type": {m.value: m for m in MessageType},
    "operation": {m.value: m for m in OperationType},
    "severity": {m.value: m for m in SecuritySeverity},
    "retention": {m.value: m for m in Retention},
}
"""Columns of which only these values are an entry's."""

METADATA_WORDS: tuple[str, ...] = ("event_type", "decision_type")
"""Keys of the metadata that are columns of their own, because queries filter by them."""

FILE_SCHEMA = pa.schema(
    [
        *(pa.field(name, _TYPES.get(name, _TEXT)) for name in ENTRY_FIELDS),
        *(pa.field(name, _TEXT) for name in METADATA_WORDS),
        pa.field("snapshot", _TEXT),
    ]
)
"""What stands in each Parquet file: all columns but the partition's."""

LAKE_SCHEMA = FILE_SCHEMA.append(pa.field("month", _TEXT))
"""What the Delta table declares. Enums are plain strings, which Parquet dictionary-encodes."""

FILE_ORDER: tuple[str, ...] = ("swarm_id", "agent_id", "timestamp", "entry_id")
"""How rows are sorted within a run of a file: questions name a swarm or an agent."""

TRAIL_ORDER: tuple[str, ...] = ("timestamp", "entry_id")
"""The order of the trail itself, of Merkle leaves and of exports."""

_ATTRIBUTES = AuditEntry.__struct_fields__


def to_frame(entries: Sequence[AuditEntry], snapshot: str) -> pl.DataFrame:
    """Return the entries as rows of `FILE_SCHEMA`, in the order given.

    Every entry must carry its `entry_hash`, as decoded entries do.
    """
    return as_frame(to_table(entries, snapshot))


def to_table(entries: Sequence[AuditEntry], snapshot: str) -> pa.Table:
    """Return the entries as an Arrow table of `FILE_SCHEMA`, in the order given."""
    columns = [
        _column(name, list(map(attrgetter(attribute), entries)))
        for name, attribute in zip(ENTRY_FIELDS, _ATTRIBUTES, strict=True)
    ]
    texts = columns[ENTRY_FIELDS.index("metadata")]
    columns.extend(metadata_words(texts))
    columns.append(pa.repeat(pa.scalar(snapshot, _TEXT), len(entries)))
    return pa.Table.from_arrays(columns, schema=FILE_SCHEMA)


def as_frame(rows: pa.Table) -> pl.DataFrame:
    """Return the same rows as a Polars frame."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # a table has columns, so never a Series
    return frame


def _column(name: str, values: list[Any]) -> pa.Array:
    kind = _TYPES.get(name, _TEXT)
    if name == "metadata":
        return pa.array(list(map(bytes, values)), pa.binary()).cast(_TEXT)
    if kind == _TIME:
        # Whole microseconds: a tenth of the time that Arrow needs to take aware datetimes.
        return pa.array(list(map(epoch_us, values)), pa.int64()).cast(_TIME)
    return pa.array(values, kind)


def metadata_words(texts: pa.Array) -> list[pa.Array]:
    """Read the words out of the metadata's texts; what is not text counts as absent."""
    words: dict[str, list[str | None]] = {key: [None] * len(texts) for key in METADATA_WORDS}
    # Only a text that spells a key, or might with escapes, is worth parsing.
    spelled = pc.match_substring_regex(texts, r"event_type|decision_type|\\u")
    for row in pc.indices_nonzero(spelled).to_pylist():
        metadata = msgspec.json.decode(texts[row].as_py())
        for key, found in words.items():
            word = metadata.get(key)
            found[row] = word if isinstance(word, str) else None
    return [pa.array(found, _TEXT) for found in words.values()]


def entries_of(rows: pl.DataFrame) -> list[AuditEntry]:
    """Return the entries of lake rows (further columns are ignored), in the rows' order.

    Raises `ValueError` when a closed word is not one that an entry may have.
    """
    columns = [_values(name, rows.get_column(name)) for name in ENTRY_FIELDS]
    return [
        AuditEntry(**dict(zip(_ATTRIBUTES, row, strict=True)))
        for row in zip(*columns, strict=True)
    ]


def check_words(name: str, column: pl.Series) -> None:
    """Raise `ValueError` when a closed word is not one that an entry may have."""
    for value in column.unique().to_list():
        _word(name, WORDS[name], value)


def _values(name: str, column: pl.Series) -> list[Any]:
    if column.dtype == pl.Datetime("us", "UTC"):
        naive: list[datetime] = column.dt.replace_time_zone(None).to_list()
        return [moment.replace(tzinfo=UTC) for moment in naive]
    values = column.to_list()
    if name == "metadata":
        return [msgspec.Raw(text.encode()) for text in values]
    if name == "swarm_ids":
        return [tuple(swarms) for swarms in values]
    words = WORDS.get(name)
    return values if words is None else [_word(name, words, value) for value in values]


def _word(name: str, words: dict[str, Any], value: str | None) -> Any:
    if value is None:
        return None
    try:
        return words[value]
    except KeyError:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(words)}") from None
