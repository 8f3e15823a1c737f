"""What a process holds in memory while Redis is away, and how fast it catches up afterwards.

One process logs at a steady rate while its Redis is stopped; its resident memory is read every
half second. Then Redis is started, and the time until all is written is taken. The spool is the
queue, so memory stays flat however long Redis is away.

The result is JSON. `--seconds` (or BENCH_AWAY_SECONDS) sets how long Redis is away: a minute
unless told otherwise, ten minutes (600) for the figure that is promised.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path
from time import perf_counter

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import ClaudeMaxAuditor, MessageType

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"redis_away-{os.getpid()}"
CONTENT = "Please analyze the provided context and report what changed. " * 10
LIMIT_BYTES = 64 * 1024 * 1024
"""The bound that is promised for the queue in memory."""

MIB = 1024 * 1024


def resident_bytes() -> int:
    """Resident memory of this process, pages of mapped files included."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        # Elsewhere only the greatest so far is told, in bytes on macOS.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


class Memory:
    """Reads the resident memory every half second, in a thread of its own."""

    def __init__(self) -> None:
        self.start = self.most = resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.most = max(self.most, resident_bytes())

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()


def log_for(auditor: ClaudeMaxAuditor, rate: int, seconds: float) -> int:
    """Log at a steady rate; returns how many entries that were."""
    started, done = perf_counter(), 0
    while (passed := perf_counter() - started) < seconds:
        while done < passed * rate:
            auditor.sync.log_message(
                f"agent-{done % 20}", "worker", MessageType.REQUEST, CONTENT, swarm_id="away"
            )
            done += 1
        time.sleep(0.002)
    return done


def measure(rate: int, seconds: float) -> dict[str, object]:
    """Log without Redis, start it again, wait until all is there."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        with EmbeddedRedis(SCRATCH / "redis") as redis:
            auditor = ClaudeMaxAuditor(redis_url=redis.url, home=SCRATCH / "home")
            log_for(auditor, rate, 1.0)
            auditor.sync.flush_all()
            redis.stop()
            memory = Memory()
            logged = log_for(auditor, rate, seconds)
            away_most = memory.most
            spooled = len(auditor.batch_queue)
            redis.start()
            started = perf_counter()
            auditor.sync.flush_all()
            took = perf_counter() - started
            memory.close()
            metrics = auditor.sync.get_metrics()
            auditor.sync.close()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    return {
        "what": "memory of a process whose Redis is away, and the way back",
        "seconds_away": seconds,
        "entries_logged_meanwhile": logged,
        "entries_spooled": spooled,
        "memory_before_mib": round(memory.start / MIB, 1),
        "memory_most_while_away_mib": round(away_most / MIB, 1),
        "memory_most_while_catching_up_mib": round(memory.most / MIB, 1),
        "memory_grown_mib": round((memory.most - memory.start) / MIB, 1),
        "limit_mib": LIMIT_BYTES / MIB,
        "caught_up_seconds": round(took, 2),
        "caught_up_entries_per_second": round(spooled / took),
        "in_redis_of_accepted": [metrics.written, metrics.accepted],
    }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--rate", type=int, default=5_000, help="entries a second")
    asked.add_argument(
        "--seconds", type=float, default=float(os.environ.get("BENCH_AWAY_SECONDS", "60"))
    )
    options = asked.parse_args()
    json.dump(measure(options.rate, options.seconds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
