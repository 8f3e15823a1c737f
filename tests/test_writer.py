"""The writer against real Redis servers that die, forget, refuse and come back."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.entry import AuditEntry, entry_hash_of
from claude_max_audit.errors import FlushIncompleteError, RedisBehindError, RedisRefusedError
from claude_max_audit.hot.mark import MARK_SECONDS, NO_MARK, Mark, MarkWatch
from claude_max_audit.hot.store import HotStore


class Server:
    """A Redis of the test's own, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.embedded = EmbeddedRedis(folder)
        self.embedded.start(child=True)
        self.url = self.embedded.url

    def kill(self) -> None:
        """End it as `kill -9` does."""
        with self.client() as client:
            process = client.info("server")["process_id"]
        os.kill(process, signal.SIGKILL)
        child = self.embedded._child
        assert child is not None
        child.wait()
        self.embedded._child = None

    def start(self, *, empty: bool = False) -> None:
        if empty:
            shutil.rmtree(self.embedded.directory / "appendonlydir")
        self.embedded.start(child=True)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "redis")
    yield made
    made.embedded.stop()


@pytest.fixture
def auditor(server: Server, tmp_path: Path) -> Iterator[ClaudeMaxAuditor]:
    made = ClaudeMaxAuditor(redis_url=server.url, home=tmp_path / "home", storage_backend="redis")
    yield made
    made.sync.close()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def log(auditor: ClaudeMaxAuditor, count: int) -> list[str]:
    return [
        auditor.sync.log_message(f"agent{n % 7}", "b", content=f"number {n}", swarm_id="s")
        for n in range(count)
    ]


def flushed(auditor: ClaudeMaxAuditor) -> None:
    """Flush, however often a try fails meanwhile."""

    def done() -> bool:
        try:
            auditor.sync.flush_all(10)
        except (FlushIncompleteError, RedisRefusedError):
            return False
        return True

    wait_for(done, "everything to be written")


def assert_holds(auditor: ClaudeMaxAuditor, ids: list[str]) -> None:
    """Every entry once, in every index, and the figures agree."""
    found = auditor.sync.search_logs({"swarm_id": "s"}, limit=len(ids) + 10)
    assert found.complete
    assert found.total_count == len(ids)
    assert sorted(e.entry_id for e in found.entries) == sorted(ids)
    by_agent = [
        auditor.sync.search_logs({"agent_id": f"agent{n}"}, limit=1).total_count for n in range(7)
    ]
    assert sum(by_agent) == len(ids)
    metrics = auditor.sync.get_metrics()
    assert metrics.accepted == metrics.written == len(ids)
    assert metrics.total_entries_hot == len(ids)


def test_a_redis_that_is_emptied_gets_everything_again(
    server: Server, auditor: ClaudeMaxAuditor, caplog: pytest.LogCaptureFixture
) -> None:
    ids = log(auditor, 2000)
    auditor.sync.flush_all()
    with server.client() as client:
        client.flushall()
    wait_for(lambda: "sent again" in caplog.text, "the idle writer to see it")
    flushed(auditor)
    assert_holds(auditor, ids)


def test_a_redis_emptied_while_entries_flow_gets_everything_again(
    server: Server, auditor: ClaudeMaxAuditor
) -> None:
    ids: list[str] = []
    with server.client() as client:
        for _ in range(6):
            ids += log(auditor, 500)
            auditor.sync.flush_all()
            client.flushall()
    ids += log(auditor, 10)
    wait_for(
        lambda: auditor.sync.search_logs({"swarm_id": "s"}, limit=1).total_count == len(ids),
        "all entries to be back",
    )
    flushed(auditor)
    assert_holds(auditor, ids)


@pytest.mark.parametrize("empty", [False, True])
def test_a_killed_redis_has_everything_after_it_came_back(
    server: Server, auditor: ClaudeMaxAuditor, empty: bool
) -> None:
    ids: list[str] = []
    for _ in range(3):
        ids += log(auditor, 700)
        server.kill()
        ids += log(auditor, 50)
        server.start(empty=empty)
        flushed(auditor)
    ids += log(auditor, 1)
    flushed(auditor)
    wait_for(
        lambda: auditor.sync.search_logs({"swarm_id": "s"}, limit=1).total_count == len(ids),
        "all entries to be back",
    )
    assert_holds(auditor, ids)


