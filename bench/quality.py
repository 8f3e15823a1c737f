"""The quality checks of one large day, and of uniqueness over seven years.

A day is archived as the archive does it, entries of 600 bytes, and checked by a process of its own:
its time from the first import to the last verdict, Great Expectations' own import included, and the
most memory that it had. Then a lake of ten times as many rows in 84 months is made, by giving the
rows of one run new ids, hashes and months, and asked whether every id and hash is there once.

The result is JSON. `AUDIT_BENCH_QUALITY_ENTRIES=1000000` (or --entries) makes the day as large as
the figures ask for, and the years ten times that; by default they hold 50,000 and 500,000.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time

import polars as pl

from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import FILE_SCHEMA, to_frame
from claude_max_audit.entry import AuditEntry, decode_entry
from claude_max_audit.settings import load_settings
from traffic import END, traffic

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"quality-{os.getpid()}"
CONTENT_BYTES = 600
MONTHS = 84
AT_ONCE = 50_000
"""Entries that are made and staged at once."""

WANTED_DAY_SECONDS = 15.0
WANTED_DAY_MB = 1500.0
WANTED_YEARS_SECONDS = 10.0


def entries_of(count: int, size: int) -> Iterator[list[AuditEntry]]:
    """Give so many entries of the last day before `END`, some at a time."""
    made = (decode_entry(one.canonical) for one in traffic(count, days=1, size=size))
    while some := list(islice(made, AT_ONCE)):
        yield some


def build_day(home: Path, count: int) -> None:
    """Archive one day in one commit."""
    with Lake(load_settings(home=home)).begin("archive/2025-12-31") as transaction:
        for some in entries_of(count, CONTENT_BYTES):
            transaction.add(some)
        transaction.commit()


def build_years(home: Path, count: int) -> None:
    """Commit `count` rows over 84 months. Ids and hashes are new for each month; the rest of the
    rows, which uniqueness does not look at, is that of one run."""
    [entries] = entries_of(min(AT_ONCE, count // MONTHS), 180)
    run = to_frame(entries, "bench/1")
    lake, each = Lake(load_settings(home=home)), count // MONTHS
    for back in range(MONTHS):
        with lake.begin(f"bench/{back}") as transaction:
            for part in range(0, each, run.height):
                rows = as_of_month(run.head(each - part), back, part)
                month = rows.item(0, "timestamp").strftime("%Y-%m")
                table = rows.to_arrow().cast(FILE_SCHEMA)
                transaction.add_rows(month, table)
            transaction.commit()


def as_of_month(run: pl.DataFrame, back: int, part: int) -> pl.DataFrame:
    """Return the rows in another month, with ids and hashes that no other month has."""
    number = pl.int_range(pl.len()) + part + back * 10**9
    word = number.hash(back).map_elements(lambda h: f"{h:016x}", return_dtype=pl.String)
    drawn = run.select(word.alias("word")).to_series()
    serial = run.select(number.cast(pl.String).str.zfill(12)).to_series()
    head, tail = drawn.str.slice(0, 8), drawn.str.slice(8, 4)
    ids = head + "-" + tail + "-7000-8000-" + serial
    time = pl.col("timestamp").dt.replace(day=1).dt.offset_by(f"-{back}mo")
    return run.with_columns(
        timestamp=time, entry_id=ids, entry_hash=drawn + drawn + drawn + "0000" + serial
    )


def check(home: Path, years: bool) -> dict[str, float]:
    """In a process of its own: check the one day, or all years."""
    started, used = perf_counter(), process_time()
    from audit_quality.day_quality import check_day
    from audit_quality.years_quality import check_years

    imported = perf_counter()
    lake = Lake(load_settings(home=home))
    report = check_years(lake) if years else check_day(lake, next(iter(lake.days())))
    assert not report.failed_checks, report.failed_checks
    return {
        "entries": report.rows,
        "seconds": round(perf_counter() - started, 2),
        "of_which_import": round(imported - started, 2),
        "cpu_seconds": round(process_time() - used, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
    }


def measure(entries: int) -> dict[str, object]:
    """Build both lakes and check each in a fresh process."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    found = {}
    try:
        for name, build, size in (
            ("day", build_day, entries),
            ("years", build_years, 10 * entries),
        ):
            home = SCRATCH / name
            build(home, size)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                found[name] = alone.submit(check, home, name == "years").result()
            shutil.rmtree(home)
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    return {
        "what": "seconds and memory of the quality checks, imports included",
        "content_bytes": CONTENT_BYTES,
        "until": END.date().isoformat(),
        **found,
        "wanted": {
            "day_seconds": WANTED_DAY_SECONDS,
            "day_mb": WANTED_DAY_MB,
            "years_seconds": WANTED_YEARS_SECONDS,
        },
    }


def main() -> None:
    """Measure and print JSON."""
    full = os.environ.get("AUDIT_BENCH_QUALITY_ENTRIES")
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=int(full or 50_000))
    json.dump(measure(asked.parse_args().entries), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
