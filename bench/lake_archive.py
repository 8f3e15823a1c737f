"""A whole day from Redis to the lake: entries a second, and the most memory that it took.

A day of made-up entries is written to a Redis of the bench's own, through the hot store. Then a
process of its own archives it, as the nightly flow does: every entry checked, one commit, every
row read back and compared, the hot copies released. The memory is the most that the system saw
that process and its children hold (VmHWM), its libraries included.

The result is JSON. `--entries 5000000` (or AUDIT_BENCH_DAY_ENTRIES) is the day that the figures
are given for; Redis then holds some 8 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from audit_storage.archive.archive import archive_day
from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake.lake import Lake
from audit_storage.layout import span_of_day
from claude_max_audit.entry import decode_entry
from claude_max_audit.hot.batch import Stamped
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import load_settings
from loaded_store import load, own_redis
from peak_memory import peak_mib
from swarm_years import CONTENT_CHARACTERS, LAST_DAY, SwarmYears

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"archive-{os.getpid()}"
DEFAULT_ENTRIES = int(os.environ.get("AUDIT_BENCH_DAY_ENTRIES", "200000"))
WANTED_PER_SECOND = 100_000
WANTED_MIB = 700_000_000 / 1024**2
_PIECE = 20_000
"""Entries made at once: a day is made in pieces, so that the bench needs little memory."""


def day_of(entries: int) -> Iterator[Stamped]:
    """Give the entries of one busy day."""
    for number, start in enumerate(range(0, entries, _PIECE)):
        years = SwarmYears(0, days=1, seed=number)
        for line in years.day(0, min(_PIECE, entries - start)).lines():
            yield Stamped(decode_entry(line), line)


def archive(url: str, home: Path, day: date) -> dict[str, Any]:
    """Archive the day here; this is the process that is measured."""
    settings = load_settings(home=home, redis_url=url)
    # Kept for a century from that day on, so that the next round finds them again.
    hot = HotStore.connect(url, hot_days=36_525)
    lake, quarantine = Lake(settings), Quarantine(settings)
    before, started, cpu = peak_mib(), perf_counter(), os.times()
    report = archive_day(lake, hot, quarantine, day, span_of_day(day).end + timedelta(hours=2))
    seconds, used = perf_counter() - started, os.times()
    assert report.released == report.archived
    return {
        "archived": report.archived,
        "quarantined": report.quarantined,
        "seconds": round(seconds, 2),
        "entries_per_second": round(report.archived / seconds),
        "cpu_seconds": round(sum(used[:4]) - sum(cpu[:4]), 2),
        "peak_mib": round(peak_mib(), 1),
        "peak_before_mib": round(before, 1),
        "bytes_an_entry": round(report.bytes / report.archived, 1),
    }


def measure(entries: int, rounds: int) -> dict[str, Any]:
    """Load Redis once and archive the day anew in each round."""
    with own_redis(SCRATCH / "redis") as server:
        started = perf_counter()
        load(server.url, day_of(entries))
        loaded = perf_counter() - started
        runs = [_in_a_child(server.url, entries, number) for number in range(rounds)]
    best = sorted(runs, key=lambda run: run["seconds"])[(len(runs) - 1) // 2]
    return {
        "what": "a day from Redis to the lake, checked, committed, read back and released",
        "entries": entries,
        "content_characters": CONTENT_CHARACTERS,
        "loaded_seconds": round(loaded, 1),
        "median": best,
        "runs": runs,
        "wanted": {"entries_per_second": WANTED_PER_SECOND, "peak_mib": round(WANTED_MIB)},
    }


def _in_a_child(url: str, entries: int, number: int) -> dict[str, Any]:
    home = SCRATCH / f"home-{number}"
    command = [sys.executable, __file__, "--child", url, str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(home, ignore_errors=True)
    run: dict[str, Any] = json.loads(done.stdout)
    assert run["archived"] == entries, run
    return run


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=DEFAULT_ENTRIES)
    asked.add_argument("--rounds", type=int, default=3 if DEFAULT_ENTRIES < 1_000_000 else 1)
    asked.add_argument("--child", nargs=2, metavar=("URL", "HOME"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.child:
        found = archive(options.child[0], Path(options.child[1]), LAST_DAY)
    else:
        try:
            found = measure(options.entries, options.rounds)
        finally:
            shutil.rmtree(SCRATCH, ignore_errors=True)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
