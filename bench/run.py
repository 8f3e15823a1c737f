"""Runs the benches one after another and keeps what they found. This is `make bench`.

Each bench is a program of its own that puts all its contenders into one run, in turns, and prints
JSON. Full runs go to bench/results/, one file a bench, with the machine they were made on; quick
runs, which only show that a bench works, go to bench/scratch/results/. A bench that fails is
told, the others run all the same, and the exit status says so.

`AUDIT_BENCH_ENTRIES=1000000` makes the benches of queries and memory as large as the figures to
reach ask for; by default they hold 100,000 entries. `AUDIT_BENCH_LAKE_ENTRIES=10000000` does so for
the lake, over 2,557 days; by default it holds 200,000 over 256. `AUDIT_BENCH_LAKE` names a folder
where that lake is made once and kept. `AUDIT_BENCH_DAY_ENTRIES=5000000` is the archive's large day.
`AUDIT_BENCH_QUALITY_ENTRIES=1000000` does so for the quality checks of a day.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from figures import figures

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
QUICK_RESULTS = HERE / "scratch" / "results"

BENCHES: dict[str, tuple[str, ...]] = {
    "call_latency": ("--calls", "500", "--rounds", "3"),
    "throughput": ("--entries", "8000", "--rounds", "1"),
    "loop_pause": ("--seconds", "1", "--rounds", "1"),
    "redis_away": ("--seconds", "10"),
    "hot_queries": ("--entries", "20000", "--rounds", "8"),
    "entry_memory": ("--entries", "20000"),
    "compression": ("--entries", "2000", "--rounds", "1"),
    "lake_bytes": ("--entries", "4000"),
    "lake_archive": ("--entries", "5000", "--rounds", "1"),
    "lake_queries": ("--entries", "4000", "--days", "40", "--rounds", "2"),
    "lake_commit": ("--entries", "4000", "--days", "40", "--rounds", "2"),
    "lake_purge": ("--entries", "4000", "--days", "92", "--rounds", "1"),
    "lake_export": ("--entries", "4000", "--days", "40", "--rounds", "1"),
    "quality": ("--entries", "5000"),
}
"""Benches in the order in which they run, with the arguments of a quick run."""


def run(name: str, quick: bool) -> dict[str, Any] | None:
    """Run one bench and keep its result; None if it failed, which was told."""
    arguments = BENCHES[name] if quick else ()
    print(f"{name} ...", flush=True)
    started = perf_counter()
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{name} failed with exit status {done.returncode}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout)
    folder = QUICK_RESULTS if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"bench": name, "quick": quick, **machine(), "result": result}
    place = folder / f"{name}.json"
    place.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    print(f"{name} took {perf_counter() - started:.0f} s -> {place.relative_to(HERE.parent)}")
    return result


def machine() -> dict[str, Any]:
    """When and on what this was measured."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def show(results: dict[str, Any]) -> None:
    """Print the figures as a table."""
    rows = [("figure", "measured", "wanted", "reached"), *(f.cells() for f in figures(results))]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    print()
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )


def main() -> int:
    """Run what is asked for; 1 if a bench failed."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked.add_argument("--quick", action="store_true", help="a minute in all, to see that it works")
    asked.add_argument(
        "--only", action="append", choices=BENCHES, metavar="NAME", help=", ".join(BENCHES)
    )
    options = asked.parse_args()
    names = [name for name in BENCHES if name in (options.only or BENCHES)]
    found = {name: run(name, options.quick) for name in names}
    show({name: result for name, result in found.items() if result is not None})
    if not options.quick:
        print("\nbench/publish.py puts the results into README.md")
    return 1 if None in found.values() else 0


if __name__ == "__main__":
    sys.exit(main())
