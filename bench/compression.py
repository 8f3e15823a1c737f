"""What compressing large entries in Redis saves, and what it costs (`AUDIT_HOT_COMPRESS_BYTES`).

For several sizes of content, the same entries are written plain and compressed in turns, each time
to an emptied Redis, and a page of 100 of them is read back.

The result is JSON: bytes of Redis' memory an entry, microseconds to write one, milliseconds to
read a page, plain and compressed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

import redis

from claude_max_audit.hot.members import chunks_of
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import Query
from claude_max_audit.recorder import Recorder, encode_canonical
from claude_max_audit.vocabulary import AuditEntryType
from loaded_store import BATCH, own_redis
from traffic import AGENTS, SWARMS, content

SCRATCH = Path(__file__).resolve().parent / "scratch" / "compression"
SIZES = (600, 2_000, 8_000, 32_000)
PAGE = 100
_PAGES = 5


def entries_of(size: int, count: int) -> Iterator[Stamped]:
    """Entries with contents of one size."""
    chance = Random(size)
    recorder = Recorder("0" * 16)
    for _ in range(count):
        entry = recorder.make(
            AuditEntryType.CONTEXT_ACCESS,
            chance.choice(AGENTS),
            swarm_id=chance.choice(SWARMS),
            content=content(chance, size),
        )
        yield Stamped(entry, encode_canonical(entry))


def turn(client: redis.Redis, hot: HotStore, entries: list[Stamped]) -> dict[str, float]:
    """Write the entries to an emptied Redis and read pages of them."""
    client.flushall()
    before = _used(client)
    started = perf_counter()
    for batch in chunks_of(entries, BATCH):
        hot.append_batch(batch)
    written = perf_counter() - started
    taken = _used(client) - before
    pages = []
    for _ in range(_PAGES):
        started = perf_counter()
        hot.page(Query(), PAGE, 0)
        pages.append(perf_counter() - started)
    return {
        "bytes_an_entry": taken / len(entries),
        "write_us_an_entry": written / len(entries) * 1e6,
        "page_ms": median(pages) * 1e3,
    }


def _used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"]) - int(info["mem_clients_normal"])


def measure(count: int, rounds: int) -> dict[str, object]:
    """All sizes, plain and compressed in turns; the first turns warm up."""
    results: dict[str, object] = {}
    with own_redis(SCRATCH) as server, redis.Redis.from_url(server.url) as client:
        stores = {
            "plain": HotStore.connect(server.url),
            "compressed": HotStore.connect(server.url, compress_bytes=1),
        }
        for size in SIZES:
            entries = list(entries_of(size, max(PAGE, count * SIZES[0] // size)))
            turns: dict[str, list[dict[str, float]]] = {name: [] for name in stores}
            for number in range(rounds + 1):
                for name, hot in stores.items():
                    measured = turn(client, hot, entries)
                    if number:
                        turns[name].append(measured)
            results[f"{size} bytes"] = {name: _medians(turns[name]) for name in stores}
        for hot in stores.values():
            hot.close()
    return {
        "what": "plain entries and compressed ones, by size of content",
        "turns": rounds,
        "sizes": results,
    }


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(median(one[name] for one in turns), 2) for name in turns[0]}


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument(
        "--entries", type=int, default=10_000, help="entries of the smallest size; fewer of others"
    )
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.rounds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
