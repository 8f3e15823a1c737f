"""Parts that die, hang or do not come up, with real processes; who is up in a home."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from audit_flows.cli import main
from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.supervisor import supervisor as supervising
from audit_flows.supervisor.leftovers import end_leftovers, leftovers, mark
from audit_flows.supervisor.part import ProcessPart, RedisPart
from audit_flows.supervisor.standing import (
    AlreadyUpError,
    Standing,
    hold,
    holder,
    standing,
)
from audit_flows.supervisor.supervisor import PartFailedError, Supervisor

SLEEPS = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def part_of(folder: Path, program: str, answers: Callable[[], bool] = lambda: True) -> ProcessPart:
    environment = {**os.environ, **mark(folder)}
    arguments = [sys.executable, "-c", program]
    return ProcessPart("a part", arguments, environment, folder / "part.log", answers)


@contextmanager
def watched(part: ProcessPart) -> Iterator[list[str]]:
    """Bring a part up and watch it while the block runs; gives what was told."""
    told: list[str] = []
    supervisor, stop = Supervisor([part], told.append), threading.Event()
    supervisor.bring_up(part, stop)
    thread = threading.Thread(target=supervisor.watch, args=(stop,))
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()
        supervisor.stop()
    assert not part.alive()


def is_another(part: ProcessPart, before: int | None) -> bool:
    return part.pid != before and part.alive()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def test_what_dies_is_started_again_after_ever_longer_waits(tmp_path: Path) -> None:
    part = part_of(tmp_path, SLEEPS)
    with watched(part) as told:
        for _ in range(2):
            killed = part.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            until(partial(is_another, part, killed), "a new process")
    deaths = [line for line in told if "signal 9" in line]
    assert [line.rpartition("again in ")[2] for line in deaths] == ["1 s", "2 s"]


def test_what_hangs_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "HANG_SECONDS", 0.2)
    monkeypatch.setattr(supervising, "ASK_SECONDS", 0.0)
    deaf = threading.Event()
    part = part_of(tmp_path, SLEEPS, lambda: not deaf.is_set())
    with watched(part) as told:
        hanging = part.pid
        deaf.set()
        until(lambda: any("does not answer" in line for line in told), "that it hangs")
        until(partial(is_another, part, hanging), "a new process")
        deaf.clear()


def test_a_busy_redis_is_neither_ended_nor_started_again(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "redis")
    part = RedisPart(redis)
    assert not part.alive()
    part.start()
    try:
        server = int((tmp_path / "redis" / "redis.pid").read_text())
        os.kill(server, signal.SIGSTOP)
        assert part.alive()
        assert not part.answers()
        assert not part.hangs_when_silent
        os.kill(server, signal.SIGCONT)
        until(part.answers, "its answer")
    finally:
        part.stop()
    assert not part.alive()


def test_what_does_not_come_up_is_told_with_its_log(tmp_path: Path) -> None:
    part = part_of(tmp_path, "raise SystemExit(3)", lambda: False)
    supervisor = Supervisor([part], lambda _: None)
    with pytest.raises(PartFailedError, match=rf"ended with code 3 \({tmp_path}/part.log\)"):
        supervisor.bring_up(part, threading.Event())


def test_leftovers_of_one_home_are_ended_and_those_of_another_are_not(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with (
        subprocess.Popen([sys.executable, "-c", STUBBORN], env={**os.environ, **mark(ours)}) as one,
        subprocess.Popen([sys.executable, "-c", SLEEPS], env={**os.environ, **mark(theirs)}) as two,
    ):
        until(lambda: leftovers(ours) and leftovers(theirs), "both processes")
        one.send_signal(signal.SIGSTOP)  # so that it cannot end by itself

        assert end_leftovers(ours) == 1

        assert not leftovers(ours)
        assert two.poll() is None
        assert end_leftovers(theirs) == 1
        assert not leftovers(theirs)
    assert end_leftovers(ours) == 0


def test_up_starts_nothing_when_the_redis_that_is_named_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = f"unix://{tmp_path}/gone.sock"
    ports = ["--port", "0", "--files-port", "0"]
    code = main(["--home", str(tmp_path / "home"), "--redis-url", gone, "up", *ports])
    assert code == 1
    assert f"{tmp_path}/gone.sock does not answer" in capsys.readouterr().err
    assert leftovers(tmp_path / "home") == []
    assert holder(tmp_path / "home") is None


def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["--home", str(tmp_path / "home"), "up", "--port", str(port)])
    assert code == 2
    assert f"port {port} is taken" in capsys.readouterr().err


def test_nothing_is_down_where_nothing_was_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path / "home"), "down"]) == 0
    assert capsys.readouterr().out == "nothing was up\n"


def test_one_is_up_in_a_home_at_a_time_and_a_dead_one_is_not_up(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with hold(tmp_path) as held:
        assert holder(tmp_path) == os.getpid()
        assert standing(tmp_path) is None
        up = held.publish(
            Standing(
                pid=os.getpid(), since=datetime.now(UTC), api_url="a", ui_url="u", files_url="f"
            )
        )
        assert standing(tmp_path) == up
        assert not up.ready
        assert held.publish_ready(up).ready
        with pytest.raises(AlreadyUpError, match="already up"), hold(tmp_path):
            pass
    assert standing(tmp_path) is None