def test_a_redis_that_lost_its_last_seconds_gets_them_again(
    server: Server, auditor: ClaudeMaxAuditor
) -> None:
    ids = log(auditor, 300)
    auditor.sync.flush_all()
    folder = server.embedded.directory / "appendonlydir"
    (file,) = folder.glob("*.incr.aof")
    wait_for(lambda: file.stat().st_size > 0, "the append-only file")
    kept = file.stat().st_size
    ids += log(auditor, 300)
    auditor.sync.flush_all()
    server.kill()
    os.truncate(file, kept)  # What a power cut leaves of `appendfsync everysec`.
    server.start()
    wait_for(
        lambda: auditor.sync.search_logs({"swarm_id": "s"}, limit=1).total_count == len(ids),
        "the lost entries",
    )
    flushed(auditor)
    assert_holds(auditor, ids)


def test_what_a_process_leaves_behind_is_carried_again_if_redis_lost_it(
    server: Server, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first = ClaudeMaxAuditor(redis_url=server.url, home=home, storage_backend="redis")
    ids = log(first, 40)
    first.sync.close()
    with server.client() as client:
        assert client.exists(f"audit:entry:{ids[0]}")
        client.flushall()
    second = ClaudeMaxAuditor(redis_url=server.url, home=home, storage_backend="redis")
    ids += log(second, 1)
    wait_for(
        lambda: second.sync.search_logs({"swarm_id": "s"}, limit=1).total_count == 41,
        "the first process's entries",
    )
    spool = home / "spool"
    second.sync.flush_all()
    wait_for(lambda: len(list(spool.iterdir())) == 1, "the first one's folder to go")
    second.sync.close()


def test_a_loss_of_what_is_no_longer_here_leaves_an_entry_that_says_so(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_max_audit.spool.kept.LOSS_SECONDS", 0.0)
    monkeypatch.setenv("AUDIT_KEEP_BYTES", "100000")
    made = ClaudeMaxAuditor(redis_url=server.url, home=tmp_path / "h", storage_backend="redis")
    log(made, 3000)
    made.sync.flush_all()
    spool = made._trail._spool
    assert spool is not None
    wait_for(lambda: (spool.oldest_number() or 0) > 1, "old segments to go")
    with server.client() as client:
        client.flushall()
    wait_for(lambda: made.sync.search_logs({"event_type": "audit_gap"}).total_count == 1, "the gap")
    (gap,) = made.sync.search_logs({"event_type": "audit_gap"}).entries
    details = gap.metadata["details"]
    assert details["writer_id"] == gap.writer_id
    assert (details["first_seq"], details["reason"]) == (1, "Redis lost them")
    flushed(made)
    rest = made.sync.search_logs({"swarm_id": "s"}, limit=3000).entries
    assert sorted(e.writer_seq for e in rest) == list(range(details["last_seq"] + 1, 3001))
    made.sync.close()


def refuses(client: redis.Redis, how: str) -> Callable[[], object]:
    """Make the server refuse writes in one of its ways; returns what makes it take them."""
    config: Any = client
    if how == "READONLY":
        config.replicaof("127.0.0.1", 1)
        return lambda: config.replicaof("NO", "ONE")
    if how == "OOM":
        config.config_set("maxmemory", 1)
        return lambda: config.config_set("maxmemory", 0)
    if how == "NOREPLICAS":
        config.config_set("min-replicas-to-write", 3)
        return lambda: config.config_set("min-replicas-to-write", 0)
    config.config_set("requirepass", "secret")
    return lambda: config.config_set("requirepass", "")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("READONLY", "read only replica"),
        ("OOM", "maxmemory"),
        ("NOREPLICAS", "replicas"),
        ("NOAUTH", "authenticat"),
    ],
)
def test_a_redis_that_refuses_for_a_while_loses_nothing(
    server: Server, auditor: ClaudeMaxAuditor, how: str, says: str
) -> None:
    ids = log(auditor, 600)
    auditor.sync.flush_all()
    with server.client() as client:
        take_again = refuses(client, how)
        try:
            client.client_kill_filter(_type="normal", skipme=True)
            ids += log(auditor, 600)
            with pytest.raises(RedisRefusedError, match=says) as refused:
                auditor.sync.flush_all()
            assert refused.value.spooled > 0
            assert auditor.degraded
        finally:
            take_again()
    flushed(auditor)
    assert not auditor.degraded
    assert_holds(auditor, ids)


