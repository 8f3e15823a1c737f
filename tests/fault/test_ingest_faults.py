"""Nothing that `log_*` returned for is lost or doubled, whatever is killed, cut or full.

`make fault` tries hundreds of faults and prints how many; `make test` a few of each sort. What
goes wrong when is drawn from a seed that a failure shows (FAULT_SEED sets it).
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import CUT, WITHHOLD, Proxy
from trial import HERE, Trial, times, wait_for

from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.errors import AuditError, SpoolFullError

pytestmark = pytest.mark.timeout(1_800 if times(1, 0) else 180)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path / "trial")
    yield made
    made.close()


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(2**32))
    print(f"FAULT_SEED={seed}")
    return random.Random(seed)


def tell(what: str, faults: int, entries: int) -> None:
    print(f"{what}: {faults} faults, {entries:,} entries, each found once")


def test_writers_that_are_killed_at_any_moment(trial: Trial, chance: random.Random) -> None:
    kills = times(200, 6)
    for number in range(kills):
        notes = trial.start_writer("disk" if number % 5 == 4 else "process")
        if number % 5:
            wait_for(lambda at=notes: trial.has_noted(at), "the writer's first entry")  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.2))  # The moment of the fault, not a wait for anything.
        trial.kill_writer(notes)
    tell("writers killed", kills, trial.account(unheard=kills))


@pytest.mark.parametrize("afterwards", ["whole", "behind", "gone"])
def test_a_redis_that_is_killed_while_writers_go_on(
    trial: Trial, chance: random.Random, afterwards: str
) -> None:
    kills = times(17, 2)
    for notes in (trial.start_writer(), trial.start_writer()):
        wait_for(lambda at=notes: trial.has_noted(at), "the writers")  # type: ignore[misc]
    for number in range(kills):
        time.sleep(chance.uniform(0.02, 0.7))
        trial.kill_redis(afterwards, chance)
        if number == kills // 2:
            with redis.Redis.from_url(trial.url) as client:
                client.flushall()
    trial.stop_writers()
    tell(f"Redis killed, its file {afterwards}, emptied once", kills + 1, trial.account(unheard=0))


@pytest.mark.parametrize("fault", [CUT, WITHHOLD])
def test_connections_that_are_cut_and_answers_that_never_come(
    trial: Trial, chance: random.Random, tmp_path: Path, fault: str
) -> None:
    proxy = Proxy(trial.home.parent / "proxy.sock", str(trial.redis.socket))
    url = f"{proxy.url}?socket_timeout=0.2"
    made = ClaudeMaxAuditor(redis_url=url, home=trial.home, storage_backend="redis")
    faults = times(50, 5)
    try:
        for number in range(faults):
            proxy.arm(fault, chance.randrange(1, 60_000))
            while proxy.armed:
                for _ in range(chance.randint(1, 300)):
                    trial.heard.add(made.sync.log_message(f"agent{number % 7}", "b", content="x"))
                flush_until_done(made)
        accepted, written, spooled, dropped = made._trail.counts
        assert (accepted, spooled, dropped) == (written, 0, 0)
        assert proxy.struck == faults
    finally:
        made.sync.close()
        proxy.close()
    tell(f"connections {fault}", faults, trial.account(unheard=0))


def flush_until_done(made: ClaudeMaxAuditor) -> None:
    def done() -> bool:
        try:
            made.sync.flush_all(20)
        except AuditError:
            return False
        return True

    wait_for(done, "everything to be written")


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed but persisted"])
@pytest.mark.parametrize("step", ["posix_fallocate", "fdatasync", "rename", "unlink", "fsync"])
def test_a_disk_that_fails_at_any_step(
    trial: Trial,
    chance: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    persisted: bool,
) -> None:
    struck: Counter[str] = Counter()
    monkeypatch.setattr(os, step, failing(getattr(os, step), persisted, chance, struck))
    monkeypatch.setattr("claude_max_audit.spool.kept.LOSS_SECONDS", 0.0)
    made = ClaudeMaxAuditor(
        redis_url=trial.url,
        home=trial.home,
        storage_backend="redis",
        durability="disk" if "sync" in step else "process",
        overflow="raise",
    )
    refused = not_on_disk = 0
    for number in range(times(1_500, 150)):
        try:
            content = "x" * chance.randint(1, 60_000)
            trial.heard.add(made.sync.log_message(f"agent{number % 7}", "b", content=content))
        except SpoolFullError:
            refused += 1
        except OSError:
            not_on_disk += 1  # It is in the spool all the same, and goes to Redis.
    flush_until_done(made)
    monkeypatch.undo()
    made.sync.close()
    if step in ("posix_fallocate", "fdatasync"):
        assert struck[step] > 0
    assert (refused > 0) <= (step == "posix_fallocate")
    entries = trial.account(unheard=not_on_disk)
    tell(f"disk: {step} fails", struck[step], entries)


def failing(
    real: Callable[..., Any], persisted: bool, chance: random.Random, struck: Counter[str]
) -> Callable[..., Any]:
    """A system call that fails one time in four, after having done its work or without."""

    def call(*args: Any, **options: Any) -> Any:
        fails = chance.random() < 0.25
        if not fails or persisted:
            answer = real(*args, **options)
        if fails:
            struck[real.__name__] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return answer

    return call


def test_thousands_of_short_processes(trial: Trial) -> None:
    processes = times(10_000, 120)
    subprocess.run(
        [
            *(sys.executable, HERE / "short_programs.py", trial.url, trial.home),
            *(trial.notes / "short.ids", str(processes)),
        ],
        check=True,
    )
    entries = trial.account(unheard=0)
    assert entries == 3 * processes
    tell("short processes, half of them without a farewell", processes, entries)


def test_a_blocked_event_loop_does_not_hold_up_the_writer(trial: Trial) -> None:
    made = ClaudeMaxAuditor(redis_url=trial.url, home=trial.home, storage_backend="redis")

    async def log_then_block() -> None:
        for number in range(2_000):
            trial.heard.add(await made.log_message(f"agent{number % 7}", "b", content="x"))
        wait_for(lambda: len(made.batch_queue) == 0, "the writer, without the loop")

    asyncio.run(log_then_block())
    made.sync.close()
    tell("event loop blocked", 1, trial.account(unheard=0))
