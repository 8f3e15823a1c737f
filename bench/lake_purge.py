"""The oldest year leaves the lake, beside rewriting its permanent rows and unlinking its files.

In turns, each on a copy of the lake whose oldest year is copied and not linked: the purge, with
its plan, the leaf hash of every entry that goes, its receipt, one commit and the vacuum; and the
least that anybody must do, who reads the permanent rows of those files with Polars, writes them
to files of their own, and unlinks the files.

The result is JSON: the times, their ratio, and the bytes before and after. `--entries 10000000
--days 2557` (or AUDIT_BENCH_LAKE_ENTRIES) is the size that the figures are for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, time
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import polars as pl

from audit_storage.lake.part import COMPRESSION_LEVEL
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.purge import execute_purge
from audit_storage.purge.receipts import ReceiptBook
from years_lake import DEFAULT_DAYS, DEFAULT_ENTRIES, YearsLake, copy_of, years_lake

KEEP_YEARS = 7
WANTED_RATIO = 4.0
WANTED_FREED = 0.95
"""At least this part of the oldest year's bytes: the permanent rows stay, and their files take
more room for each than files full of others."""

_MONTHS = 12


def end_of_oldest_year(years: YearsLake) -> datetime:
    """The instant before which all is to go: a year after the first day, or half of few days."""
    first = years.years.first_day
    if years.days < 2 * 365:
        first = first.replace(day=1)
        return datetime.combine(first.replace(month=first.month % 12 + 2), time.min, UTC)
    return datetime.combine(first.replace(year=first.year + 1), time.min, UTC)


def purge(years: YearsLake) -> int:
    """Purge as the nightly flow does; returns the rows removed."""
    lake, cutoff = years.open(), end_of_oldest_year(years)
    now = cutoff.replace(year=cutoff.year + KEEP_YEARS)
    plan = plan_purge(lake, now, years=KEEP_YEARS, at_most=years.entries)
    book = ReceiptBook(lake.settings)
    receipt = execute_purge(lake, book, None, None, plan, now, by="bench")
    assert receipt is not None
    return receipt.rows


def bare_rewrite(years: YearsLake) -> int:
    """Rewrite the permanent rows of the same files and unlink these; returns the rows gone."""
    lake, cutoff = years.open(), end_of_oldest_year(years)
    gone = 0
    for file in [file for file in lake.view().files if file.start < cutoff]:
        path = years.folder / "entries" / file.path
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        stays = (pl.col("retention") == "permanent") | (pl.col("timestamp") >= cutoff)
        kept = rows.filter(stays).collect()
        fresh = path.with_name(f"kept-{path.name}")
        kept.write_parquet(fresh, compression="zstd", compression_level=COMPRESSION_LEVEL)
        _sync(fresh)
        path.unlink()
        gone += file.rows - kept.height
    return gone


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bytes_in(folder: Path) -> int:
    """Return the size of all Parquet files of a table."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def one_turn(years: YearsLake, way: Callable[[YearsLake], int]) -> dict[str, Any]:
    """Do it one way on a fresh copy."""
    with copy_of(years, "purge", real=_MONTHS) as copy:
        cutoff = end_of_oldest_year(copy)
        old = sum(file.bytes for file in copy.open().view().files if file.end < cutoff)
        before = bytes_in(copy.folder / "entries")
        started, cpu = perf_counter(), os.times()
        rows = way(copy)
        seconds, used = perf_counter() - started, os.times()
        return {
            "rows": rows,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(used.user + used.system - cpu.user - cpu.system, 2),
            "freed_bytes": before - bytes_in(copy.folder / "entries"),
            "year_bytes": old,
            "receipt_bytes": bytes_in(copy.folder / "purged"),
        }


def measure(entries: int, days: int, rounds: int) -> dict[str, Any]:
    """Both ways in turns."""
    ways = {"purge": purge, "bare rewrite": bare_rewrite}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    with years_lake(entries, days) as years:
        for number in range(rounds + 1):
            for name in sorted(ways, reverse=bool(number % 2)):
                run = one_turn(years, ways[name])
                if number:
                    runs[name].append(run)
    assert len({run["rows"] for both in runs.values() for run in both}) == 1, runs
    seconds = {name: median(run["seconds"] for run in both) for name, both in runs.items()}
    one = runs["purge"][0]
    return {
        "what": "the oldest year leaves the lake: the purge, and a bare rewrite of what stays",
        "entries": entries,
        "days": days,
        "rows": one["rows"],
        "seconds": seconds,
        "ratio": round(seconds["purge"] / seconds["bare rewrite"], 3),
        "freed_of_year": round(one["freed_bytes"] / one["year_bytes"], 4),
        "runs": runs,
        "wanted": {"ratio": WANTED_RATIO, "freed_of_year": WANTED_FREED},
    }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=DEFAULT_ENTRIES)
    asked.add_argument("--days", type=int, default=DEFAULT_DAYS)
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.days, options.rounds), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
