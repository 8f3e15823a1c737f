"""The whole lake to one Parquet file, beside a bare Polars sink of the same rows.

The export puts the trail into its order, hashes the file, and makes it appear whole with its
manifest. The bare sink copies the same columns of the same files in whatever order they stand,
with the same compression. Each runs in a process of its own, in turns, and tells the most memory
that the system saw it hold (VmHWM), its libraries included.

The result is JSON. `--entries 10000000 --days 2557` (or AUDIT_BENCH_LAKE_ENTRIES) is the size that
the figures are for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import polars as pl

from audit_storage.export.export import export_trail
from audit_storage.export.formats import PARQUET_COMPRESSION_LEVEL
from audit_storage.lake.lake import Lake
from claude_max_audit.entry import ENTRY_FIELDS
from claude_max_audit.query import Query
from claude_max_audit.settings import load_settings
from peak_memory import peak_mib
from years_lake import DEFAULT_DAYS, DEFAULT_ENTRIES, FULL_ENTRIES, SCRATCH, years_lake

WANTED_SPEED = 0.5
WANTED_MIB = 512_000_000 / 1024**2


def export(home: Path, path: Path) -> int:
    """Export everything as anybody would; returns the rows."""
    lake = Lake(load_settings(home=home))
    return export_trail(lake, None, Query(), "parquet", path, exports_dir=path.parent).rows


def bare_sink(home: Path, path: Path) -> int:
    """Copy the same columns of the same rows, and nothing else; returns the rows."""
    lake = Lake(load_settings(home=home))
    files = [f"{lake.uri}/{file.path}" for file in lake.view().files]
    rows = pl.scan_parquet(files, glob=False, hive_partitioning=False).select(ENTRY_FIELDS)
    rows.sink_parquet(path, compression="zstd", compression_level=PARQUET_COMPRESSION_LEVEL)
    return lake.count()


WAYS = {"export": export, "bare sink": bare_sink}


def one_way(name: str, home: Path, folder: Path) -> dict[str, Any]:
    """Run one way here; this is the process that is measured."""
    path = folder / f"{name.replace(' ', '-')}.parquet"
    before, used = os.times(), perf_counter()
    rows = WAYS[name](home, path)
    seconds, after = perf_counter() - used, os.times()
    return {
        "rows": rows,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.user + after.system - before.user - before.system, 2),
        "peak_mib": round(peak_mib(), 1),
        "bytes": path.stat().st_size,
    }


def measure(entries: int, days: int, rounds: int) -> dict[str, Any]:
    """Run both ways in turns, in an order that changes."""
    folder = SCRATCH / f"export-{os.getpid()}"
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    with years_lake(entries, days) as years:
        for number in range(rounds):
            for name in sorted(WAYS, reverse=bool(number % 2)):
                folder.mkdir(parents=True)
                try:
                    runs[name].append(_in_a_child(name, years.home, folder))
                finally:
                    shutil.rmtree(folder)
    assert {run["rows"] for both in runs.values() for run in both} == {entries}
    seconds = {name: median(run["seconds"] for run in both) for name, both in runs.items()}
    return {
        "what": "the whole lake to one Parquet file: the export, and a bare sink of Polars",
        "entries": entries,
        "days": days,
        "seconds": seconds,
        "speed_of_sink": round(seconds["bare sink"] / seconds["export"], 3),
        "peak_mib": max(run["peak_mib"] for run in runs["export"]),
        "runs": runs,
        "wanted": {"speed_of_sink": WANTED_SPEED, "peak_mib": round(WANTED_MIB)},
    }


def _in_a_child(name: str, home: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, str(home), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=DEFAULT_ENTRIES)
    asked.add_argument("--days", type=int, default=DEFAULT_DAYS)
    asked.add_argument("--rounds", type=int, default=3 if FULL_ENTRIES else 5)
    asked.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.child:
        name, home, folder = options.child
        found = one_way(name, Path(home), Path(folder))
    else:
        found = measure(options.entries, options.days, options.rounds)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
