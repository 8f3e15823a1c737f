"""The one way by which Polars reads Parquet files of the lake, here or in an object store.

It is given the same options as the table's log, so that both reach the same place by the same
key. Lazy: nothing is read, and nothing raised, before the frame is collected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl


def scan_files(
    places: Sequence[str],
    options: Mapping[str, str],
    schema: pl.Schema | None = None,
    *,
    path_column: str | None = None,
) -> pl.LazyFrame:
    """Return a lazy frame over some files, by their full paths or URIs, all of one schema.

    With `schema`, columns that a file of an older version lacks are empty; in `path_column`, if
    any, stands the file that a row is from.
    """
    more: dict[str, Any] = {}
    if schema is not None:
        more = {"schema": schema, "missing_columns": "insert"}
    return pl.scan_parquet(
        list(places),
        glob=False,
        hive_partitioning=False,
        include_file_paths=path_column,
        storage_options=_for_polars(options) or None,
        **more,
    )


def _for_polars(options: Mapping[str, str]) -> dict[str, Any]:
    """The log's library wants text everywhere; Polars wants this one as a number."""
    return {k: int(v) if k == "max_retries" else v for k, v in options.items()}
