"""What one logging call costs its caller: the auditor beside the two usual ways, in turns.

Each round gives every contender the same number of calls with the same message, in an order
that rotates, so that what else runs on the machine meets all alike. A contender's background work
is waited for before the next one begins, so that nobody pays for another's. The store of the
auditor is a real Redis with its append-only file on, and its writer thread works meanwhile.

Run it with `make bench`; data goes to bench/scratch and is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import logging.handlers
import queue
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median, quantiles
from time import perf_counter_ns

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import ClaudeMaxAuditor, MessageType

SCRATCH = Path(__file__).resolve().parent / "scratch" / "ingest_latency"
CONTENT = "Please analyze the provided context and report what changed. " * 8
"""About 480 characters: the middle of what agents say to each other."""

Call = Callable[[int], Awaitable[None]]
Settle = Callable[[], None]


@dataclass
class Contender:
    """One way to log: its call, what waits for its background work, and what was measured."""

    call: Call
    settle: Settle
    calls_ns: list[int] = field(default_factory=list)
    stored_ns: list[float] = field(default_factory=list)
    """Nanoseconds an entry, of whole turns, until all of a turn was in the store."""


class JsonLines(logging.Formatter):
    """One JSON object a record, as log shippers take it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps({"at": at, "content": record.getMessage(), **record.fields})  # type: ignore[attr-defined]


@contextmanager
def auditor_call(folder: Path) -> Iterator[Contender]:
    """`await auditor.log_message(...)`, in the spool on return."""
    redis = EmbeddedRedis(folder / "redis").start()
    auditor = ClaudeMaxAuditor(redis_url=redis.url, home=folder, storage_backend="redis")

    async def call(number: int) -> None:
        await auditor.log_message(
            "coordinator", "worker", MessageType.REQUEST, CONTENT, metadata={"number": number}
        )

    try:
        yield Contender(call, auditor.sync.flush_all)
    finally:
        auditor.sync.close()
        redis.stop()


@contextmanager
def queue_handler_call(folder: Path) -> Iterator[Contender]:
    """`logger.info(...)` through `QueueHandler` to a file of JSON lines; in memory on return."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue()
    file = logging.FileHandler(folder / "audit.log")
    file.setFormatter(JsonLines())
    listener = logging.handlers.QueueListener(waiting, file)
    logger = logging.Logger("bench", logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    listener.start()

    async def call(number: int) -> None:
        fields = {"from": "coordinator", "to": "worker", "type": "request", "number": number}
        logger.info(CONTENT, extra={"fields": fields})

    try:
        yield Contender(call, waiting.join)
    finally:
        listener.stop()
        file.close()


@contextmanager
def sqlite_call(folder: Path) -> Iterator[Contender]:
    """One INSERT and commit in WAL mode, synchronous=NORMAL; in the file on return."""
    db = sqlite3.connect(folder / "audit.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE entry (at TEXT, sender TEXT, addressee TEXT, content TEXT, more TEXT)")

    async def call(number: int) -> None:
        db.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?)",
            (
                datetime.now(UTC).isoformat(),
                "coordinator",
                "worker",
                CONTENT,
                json.dumps({"number": number}),
            ),
        )

    try:
        yield Contender(call, lambda: None)
    finally:
        db.close()


CONTENDERS = {
    "auditor.log_message": auditor_call,
    "logging QueueHandler, JSON file": queue_handler_call,
    "SQLite WAL insert": sqlite_call,
}


async def in_turns(contenders: list[Contender], rounds: int, per_round: int) -> None:
    """Measure every call of every contender; the first round warms up and is dropped."""
    for number in range(rounds + 1):
        shift = number % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            call, times = contender.call, []
            turn_started = perf_counter_ns()
            for i in range(per_round):
                started = perf_counter_ns()
                await call(i)
                times.append(perf_counter_ns() - started)
            contender.settle()
            if number:
                contender.calls_ns += times
                contender.stored_ns.append((perf_counter_ns() - turn_started) / per_round)


def show(contenders: dict[str, Contender]) -> None:
    """Print one line a contender: microseconds, and how they stand to the auditor's."""
    own = fmean(next(iter(contenders.values())).calls_ns)
    print(f"{'microseconds':34}{'median':>9}{'mean':>9}{'p99':>9}{'stored':>9}{'mean, ratio':>14}")
    for name, contender in contenders.items():
        times = contender.calls_ns
        p99 = quantiles(times, n=100)[98]
        shown = (median(times), fmean(times), p99, median(contender.stored_ns))
        figures = "".join(f"{ns / 1000:9.1f}" for ns in shown)
        print(f"{name:34}{figures}{fmean(times) / own:14.2f}")


def main() -> None:
    """Run the rounds and print the table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--rounds", type=int, default=12)
    asked.add_argument("--calls", type=int, default=2_000, help="calls a round and contender")
    options = asked.parse_args()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            contenders = {
                name: stack.enter_context(make(SCRATCH)) for name, make in CONTENDERS.items()
            }
            asyncio.run(in_turns(list(contenders.values()), options.rounds, options.calls))
        show(contenders)
        print(f"{options.rounds} turns of {options.calls} calls each, after one to warm up")
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    main()