def test_a_redis_that_is_frozen_in_the_middle_is_waited_for(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}?socket_timeout=0.2"
    made = ClaudeMaxAuditor(redis_url=url, home=tmp_path / "home", storage_backend="redis")
    ids = log(made, 200)
    made.sync.flush_all()
    with server.client() as client:
        process = client.info("server")["process_id"]
        os.kill(process, signal.SIGSTOP)
        try:
            ids += log(made, 3000)
            with pytest.raises(FlushIncompleteError):
                made.sync.flush_all()
        finally:
            os.kill(process, signal.SIGCONT)
    flushed(made)
    assert_holds(made, ids)
    made.sync.close()


def test_spool_files_that_somebody_removes_do_not_end_the_writer(
    server: Server, auditor: ClaudeMaxAuditor, caplog: pytest.LogCaptureFixture
) -> None:
    ids = log(auditor, 500)
    auditor.sync.flush_all()
    server.kill()
    spool = auditor._trail._spool
    assert spool is not None
    ids += log(auditor, 500)
    for segment in spool.folder.glob("*.wal"):
        segment.unlink()
    ids += log(auditor, 100)
    server.start()
    flushed(auditor)
    assert_holds(auditor, ids)
    auditor.sync.close()
    assert "has vanished" in caplog.text


def test_the_counts_add_up_at_every_moment_while_threads_write(
    server: Server, auditor: ClaudeMaxAuditor
) -> None:
    stop = threading.Event()
    wrong: list[tuple[int, ...]] = []

    def watch() -> None:
        while not stop.is_set():
            counts = auditor._trail.counts
            if counts[0] != sum(counts[1:]):
                wrong.append(counts)

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=log, args=(auditor, 700)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with server.client() as client:
        client.flushall()
    flushed(auditor)
    stop.set()
    watcher.join()
    assert wrong == []
    assert auditor._trail.counts[0] == 2800


HOSTILE = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('\x00"\\\r\n*$\u2028\ufeff{}'),
    max_size=80,
)
NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*?[]\\"),
    min_size=1,
    max_size=30,
).filter(lambda text: text.strip() != "")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | HOSTILE
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)


