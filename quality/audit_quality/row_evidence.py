"""What the rows of a day look like, computed anew from their own columns and counted.

Rows are taken chunk by chunk. Each gets its marks, the columns of the suite `entries`: does the
content give its hash, the citation name the row, and so on. Rows with the same marks are counted
together, so that Great Expectations judges every value that occurs and a day of a million entries
needs no more memory than its largest chunk. Rows with a mark that the suite does not allow are
kept whole, up to a limit. Reads no store and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import polars as pl

from audit_quality.report import NAMED_ROWS
from audit_quality.suite_file import allowed_values, columns_of
from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.schema import METADATA_WORDS
from audit_storage.layout import archive_app
from claude_max_audit.citation import CITATION_PATTERN, CITATION_PREFIX
from claude_max_audit.entry import content_hash_of, entry_hash_of

SUITE = "entries"

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

CLOSED_WORDS: tuple[str, ...] = (
    "entry_type",
    "message_type",
    "operation",
    "severity",
    "retention",
)
"""Columns whose values come from a closed list; null where the entry has none."""

SKEW = timedelta(minutes=5)
"""How far clocks may disagree: what time synchronisation keeps far below, and people notice."""

KEPT_FAULTY_ROWS = 10_000
"""Most rows of a day that are kept whole for quarantine: a day that is wrong all through is told
by its first rows, and need not be stored twice."""

FITS, DIFFERS = "fits", "differs"

_CITATION = CITATION_PATTERN.replace("(", "(?:").replace(r"\Z", r"\z")
"""The same pattern as Rust's regular expressions write it."""

_JSON = msgspec.json.Decoder()
_ROW = msgspec.json.Encoder()


class RowEvidence:
    """The rows of one UTC day, seen at an aware UTC instant."""

    def __init__(self, day: date, now: datetime) -> None:
        self.day = day
        self.rows = 0
        self.archived = 0
        """Rows that a commit of the day's archive brought."""
        self.parameters = {"days": [day.isoformat()]}
        self._now = now
        self._groups: list[pl.DataFrame] = []
        self._contents: list[pl.Series] = []
        self._faulty: list[tuple[pl.DataFrame, pl.DataFrame]] = []
        self._kept = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Look at some rows of `schema.FILE_SCHEMA`."""
        marks = _marks_of(rows, self._now)
        self.rows += rows.height
        brought = rows.get_column("snapshot").str.starts_with(f"{archive_app(self.day)}/")
        self.archived += int(brought.sum())
        said = rows.filter(pl.col("content").is_not_null()).get_column("content_hash")
        self._contents.append(said.hash())
        ids = pl.col("entry_id").head(NAMED_ROWS)
        self._groups.append(marks.group_by(columns_of(SUITE), maintain_order=True).agg(ids, _COUNT))
        suspect = marks.select(self._is_suspect()).to_series()
        if suspect.any() and self._kept < KEPT_FAULTY_ROWS:
            kept = rows.filter(suspect).head(KEPT_FAULTY_ROWS - self._kept)
            self._faulty.append((kept, marks.filter(suspect).head(kept.height)))
            self._kept += kept.height

    def groups(self) -> pl.DataFrame:
        """Return one row for each distinct combination of marks, with `rows`, how many have it,
        and `entry_id`, the ids of the first of them."""
        if not self._groups:
            return _NO_GROUPS
        ids = (
            pl.col("entry_id").list.explode(keep_nulls=False, empty_as_null=False).head(NAMED_ROWS)
        )
        grouped = pl.concat(self._groups).group_by(columns_of(SUITE), maintain_order=True)
        return grouped.agg(ids, pl.col("rows").sum())

    def duplicated_contents(self) -> int:
        """Count the rows whose content stood in an earlier row; entries without content not."""
        if not self._contents:
            return 0
        hashes = pl.concat(self._contents)
        return hashes.len() - hashes.n_unique()

    def contents(self) -> int:
        """Count the rows that have a content."""
        return sum(part.len() for part in self._contents)

    def faulty(self) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
        """Give each kept row with its marks."""
        for rows, marks in self._faulty:
            yield from zip(rows.to_dicts(), marks.to_dicts(), strict=True)

    def _is_suspect(self) -> pl.Expr:
        return pl.any_horizontal(
            pl.col(column).is_not_null() & ~pl.col(column).is_in(allowed)
            for column, allowed in allowed_values(SUITE, self.parameters).items()
        )


_COUNT = pl.len().cast(pl.Int64).alias("rows")
_NO_GROUPS = pl.DataFrame(
    schema={
        **dict.fromkeys(columns_of(SUITE), pl.String),
        "entry_id": pl.List(pl.String),
        "rows": pl.Int64,
    }
)


def row_as_json(row: dict[str, Any]) -> bytes:
    """Return a row of the lake as JSON, every column as it stands: the same row, the same bytes."""
    return _ROW.encode(row)


def _marks_of(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    missing = rows.select(_missing_fields()).to_series()
    return rows.select(
        pl.col("entry_id").fill_null("(no entry_id)"),
        missing,
        _mark(pl.col("citation").str.contains(_CITATION)).alias("citation_form"),
        _mark(pl.col("citation") == _expected_citation()).alias("citation_fits"),
        _content_hashes_fit(rows).alias("content_hash_fits"),
        _entry_hashes_fit(rows, missing).alias("entry_hash_fits"),
        _mark(_has_no_size_of_its_own() | _size_of_content()).alias("size_fits"),
        _derived_words_fit(rows).alias("derived_words_fit"),
        *CLOSED_WORDS,
        _archived_day().alias("day"),
        pl.when(pl.col("recorded_at") > now + SKEW)
        .then(pl.lit("in the future"))
        .otherwise(pl.lit("past"))
        .alias("recorded"),
        pl.when(pl.col("timestamp") > pl.col("recorded_at") + SKEW)
        .then(pl.lit("after it was recorded"))
        .otherwise(pl.lit("before it was recorded"))
        .alias("happened"),
    )


def _mark(fits: pl.Expr) -> pl.Expr:
    return pl.when(fits).then(pl.lit(FITS)).otherwise(pl.lit(DIFFERS))


def _missing_fields() -> pl.Expr:
    names = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in REQUIRED_FIELDS]
    return pl.concat_str(*names, separator=", ", ignore_nulls=True).alias("missing_fields")


def _expected_citation() -> pl.Expr:
    """The form is the customer's: if://audit/{entry_type}/{entry_id}."""
    return pl.concat_str(
        pl.lit(CITATION_PREFIX), pl.col("entry_type"), pl.lit("/"), pl.col("entry_id")
    )


