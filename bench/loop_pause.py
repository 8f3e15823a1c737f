"""How long the library keeps an event loop waiting while an agent logs 20,000 entries a second.

One process, one loop, two coroutines: one logs at a steady rate, one sleeps a millisecond at
a time and notes how late it wakes. Turns with the auditor alternate with turns in which the same
loop does the same work but keeps nothing, so what the machine itself adds shows beside it. The
writer thread carries everything to a real Redis meanwhile.

The result is JSON: milliseconds of lateness with and without, and what the library adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import ClaudeMaxAuditor, MessageType

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"loop_pause-{os.getpid()}"
CONTENT = "Please analyze the provided context and report what changed. " * 10
"""About 600 bytes: the middle of what agents say to each other."""

CALLS_A_TURN = 20
"""Most calls before the loop gets its turn, also when there is something to catch up with."""

TICK_SECONDS = 0.001
Log = Callable[[int], Awaitable[object]]


async def tick(late_ms: list[float], until: float) -> None:
    """Wake every millisecond until the moment `until`, noting how late each waking was."""
    while (before := perf_counter()) < until:
        await asyncio.sleep(TICK_SECONDS)
        late_ms.append((perf_counter() - before - TICK_SECONDS) * 1000)


async def flow(log: Log, rate: int, until: float) -> int:
    """Log at a steady rate until the moment `until`; returns how many were logged."""
    start, done = perf_counter(), 0
    while (now := perf_counter()) < until:
        due = int((now - start) * rate)
        while done < due:
            await log(done)
            done += 1
            if not done % CALLS_A_TURN:
                await asyncio.sleep(0)  # as an agent does that also speaks to a model
        await asyncio.sleep(TICK_SECONDS)
    return done


async def turn(log: Log, rate: int, seconds: float) -> tuple[list[float], int]:
    """One turn: every lateness in milliseconds, and the number of calls."""
    late_ms: list[float] = []
    until = perf_counter() + seconds
    _, done = await asyncio.gather(tick(late_ms, until), flow(log, rate, until))
    return sorted(late_ms), done


async def in_turns(auditor: ClaudeMaxAuditor, rate: int, seconds: float, rounds: int) -> object:
    """Turns with and without the library, after one of each to warm up."""

    async def keep(number: int) -> object:
        return await auditor.log_message(
            f"agent-{number % 20}", "worker", MessageType.REQUEST, CONTENT, swarm_id="bench"
        )

    async def discard(number: int) -> object:
        return number

    turns: dict[str, list[tuple[list[float], int]]] = {"with": [], "without": []}
    for number in range(rounds + 1):
        for name, log in (("without", discard), ("with", keep)):
            measured = await turn(log, rate, seconds)
            await auditor.flush_all()
            if number:
                turns[name].append(measured)
    return {name: figures(measured, seconds) for name, measured in turns.items()}


def figures(turns: list[tuple[list[float], int]], seconds: float) -> dict[str, float]:
    """Medians over the turns, and the worst of all."""
    return {
        "entries_per_second": round(median(done / seconds for _, done in turns)),
        "p50_ms": round(median(late[len(late) // 2] for late, _ in turns), 3),
        "p99_ms": round(median(late[len(late) * 99 // 100] for late, _ in turns), 3),
        "p999_ms": round(median(late[len(late) * 999 // 1000] for late, _ in turns), 3),
        "longest_ms": round(median(late[-1] for late, _ in turns), 3),
        "longest_of_all_ms": round(max(late[-1] for late, _ in turns), 3),
    }


def measure(rate: int, seconds: float, rounds: int) -> dict[str, object]:
    """Run all turns against a Redis of their own and return the result."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        with EmbeddedRedis(SCRATCH / "redis") as redis:
            auditor = ClaudeMaxAuditor(
                redis_url=redis.url, home=SCRATCH / "home", storage_backend="redis"
            )
            found = asyncio.run(in_turns(auditor, rate, seconds, rounds))
            auditor.sync.close()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    assert isinstance(found, dict)
    added = found["with"]["longest_ms"] - found["without"]["longest_ms"]
    return {
        "what": "milliseconds by which a coroutine that sleeps 1 ms wakes too late",
        "asked_entries_per_second": rate,
        "turns": rounds,
        "seconds_a_turn": seconds,
        **found,
        "longest_pause_added_ms": round(added, 3),
        "limit_ms": 5.0,
    }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--rate", type=int, default=20_000, help="entries a second")
    asked.add_argument("--seconds", type=float, default=3.0, help="seconds a turn")
    asked.add_argument("--rounds", type=int, default=5)
    options = asked.parse_args()
    json.dump(measure(options.rate, options.seconds, options.rounds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
