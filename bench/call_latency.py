"""What one logging call costs its caller: our three durabilities beside what others use.

Each round gives every contender its turn with the same contents of 600 bytes, in an order that
rotates, so that what else runs on the machine meets all alike. A contender's background
work is waited for before the next one begins, so nobody pays for another's.

The result is JSON: microseconds a call (mean, p50, p99, p99.9), microseconds an entry of whole
turns until everything was stored, and the mean of `auditor, process` as a part of each other's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import fmean, median, quantiles
from time import perf_counter_ns

from contenders import Contender, contenders
from loaded_store import own_redis
from traffic import CONTENT_BYTES, content

SCRATCH = Path(__file__).resolve().parent / "scratch" / "call_latency"
OURS = "auditor, process"
WANTED = {
    "OpenTelemetry batch": 1 / 2,
    "SQLite WAL, FULL": 1 / 10,
    "SQLite WAL, NORMAL": 1 / 10,
    "Redis in the loop": 1 / 40,
}
"""Most that our mean may be of theirs."""

WANTED_P99_US = 60.0
_CONTENTS = 64


async def turn(contender: Contender, calls: int, counts: bool) -> None:
    """One turn; what does not count warms up."""
    chance = Random(calls)
    texts = [content(chance) for _ in range(_CONTENTS)]
    call, times = contender.call, []
    turn_started = perf_counter_ns()
    for number in range(calls):
        text = texts[number % _CONTENTS]
        started = perf_counter_ns()
        await call(text)
        times.append(perf_counter_ns() - started)
    await contender.settle()
    took = perf_counter_ns() - turn_started
    if counts:
        contender.calls_ns += times
        contender.stored_ns.append(took / calls)


async def in_turns(entered: dict[str, Contender], rounds: int, calls: int) -> None:
    """All turns of all contenders; the first round warms up."""
    ways = list(entered.values())
    for number in range(rounds + 1):
        shift = number % len(ways)
        for contender in ways[shift:] + ways[:shift]:
            await turn(contender, max(1, int(calls * contender.share)), number > 0)


def measure(calls: int, rounds: int) -> dict[str, object]:
    """Run all turns against a Redis of their own and return the result."""
    with ExitStack() as stack:
        # Removed last: a server whose folder is gone cannot be found to be stopped.
        stack.callback(shutil.rmtree, SCRATCH, ignore_errors=True)
        server = stack.enter_context(own_redis(SCRATCH / "redis"))
        folder = SCRATCH / "files"
        folder.mkdir()
        entered = {
            name: stack.enter_context(make()) for name, make in contenders(server, folder).items()
        }
        asyncio.run(in_turns(entered, rounds, calls))
        return figures(entered, rounds, calls)


def figures(entered: dict[str, Contender], rounds: int, calls: int) -> dict[str, object]:
    """Microseconds of each contender, and how our mean stands to theirs."""
    own = fmean(entered[OURS].calls_ns)
    return {
        "what": "microseconds a call takes from its caller",
        "content_bytes": CONTENT_BYTES,
        "turns": rounds,
        "calls_a_turn": calls,
        "microseconds": {name: _spread(contender) for name, contender in entered.items()},
        "our_mean_of_theirs": {
            name: round(own / fmean(contender.calls_ns), 4)
            for name, contender in entered.items()
            if name != OURS
        },
        "wanted": {"our_mean_of_theirs": WANTED, "p99": WANTED_P99_US},
    }


def _spread(contender: Contender) -> dict[str, float]:
    times = contender.calls_ns
    permille = quantiles(times, n=1000)
    figures_ns = {
        "mean": fmean(times),
        "p50": permille[499],
        "p99": permille[989],
        "p99.9": permille[998],
        "stored": median(contender.stored_ns),
    }
    return {name: round(ns / 1000, 2) for name, ns in figures_ns.items()}


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--calls", type=int, default=2_000, help="calls a turn and contender")
    asked.add_argument("--rounds", type=int, default=10)
    options = asked.parse_args()
    json.dump(measure(options.calls, options.rounds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