def _has_no_size_of_its_own() -> pl.Expr:
    """An access says the size of the context, and an entry without content has none to compare."""
    return pl.col("content").is_null() | (pl.col("entry_type") == "context_access")


def _size_of_content() -> pl.Expr:
    """A source that was imported may have shortened the content, and says what it was."""
    return pl.col("size_bytes") >= pl.col("content").str.len_bytes()


def _archived_day() -> pl.Expr:
    """The UTC day of the entry, with that of its commit where the two differ."""
    happened = pl.col("timestamp").dt.strftime("%Y-%m-%d")
    filed = pl.col("snapshot").str.extract(r"^archive/(\d{4}-\d{2}-\d{2})/")
    both = pl.concat_str(happened, pl.lit(", archived under "), filed)
    return pl.when(filed.is_null() | (filed == happened)).then(happened).otherwise(both)


def _content_hashes_fit(rows: pl.DataFrame) -> pl.Series:
    fits = [
        (content is not None or metadata is not None)
        and content_hash_of(content, (metadata or "").encode()) == stored
        for content, metadata, stored in rows.select(
            "content", "metadata", "content_hash"
        ).iter_rows()
    ]
    return _marked(pl.Series(fits, dtype=pl.Boolean))


def _entry_hashes_fit(rows: pl.DataFrame, missing: pl.Series) -> pl.Series:
    """Hash the canonical bytes of every row that is whole; the others cannot fit."""
    known = allowed_values(SUITE, {"days": []})
    known_words = rows.select(
        pl.all_horizontal(
            pl.col(name).is_null() | pl.col(name).is_in(known[name]) for name in CLOSED_WORDS
        )
    ).to_series()
    whole = (missing == "") & known_words
    marks = pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    if not whole.any():
        return _marked(marks)
    complete = rows if whole.all() else rows.filter(whole)
    fits = [
        entry_hash_of(canonical) == stored
        for canonical, stored in zip(
            canonical_of(complete), complete.get_column("entry_hash"), strict=True
        )
    ]
    return _marked(marks.scatter(whole.arg_true(), fits))


def _marked(fits: pl.Series) -> pl.Series:
    return pl.select(pl.when(fits).then(pl.lit(FITS)).otherwise(pl.lit(DIFFERS))).to_series()


def _derived_words_fit(rows: pl.DataFrame) -> pl.Series:
    """Compare `event_type` and `decision_type` with the metadata that they were taken from."""
    spelled = pl.col("metadata").str.contains(r"event_type|decision_type|\\u")
    filled = pl.any_horizontal(pl.col(name).is_not_null() for name in METADATA_WORDS)
    doubtful = rows.select((spelled | filled).fill_null(False)).to_series()
    found = [
        FITS if _words_of(metadata) == tuple(words) else DIFFERS
        for metadata, *words in rows.filter(doubtful)
        .select("metadata", *METADATA_WORDS)
        .iter_rows()
    ]
    marks = pl.Series([FITS], dtype=pl.String).new_from_index(0, rows.height)
    return marks.scatter(doubtful.arg_true(), found) if found else marks


def _words_of(metadata: str | None) -> tuple[str | None, ...]:
    try:
        said = _JSON.decode(metadata or "")
        words = [said.get(name) for name in METADATA_WORDS]
    except (msgspec.DecodeError, AttributeError):
        return ()
    return tuple(word if isinstance(word, str) else None for word in words)
