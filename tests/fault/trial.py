"""A trial: writers and a Redis that things happen to, and the account that is taken after it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit.entry import entry_hash_of
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query
from claude_max_audit.settings import MAX_BATCH
from claude_max_audit.sink import HotSink
from claude_max_audit.spool.adoption import adopt_dead_writers
from claude_max_audit.spool.folder import segments_in, writer_folders

HERE = Path(__file__).resolve().parent
FULL = os.environ.get("FAULTS") == "full"
"""Whether `make fault` runs; `make test` runs a short form of every trial."""

PATIENCE_SECONDS = 150.0


def times(full: int, short: int) -> int:
    """How many faults a trial tries."""
    return full if FULL else short


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it holds, or fail and say what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


class Trial:
    """One Redis, one home of many writers, and the ids that they were given."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.notes = folder / "notes"
        self.notes.mkdir(parents=True)
        self.redis = EmbeddedRedis(folder / "redis").start(child=True)
        self.url = self.redis.url
        self.heard: set[str] = set()
        self._numbers = count()
        self._writers: dict[Path, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        """Stop all."""
        for writer in self._writers.values():
            writer.kill()
            writer.wait()
        self.redis.stop()

    def start_writer(self, durability: str = "process") -> Path:
        """Start a program that logs; returns where it notes its ids."""
        number = next(self._numbers)
        notes = self.notes / f"{number}.ids"
        self._writers[notes] = subprocess.Popen(
            [
                *(sys.executable, HERE / "writer_program.py", self.url, self.home, notes),
                *(f"agent{number % 7}", durability),
            ]
        )
        return notes

    def have_noted(self, writers: list[Path]) -> bool:
        """Whether each of these writers was given an id."""
        return all(notes.exists() and notes.stat().st_size > 0 for notes in writers)

    def kill_writer(self, notes: Path) -> None:
        """End a writer with SIGKILL."""
        writer = self._writers.pop(notes)
        writer.kill()
        assert writer.wait() == -signal.SIGKILL

    def stop_writers(self) -> None:
        """Have every writer finish, and wait for it."""
        for notes in self._writers:
            notes.with_name(f"{notes.name}.stop").touch()
        for writer in self._writers.values():
            assert writer.wait(PATIENCE_SECONDS) == 0
        self._writers.clear()

    def kill_redis(self, afterwards: str, chance: random.Random) -> None:
        """End Redis with SIGKILL and start it again, with its file "whole", "behind" or "gone"."""
        child = self.redis._child
        assert child is not None
        file = self._append_only_file()
        if afterwards == "behind":
            wait_for(lambda: file.exists() and file.stat().st_size > 0, "the append-only file")
        child.kill()
        child.wait()
        self.redis._child = None
        if afterwards == "behind":
            size = file.stat().st_size
            os.truncate(file, size - chance.randrange(min(size, 400_000)))
        elif afterwards == "gone":
            shutil.rmtree(self.redis.directory / "appendonlydir", ignore_errors=True)
            (self.redis.directory / "appendonly.aof").unlink(missing_ok=True)
        self.redis.start(child=True)

    def _append_only_file(self) -> Path:
        """The file that Redis appends to: in a folder from version 7 on."""
        found = sorted((self.redis.directory / "appendonlydir").glob("*.incr.aof"))
        return found[-1] if found else self.redis.directory / "appendonly.aof"

    def account(self, *, unheard: int) -> int:
        """Carry what is spooled; every id that was given is there once, and every figure agrees.

        `unheard` is how many processes ended between the call and their note of its id.
        Returns the number of entries.
        """
        for notes in self.notes.glob("*.ids"):
            # A killed writer may leave half a line; its call had returned, nobody heard of it.
            lines = notes.read_text().split("\n")
            self.heard.update(lines[:-1])
        with HotStoreAt(self.url) as hot:
            self._carry_all(hot)
            return self._compare(hot, unheard)

    def _carry_all(self, hot: HotStore) -> None:
        sink = HotSink(hot, "after-the-trial", MAX_BATCH, 0.0)
        spool = self.home / "spool"

        def is_empty() -> bool:
            adopt_dead_writers(spool, sink)
            return not any(writer_folders(spool))

        wait_for(is_empty, "an empty spool")
        assert not (spool / "rejected").exists()
        for unborn in spool.glob("*.new"):
            assert segments_in(unborn) == []  # Killed before it had its name, and any entry.

    def _compare(self, hot: HotStore, unheard: int) -> int:
        found: list[str] = []
        numbers: dict[str, list[int]] = defaultdict(list)
        agents: dict[str, int] = defaultdict(int)
        for chunk in hot.scan(Query()):
            for entry in chunk:
                assert entry.entry_hash == entry_hash_of(entry.canonical_bytes())
                found.append(entry.entry_id)
                numbers[entry.writer_id].append(entry.writer_seq)
                agents[entry.agent_id] += 1
        lost = self.heard.difference(found)
        assert not lost, f"{len(lost)} of {len(self.heard)} entries are lost"
        assert len(set(found)) == len(found)
        assert len(found) - len(self.heard) <= unheard
        for writer, seqs in numbers.items():
            assert sorted(seqs) == list(range(1, len(seqs) + 1)), f"numbers of {writer}"
        assert hot.page(Query(), 1, 0).total == len(found)
        assert hot.figures(datetime.now(UTC)).entries == len(found)
        assert sum(hot.days().values()) == len(found)
        for agent, held in agents.items():
            assert hot.count(Query(where={"agent_id": (agent,)})) == held, agent
        return len(found)


class HotStoreAt:
    """A hot store that is closed at the end of a `with`."""

    def __init__(self, url: str) -> None:
        self._hot = HotStore.connect(url)

    def __enter__(self) -> HotStore:
        return self._hot

    def __exit__(self, *exc: object) -> None:
        self._hot.close()
