"""Which numbers of a writer the lake lacks: every writer numbers its entries from 1 without a gap.

The archive asks after each day that brought entries. A number that is missing here was dropped by
a full spool (then an `audit_gap` entry says so), was lost with a Redis that forgot more than the
spool still had, was purged, or stands in a day that is not archived yet. Nothing is mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl

from audit_storage.lake.delta_log import answering
from audit_storage.lake.plan import LakeFile, files_for_day
from audit_storage.lake.view import LakeView

_TOLD = 5
_NO_STRETCHES = pl.DataFrame(
    schema={"writer_id": pl.String, "first": pl.Int64, "last": pl.Int64}
)


class Gap(NamedTuple):
    """Numbers of one writer, both ends inclusive, that no row of the lake has."""

    writer_id: str
    first_seq: int
    last_seq: int

    def __str__(self) -> str:
        numbers = str(self.first_seq)
        if self.last_seq > self.first_seq:
            numbers += f" to {self.last_seq}"
        return f"{numbers} of writer {self.writer_id}"


def gaps_of_day(view: LakeView, day: date) -> tuple[Gap, ...]:
    """Gaps between the first and the last number that each writer has on a UTC day.

    Numbers of other days are looked at for the writers in question only: an entry may be
    dated back, and a writer's work may cross midnight. Raises `LakeUnavailableError`.
    """
    of_day = pl.col("timestamp").dt.date() == day
    # A file at a time: the numbers of a day of millions never stand in memory together.
    files = files_for_day(view.files, day)
    suspects = writers_with_gaps(_numbers(view, [file], of_day) for file in files)
    if suspects.is_empty():
        return ()
    writers = suspects.get_column("writer_id")
    everywhere = _numbers(view, view.files, pl.col("writer_id").is_in(writers.implode()))
    within = everywhere.join(suspects, on="writer_id").filter(
        pl.col("writer_seq").is_between(pl.col("low"), pl.col("high"))
    )
    return gaps_between(within)


def _stretches(numbers: pl.DataFrame) -> pl.DataFrame:
    """The numbers of each writer as stretches without a gap, both ends inclusive."""
    number = pl.col("writer_seq")
    ends = number.min().alias("first"), number.max().alias("last")
    of_writers = numbers.group_by("writer_id").agg(*ends, number.n_unique().alias("count"))
    is_whole = pl.col("last") - pl.col("first") + 1 == pl.col("count")
    broken = of_writers.filter(~is_whole).get_column("writer_id")
    # Only theirs are sorted, which takes several times the room.
    ordered = numbers.filter(pl.col("writer_id").is_in(broken.implode())).unique()
    ordered = ordered.sort("writer_id", "writer_seq")
    place = (number - pl.int_range(pl.len()).over("writer_id")).alias("place")
    pieces = ordered.group_by("writer_id", place).agg(*ends)
    columns = ("writer_id", "first", "last")
    return pl.concat([of_writers.filter(is_whole).select(columns), pieces.select(columns)])


def writers_with_gaps(numbers: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The writers whose numbers have a gap in all frames together, with the least and the
    greatest of them (`low`, `high`). One frame at a time is asked for."""
    ordered = pl.concat([_NO_STRETCHES, *map(_stretches, numbers)]).sort("writer_id", "first")
    reached = pl.col("last").cum_max().shift().over("writer_id")
    return (
        ordered.with_columns(gap=pl.col("first") - reached > 1)
        .group_by("writer_id")
        .agg(
            pl.col("first").min().alias("low"),
            pl.col("last").max().alias("high"),
            pl.col("gap").any().alias("gap"),
        )
        .filter(pl.col("gap"))
    )


def gaps_between(numbers: pl.DataFrame) -> tuple[Gap, ...]:
    """Gaps between the numbers (`writer_id`, `writer_seq`) of each writer, in their order."""
    found = (
        numbers.select("writer_id", "writer_seq")
        .unique()
        .sort("writer_id", "writer_seq")
        .with_columns(before=pl.col("writer_seq").shift().over("writer_id"))
        .filter(pl.col("writer_seq") - pl.col("before") > 1)
    )
    return tuple(
        Gap(writer, before + 1, number - 1)
        for writer, number, before in found.select("writer_id", "writer_seq", "before").rows()
    )


def gaps_told(gaps: Sequence[Gap]) -> str:
    """The gaps in one line of a log; beyond the first ones their number."""
    told = ", ".join(map(str, gaps[:_TOLD]))
    return told if len(gaps) <= _TOLD else f"{told}, and {len(gaps) - _TOLD} more gaps"


def _numbers(view: LakeView, files: Sequence[LakeFile], condition: pl.Expr) -> pl.DataFrame:
    rows = view.rows_of(files).filter(condition).select("writer_id", "writer_seq")
    with answering(view.uri):
        return rows.collect()
