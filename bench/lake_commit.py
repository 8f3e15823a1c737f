"""A day's commit to a lake of years, beside the same to a lake of its first days.

In turns, 4,000 entries are committed to a young lake and to a copy of the lake of years, each
commit from opening the table to the comparison of every row read back: all that the archive asks
of the lake for a day. The lake of years has every commit of its 2,557 days in its log.

The result is JSON: the medians, their ratio, and what opening the table alone takes.
`--entries 10000000 --days 2557` (or AUDIT_BENCH_LAKE_ENTRIES) is the size that the figure is for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

from audit_storage.lake.lake import Lake
from claude_max_audit.settings import load_settings
from swarm_years import SwarmYears
from years_lake import DEFAULT_DAYS, DEFAULT_ENTRIES, SCRATCH, commit_day, copy_of, years_lake

DAY_ENTRIES = 4_000
WANTED_RATIO = 2.0


def measure(entries: int, days: int, rounds: int) -> dict[str, Any]:
    """Commit in turns; the first round, which makes the young lake's table, is dropped."""
    home = SCRATCH / f"young-{os.getpid()}"
    try:
        with years_lake(entries, days) as years, copy_of(years, "commit") as old:
            files = len(old.open().view().files)
            lakes = {"first": Lake(load_settings(home=home)), "last": old.open()}
            numbers = {"first": 0, "last": days - 1}
            took: dict[str, list[float]] = {"first": [], "last": []}
            used: dict[str, list[float]] = {"first": [], "last": []}
            opened: dict[str, list[float]] = {"first": [], "last": []}
            for number in range(rounds + 1):
                made = SwarmYears(0, days, seed=2 + number)
                for name, lake in sorted(lakes.items(), reverse=bool(number % 2)):
                    of_day = made.day(numbers[name], DAY_ENTRIES)
                    began = process_time()
                    took[name].append(commit_day(lake, of_day))
                    used[name].append(process_time() - began)
                    opened[name].append(_seconds(lake.fresh_view))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    first, last = median(took["first"][1:]), median(took["last"][1:])
    return {
        "what": "milliseconds of a day's commit, read back, to a young lake and to one of years",
        "entries": entries,
        "days": days,
        "files": files,
        "day_entries": DAY_ENTRIES,
        "first_ms": round(first * 1000, 1),
        "last_ms": round(last * 1000, 1),
        "opening_ms": {
            name: round(median(seconds[1:]) * 1000, 1) for name, seconds in opened.items()
        },
        "cpu_ms": {
            name: round(median(seconds[1:]) * 1000, 1) for name, seconds in used.items()
        },
        "ratio": round(last / first, 3),
        "wanted": WANTED_RATIO,
    }


def _seconds(done: Callable[[], object]) -> float:
    started = perf_counter()
    done()
    return perf_counter() - started


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=DEFAULT_ENTRIES)
    asked.add_argument("--days", type=int, default=DEFAULT_DAYS)
    asked.add_argument("--rounds", type=int, default=15)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.days, options.rounds), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
