"""How many entries a second reach Redis, beside what `redis-cli --pipe` makes of the same bytes.

First the library's commands are recorded, byte for byte, between it and Redis. Then, in turns on
an emptied Redis: one process logs and flushes; four processes do; and `redis-cli --pipe` replays
the recorded commands, which is as fast as this Redis takes them. Every index and counter is
kept, and a turn ends when Redis has answered for its last entry.

The result is JSON: entries a second (medians of the turns) and their ratio to the replay.
`drained` is the writer alone: the entries stood in the spool already.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

import redis

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import ClaudeMaxAuditor, MessageType

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"throughput-{os.getpid()}"
CONTENT = "Please analyze the provided context and report what changed. " * 10
"""About 600 bytes: the middle of what agents say to each other."""

PROCESSES = 4
_CHUNK = 256 * 1024


class Recorder:
    """Stands between the library and Redis and writes down every byte that goes to Redis."""

    def __init__(self, redis_socket: Path, place: Path) -> None:
        self.url = f"unix://{place}"
        self.sent = bytearray()
        self._redis_socket = str(redis_socket)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(place))
        self._door.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._door.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._redis_socket)
            threading.Thread(target=self._carry, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, recorded: bool) -> None:
        while data := source.recv(_CHUNK):
            if recorded:
                self.sent += data
            target.sendall(data)
        target.close()


def open_auditor(url: str, home: Path) -> ClaudeMaxAuditor:
    """An auditor as a swarm's process opens it."""
    return ClaudeMaxAuditor(redis_url=url, home=home)


def log(auditor: ClaudeMaxAuditor, entries: int) -> None:
    """Log messages of twenty agents in five swarms."""
    say = auditor.sync.log_message
    for number in range(entries):
        say(
            f"agent-{number % 20}",
            f"agent-{(number + 7) % 20}",
            MessageType.REQUEST,
            CONTENT,
            swarm_id=f"swarm-{number % 5}",
            metadata={"number": number},
        )


def one_process(url: str, home: Path, entries: int) -> float:
    """Seconds from the first call until Redis has answered for the last entry."""
    auditor = open_auditor(url, home)
    started = perf_counter()
    log(auditor, entries)
    auditor.sync.flush_all()
    took = perf_counter() - started
    auditor.sync.close()
    return took


def drained(redis_server: EmbeddedRedis, home: Path, entries: int) -> float:
    """Seconds to carry a spool that filled while Redis did not answer."""
    auditor = open_auditor(redis_server.url, home)
    with redis.Redis.from_url(redis_server.url) as client:
        client.client_pause(600_000, all=False)
        log(auditor, entries)
        client.client_unpause()
    started = perf_counter()
    auditor.sync.flush_all()
    took = perf_counter() - started
    auditor.sync.close()
    return took


def _work(url: str, home: Path, entries: int, ready: int, go: int) -> None:
    auditor = open_auditor(url, home)
    os.write(ready, b"r")
    os.read(go, 1)
    log(auditor, entries)
    auditor.sync.flush_all()
    os.write(ready, b"d")
    os.read(go, 1)
    auditor.sync.close()


def many_processes(url: str, home: Path, entries: int) -> float:
    """Seconds until each of four processes has had the answer for its last entry."""
    told, ready = os.pipe()
    go, say_go = os.pipe()
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_work, args=(url, home, entries // PROCESSES, ready, go))
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    _await(told)
    started = perf_counter()
    os.write(say_go, b"g" * PROCESSES)
    _await(told)
    took = perf_counter() - started
    os.write(say_go, b"g" * PROCESSES)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for end in (told, ready, go, say_go):
        os.close(end)
    return took


def _await(pipe: int) -> None:
    seen = 0
    while seen < PROCESSES:
        seen += len(os.read(pipe, PROCESSES))


def replayed(redis_socket: Path, commands: Path) -> float:
    """Seconds that `redis-cli --pipe` takes for the recorded commands."""
    started = perf_counter()
    with commands.open("rb") as source:
        done = subprocess.run(
            ["redis-cli", "-s", str(redis_socket), "--pipe"],
            stdin=source,
            capture_output=True,
            text=True,
            check=True,
        )
    took = perf_counter() - started
    assert "errors: 0" in done.stdout, done.stdout
    return took


def record(redis_server: EmbeddedRedis, entries: int) -> Path:
    """Log through a recorder and keep what it heard; returns the file of commands."""
    recorder = Recorder(redis_server.socket, SCRATCH / "recorder.sock")
    one_process(recorder.url, SCRATCH / "recorded", entries)
    commands = SCRATCH / "commands.resp"
    commands.write_bytes(recorder.sent[recorder.sent.index(b"*4\r\n$4\r\nHSET") :])
    return commands


def measure(entries: int, rounds: int) -> dict[str, object]:
    """All turns; the first of each warms up and does not count."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        with EmbeddedRedis(SCRATCH / "redis") as server:
            commands = record(server, entries)
            # A home of its own for each turn: what one turn left in its spool would be sent
            # again in the next, because the emptied Redis looks like one that lost it.
            homes = (SCRATCH / f"home-{number}" for number in count())
            contenders: dict[str, Callable[[], float]] = {
                "redis-cli --pipe": lambda: replayed(server.socket, commands),
                "one process": lambda: one_process(server.url, next(homes), entries),
                "four processes": lambda: many_processes(server.url, next(homes), entries),
                "drained": lambda: drained(server, next(homes), entries),
            }
            took: dict[str, list[float]] = {name: [] for name in contenders}
            with redis.Redis.from_url(server.url) as client:
                for number in range(rounds + 1):
                    for name, turn in contenders.items():
                        client.flushall()
                        seconds = turn()
                        if number:
                            took[name].append(seconds)
            return figures(took, entries, commands.stat().st_size)
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


def figures(took: dict[str, list[float]], entries: int, size: int) -> dict[str, object]:
    """Medians as entries a second, and as parts of what the replay reaches."""
    rates = {name: entries / median(seconds) for name, seconds in took.items()}
    limit = rates["redis-cli --pipe"]
    return {
        "what": "entries a second until Redis has answered, all indexes and counters kept",
        "entries": entries,
        "turns": len(took["one process"]),
        "bytes_sent_an_entry": round(size / entries),
        "entries_per_second": {name: round(rate) for name, rate in rates.items()},
        "ratio_to_replay": {name: round(rate / limit, 3) for name, rate in rates.items()},
        "wanted_ratio": {"one process": 0.6, "four processes": 0.9},
    }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=40_000, help="entries a turn")
    asked.add_argument("--rounds", type=int, default=5)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.rounds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
