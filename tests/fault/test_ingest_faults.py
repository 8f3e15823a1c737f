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
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import CUT, WITHHOLD, Proxy
from trial import HERE, Trial, times, wait_for

from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.errors import AuditError, SpoolFullError
from claude_max_audit.spool.spool import Spool

pytestmark = pytest.mark.timeout(1_800 if times(1, 0) else 180)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path / "trial")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _the_account_waits_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the account adopts in this process, when nothing happens to Redis any more."""
    monkeypatch.setattr("claude_max_audit.spool.adoption.LOSS_SECONDS", 0.2)


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
            wait_for(partial(trial.have_noted, [notes]), "the writer's first entry")
        time.sleep(chance.uniform(0, 0.2))  # The moment of the fault, not a wait for anything.
        trial.kill_writer(notes)
    tell("writers killed", kills, trial.account(unheard=kills))


@pytest.mark.parametrize("afterwards", ["whole", "behind", "gone"])
def test_a_redis_that_is_killed_while_writers_go_on(
    trial: Trial, chance: random.Random, afterwards: str
) -> None:
    kills = times(17, 2)
    writers = [trial.start_writer(), trial.start_writer()]
    wait_for(partial(trial.have_noted, writers), "the writers")
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


@pytest.mark.parametrize("afterwards", ["whole", "behind", "gone"])
def test_writers_and_their_redis_that_are_killed_together(
    chance: random.Random, tmp_path: Path, afterwards: str
) -> None:
    rounds, killed, entries = times(12, 1), 0, 0
    for number in range(rounds):
        trial = Trial(tmp_path / str(number))
        try:
            writers = [trial.start_writer() for _ in range(3)]
            wait_for(partial(trial.have_noted, writers), "the writers")
            time.sleep(chance.uniform(0, 0.5))
            faults = [partial(trial.kill_redis, afterwards, chance)]
            faults += [partial(trial.kill_writer, notes) for notes in writers]
            for fault in chance.sample(faults, len(faults)):
                fault()
                time.sleep(chance.uniform(0, 0.1))
            killed += len(faults)
            entries += trial.account(unheard=len(writers))
        finally:
            trial.close()
    tell(f"writers and Redis killed, its file {afterwards}", killed, entries)


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
    monkeypatch.setattr("claude_max_audit.spool.kept.LOSS_SECONDS", 0.0)
    monkeypatch.setattr("claude_max_audit.writer.HOUSEKEEPING_SECONDS", 0.02)
    monkeypatch.setattr("claude_max_audit.trail.Spool", partial(Spool, segment_bytes=128 * 1024))
    if step == "unlink":
        monkeypatch.setenv("AUDIT_KEEP_BYTES", "400000")  # So that files are removed.
    monkeypatch.setattr(os, step, failing(getattr(os, step), persisted, chance, struck))
    made = ClaudeMaxAuditor(
        redis_url=trial.url,
        home=trial.home,
        storage_backend="redis",
        durability="disk" if step.startswith("f") else "process",
        overflow="raise",
    )
    refused = failed = 0
    for number in range(times(1_500, 150)):
        try:
            content = "x" * chance.randint(1, 60_000)
            trial.heard.add(made.sync.log_message(f"agent{number % 7}", "b", content=content))
        except SpoolFullError:
            refused += 1
        except OSError:
            failed += 1  # No folder yet; or not on the disk, but on its way to Redis.
    flush_until_done(made)
    if step not in ("unlink", "posix_fallocate"):  # With those, kept ones gave way.
        # What is kept can still be read, whatever failed about its file.
        with redis.Redis.from_url(trial.url) as client:
            client.flushall()
        accepted = made._trail.counts[0]
        wait_for(lambda: made.sync.get_metrics().total_entries_hot == accepted, "what was lost")
    made.sync.close()
    monkeypatch.undo()
    assert struck[step] > 0
    assert refused == 0 or step == "posix_fallocate"
    assert failed == 0 or step in ("rename", "fdatasync", "fsync")
    entries = trial.account(unheard=failed)
    tell(f"disk: {step} fails", struck[step], entries)


def failing(
    real: Callable[..., Any], persisted: bool, chance: random.Random, struck: Counter[str]
) -> Callable[..., Any]:
    """A system call that fails one time in four, after having done its work or without."""
    calls = count(1)

    def call(*args: Any, **options: Any) -> Any:
        fails = next(calls) == 2 or chance.random() < 0.25
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