@given(
    said=st.lists(
        st.tuples(NAME, NAME, HOSTILE, st.dictionaries(HOSTILE, JSON, max_size=4)), max_size=12
    )
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_hostile_text_comes_back_exactly_through_spool_and_redis(
    said: list[tuple[str, str, str, dict[str, Any]]], redis_url: str, tmp_path: Path
) -> None:
    made = ClaudeMaxAuditor(redis_url=redis_url, home=tmp_path, storage_backend="redis")
    ids = [
        made.sync.log_message(sender, to, content=content, metadata=metadata)
        for sender, to, content, metadata in said
    ]
    made.sync.flush_all()
    for entry_id, (sender, to, content, metadata) in zip(ids, said, strict=True):
        (entry,) = made.sync.search_logs({"entry_id": entry_id, "agent_id": sender}).entries
        assert (entry.agent_id, entry.to_agent, entry.content) == (sender, to, content)
        assert entry.metadata == metadata
        assert entry.entry_hash == entry_hash_of(entry.canonical_bytes())
        assert AuditEntry.from_json(entry.to_json()) == entry
    made.sync.close()


def test_a_mark_tells_a_loss_from_an_answer_that_did_not_arrive() -> None:
    watch = MarkWatch("here")
    assert watch.next_after() == 0
    watch.sent(Mark("w", 0, 10))
    watch.answered(Mark("w", 0, 10), 0)
    watch.sent(Mark("w", 10, 20))
    assert watch.next_after() == 20
    watch.sent(Mark("w", 20, 30))
    watch.check(10)
    watch.check(30)
    # No answer came, so both are sent again; the second had been carried out.
    watch.give_up()
    assert watch.next_after() == 10
    watch.answered(Mark("w", 10, 20), 30)
    watch.answered(Mark("w", 20, 30), 30)
    with pytest.raises(RedisBehindError) as behind:
        watch.check(20)
    assert (behind.value.answered, behind.value.found) == (30, 20)
    # All goes again, the first of it on what was found; less than that is another loss.
    assert watch.next_after() == 20
    watch.sent(Mark("w", 20, 5))
    with pytest.raises(RedisBehindError) as behind:
        watch.answered(Mark("w", 20, 5), NO_MARK)
    assert (behind.value.answered, behind.value.found) == (20, 0)
    assert watch.next_after() == 0
    watch.sent(Mark("w", 0, 5))
    with pytest.raises(RedisBehindError):
        watch.answered(Mark("w", 0, 5), NO_MARK)  # Emptied in the middle of the batch.
    watch.answered(Mark("w", 0, 5), 0)
    watch.check(5)


def test_a_mark_that_expired_in_a_long_silence_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("claude_max_audit.hot.mark.monotonic", lambda: now)
    watch = MarkWatch("here")
    watch.sent(Mark("w", 0, 10))
    watch.answered(Mark("w", 0, 10), 0)
    now += MARK_SECONDS
    watch.check(0)
    assert watch.next_after() == 0
    with pytest.raises(RedisBehindError):
        watch.check(9)


def canonical(made: list[AuditEntry], first: int, last: int) -> list[bytes]:
    return [entry.canonical_bytes() for entry in made[first - 1 : last]]


def test_the_mark_never_speaks_for_what_redis_lost(
    server: Server, make_entry: Callable[..., AuditEntry]
) -> None:
    made = [make_entry(writer_id="w", writer_seq=n) for n in range(1, 31)]
    hot = HotStore.connect(server.url)
    with server.client() as client:
        assert hot.append_marked(canonical(made, 1, 10), 0) == 0
        assert hot.append_marked(canonical(made, 11, 20), 10) == 10
        assert hot.marked("w") == 20
        assert hot.append_marked(canonical(made, 11, 20), 10) == 20, "sent again"
        assert hot.append_marked(canonical(made, 1, 10), 0) == 20, "from the beginning"
        assert hot.marked("w") == 20
        client.flushall()
        assert hot.append_marked(canonical(made, 21, 30), 20) == NO_MARK
        assert hot.marked("w") == 0, "who adopts the spool now must send all of it"
        client.set("audit:writer:w", 10)
        assert hot.append_marked(canonical(made, 21, 30), 20) == 10
        assert hot.marked("w") == 10
        assert hot.append_marked(canonical(made, 11, 20), 10) == 10
        ttl: Any = client.ttl("audit:writer:w")
        assert 0 < ttl <= MARK_SECONDS
    hot.close()


def test_a_redis_emptied_in_the_middle_of_a_first_batch_has_no_mark(
    server: Server, make_entry: Callable[..., AuditEntry]
) -> None:
    made = [make_entry(writer_id="w", writer_seq=n) for n in range(1, 11)]
    hot = HotStore.connect(server.url)
    packer = hot.pack(canonical(made, 1, 10), 0)
    hset = b"*4\r\n$4\r\nHSET\r\n"
    commands = b"".join(packer.parts()).split(hset)
    emptied = [*commands[:6], b"*1\r\n$8\r\nFLUSHALL\r\n" + hset + commands[6], *commands[7:]]
    sent = [hset.join(emptied[:6]), hset.join(emptied[6:])]
    assert hot._link.send(sent, lambda: packer.replies + 1) == NO_MARK
    assert hot.marked("w") == 0
    assert hot.existing([e.entry_id for e in made]) == {e.entry_id for e in made[5:]}
    hot.close()
