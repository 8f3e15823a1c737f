"""The auditor against a real Redis: every call, every refusal, and life in real programs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from claude_max_audit import (
    CitationGenerator,
    ClaudeMaxAuditor,
    MessageType,
    OperationType,
    SecuritySeverity,
    recorder,
)
from claude_max_audit.errors import FlushIncompleteError, RedisRefusedError, SpoolFullError
from claude_max_audit.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run the coroutines of this file under asyncio."""
    return "asyncio"


@pytest.fixture
def auditor(settings: Settings) -> Iterator[ClaudeMaxAuditor]:
    made = open_auditor(settings)
    yield made
    made.sync.close()


def open_auditor(settings: Settings, **options: Any) -> ClaudeMaxAuditor:
    options.setdefault("storage_backend", "redis")
    options.setdefault("redis_url", settings.redis_url)
    return ClaudeMaxAuditor(home=settings.home, **options)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


async def test_every_kind_of_entry_is_found_as_it_was_logged(auditor: ClaudeMaxAuditor) -> None:
    ids = [
        await auditor.log_message("a", "b", MessageType.REQUEST, "please", swarm_id="s"),
        await auditor.log_context_access("a", "session", OperationType.READ, 150_000),
        await auditor.log_decision("a", "approval", "all is well", "if://guardian/decision/1"),
        await auditor.log_security_event("a", "auth_failure", "high", {"tries": 3}),
        await auditor.log_performance_metric("a", "latency", 12.5, "ms"),
    ]
    await auditor.flush_all()
    found = await auditor.search_logs({"agent_id": "a"})
    assert found.total_count == 5
    assert found.complete
    assert found.source == "redis"
    assert [e.entry_id for e in found.entries] == ids[::-1]
    metric, event, decision, access, message = found.entries
    assert (message.from_agent, message.to_agent, message.content) == ("a", "b", "please")
    assert message.size_bytes == 6
    assert message.message_type is MessageType.REQUEST
    assert access.operation is OperationType.READ
    assert access.size_bytes == 150_000
    assert decision.metadata == {
        "decision_type": "approval", "source_citation": "if://guardian/decision/1",
    }  # fmt: skip
    assert event.severity is SecuritySeverity.HIGH
    assert event.metadata == {"event_type": "auth_failure", "details": {"tries": 3}}
    assert metric.metadata == {"metric_type": "latency", "value": 12.5, "unit": "ms"}
    assert [e.writer_seq for e in found.entries] == [5, 4, 3, 2, 1]
    for entry_id, entry in zip(ids[::-1], found.entries, strict=True):
        assert entry_id.citation == entry.citation == await auditor.generate_citation(entry_id)
        assert CitationGenerator.validate(entry.citation)


async def test_an_unknown_id_has_no_citation(auditor: ClaudeMaxAuditor) -> None:
    with pytest.raises(KeyError, match="abc123"):
        await auditor.generate_citation("abc123")


async def test_entries_wait_for_a_batch_and_are_written_alone_after_a_moment(
    auditor: ClaudeMaxAuditor,
) -> None:
    await auditor.log_message("a", "b", content="lone")
    assert len(auditor.batch_queue) <= 1
    wait_for(lambda: len(auditor.batch_queue) == 0, "the lone entry to be written")


async def test_a_search_sees_what_the_process_just_logged(auditor: ClaudeMaxAuditor) -> None:
    for number in range(25):
        await auditor.log_message("a", "b", content=f"number {number}")
        assert (await auditor.search_logs({"agent_id": "a"}, limit=1)).total_count == number + 1


async def test_the_counts_always_add_up(auditor: ClaudeMaxAuditor) -> None:
    for _ in range(30):
        await auditor.log_message("a", "b", content="x", from_swarm="s", to_swarm="t")
        metrics = await auditor.get_metrics()
        assert metrics.accepted == metrics.written + metrics.spooled + metrics.dropped
    await auditor.flush_all()
    metrics = await auditor.get_metrics()
    assert (metrics.accepted, metrics.written, metrics.spooled) == (30, 30, 0)
    assert metrics.total_entries_hot == metrics.cross_swarm_messages == 30
    assert metrics.active_agents == 1
    assert metrics.messages_per_second > 0


BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ("log_message", ("", "b"), {"content": "x"}, ValueError, "from_agent is empty"),
    ("log_message", ("a", ""), {"content": "x"}, ValueError, "to_agent is empty"),
    ("log_message", ("a", "b", "shout", "x"), {}, ValueError, "known are inform, request"),
    ("log_message", ("a", "b", 3, "x"), {}, TypeError, "message_type must be a MessageType"),
    ("log_message", ("a", "b"), {}, TypeError, "content must be text"),
    ("log_message", ("a", "b"), {"content": b"x"}, TypeError, "content must be text, not bytes"),
    ("log_message", ("a", "b"), {"content": {"a": 1}}, TypeError, "encode it first"),
    ("log_message", ("a", "b"), {"content": "\ud800"}, ValueError, "lone surrogate"),
    ("log_message", ("a", "b"), {"content": "x" * 50_000_000}, ValueError, "50000000 bytes"),
    ("log_message", ("a\nb", "b"), {"content": "x"}, ValueError, "percent-encode"),
    ("log_message", ("a*", "b"), {"content": "x"}, ValueError, r"contains '\*'"),
    ("log_message", ("a", "b[0]"), {"content": "x"}, ValueError, "percent-encode"),
    ("log_message", (7, "b"), {"content": "x"}, TypeError, "from_agent must be text"),
    ("log_message", ("a", "b"), {"content": "x", "metadata": [1]}, TypeError, "a mapping"),
    (
        "log_message", ("a", "b"), {"content": "x", "metadata": {"a": {"b": {1, 2}}}},
        ValueError, r"metadata\['a'\]\['b'\] is a set",
    ),
    (
        "log_message", ("a", "b"), {"content": "x", "metadata": {"a": float("nan")}},
        ValueError, r"metadata\['a'\] is nan",
    ),
    (
        "log_message", ("a", "b"), {"content": "x", "metadata": {"a": {1: 2}}},
        ValueError, "JSON keys are text",
    ),
    (
        "log_message", ("a", "b"), {"content": "x", "metadata": {"a": 2**70}},
        ValueError, "beyond 64 bits",
    ),
    ("log_message", ("a", "b"), {"content": "x", "timestamp": "now"}, TypeError, "timestamp"),
    ("log_message", ("a", "b"), {"content": "x", "retention": "ever"}, ValueError, "retention"),
    ("log_context_access", ("a", "", "read", 1), {}, ValueError, "session_id is empty"),
    ("log_context_access", ("a", "s", "peek", 1), {}, ValueError, "known are read, write"),
    ("log_context_access", ("a", "s", "read", -1), {}, ValueError, "size_bytes must be between"),
    ("log_context_access", ("a", "s", "read", "1"), {}, TypeError, "size_bytes must be a whole"),
    ("log_decision", ("a", "t", None, "c"), {}, TypeError, "rationale must be text"),
    ("log_decision", ("a", "", "r", "c"), {}, ValueError, "decision_type is empty"),
    ("log_security_event", ("a", "e", "dire", {}), {}, ValueError, "known are low, medium"),
    ("log_performance_metric", ("a", "m", float("inf"), "ms"), {}, ValueError, "value is inf"),
    ("log_performance_metric", ("a", "m", "12", "ms"), {}, TypeError, "value must be a number"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "args", "kwargs", "error", "says"), BAD_CALLS)
async def test_bad_arguments_are_refused_by_name_and_leave_nothing(
    auditor: ClaudeMaxAuditor,
    call: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        await getattr(auditor, call)(*args, **kwargs)
    await auditor.log_message("a", "b", content="after")
    await auditor.flush_all()
    found = await auditor.search_logs({})
    assert [(e.content, e.writer_seq) for e in found.entries] == [("after", 1)]


def test_a_metadata_that_refers_to_itself_is_refused(auditor: ClaudeMaxAuditor) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(ValueError, match="refers to itself"):
        auditor.sync.log_message("a", "b", content="x", metadata=loop)


@pytest.mark.parametrize(
    "option",
    [{"storage_backend": "tape"}, {"durability": "wish"}, {"overflow": "hope"}, {"batch_size": 0}],
)
def test_a_setting_that_cannot_be_is_refused(settings: Settings, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        open_auditor(settings, **option)


async def test_security_events_go_to_the_log_at_the_level_of_their_severity(
    auditor: ClaudeMaxAuditor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for severity in SecuritySeverity:
        await auditor.log_security_event("a", "auth_failure", severity, {})
    levels = [r.levelname for r in caplog.records if r.name == "claude_max_audit.security"]
    assert levels == ["INFO", "WARNING", "ERROR", "CRITICAL"]


async def test_details_that_json_cannot_hold_become_text(auditor: ClaudeMaxAuditor) -> None:
    entry_id = await auditor.log_security_event(
        "a", "governance_rejection", "high", {"action": Path("/x"), "n": [1, {2}]}
    )
    (entry,) = (await auditor.search_logs({"entry_id": entry_id})).entries
    assert entry.metadata["details"] == {"action": "/x", "n": [1, [2]]}


def test_without_redis_entries_stay_in_the_spool_and_arrive_when_it_is_back(
    settings: Settings, caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    away = open_auditor(settings, redis_url="redis://127.0.0.1:1")
    assert away.degraded
    assert "127.0.0.1:1" in caplog.text
    ids = [away.sync.log_message("a", "b", content=str(n)) for n in range(20)]
    with pytest.raises(FlushIncompleteError, match="20 accepted entries"):
        away.sync.flush_all()
    found = away.sync.search_logs({})
    assert not found.complete
    assert any("spool" in part for part in found.missing)
    away.sync.close()

    back = open_auditor(settings)
    back.sync.log_message("c", "d", content="new")
    wait_for(lambda: back.sync.search_logs({}).total_count == 21, "the spool to be carried")
    found = back.sync.search_logs({"agent_id": "a"})
    assert [e.entry_id for e in found.entries] == ids[::-1]
    back.sync.close()


async def test_a_redis_that_asks_for_a_password_says_the_remedy(
    settings: Settings, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", "secret")
        try:
            shut_out = open_auditor(settings)
            assert shut_out.degraded
            await shut_out.log_message("a", "b", content="kept")
            with pytest.raises(RedisRefusedError, match="AUDIT_REDIS_URL") as refused:
                await shut_out.flush_all()
            assert refused.value.spooled == 1
            assert "secret" not in str(refused.value)
        finally:
            client.config_set("requirepass", "")
    await shut_out.flush_all()  # An earlier try that was refused is not this call's failure.
    assert not shut_out.degraded
    assert (await shut_out.search_logs({})).total_count == 1
    await shut_out.aclose()


@pytest.mark.parametrize("overflow", ["raise", "drop"])
def test_a_full_spool_does_what_was_asked(settings: Settings, overflow: str) -> None:
    full = open_auditor(
        settings, redis_url="redis://127.0.0.1:1", overflow=overflow, spool_bytes=300_000
    )
    kept = 0
    with pytest.raises(SpoolFullError) if overflow == "raise" else contextlib.nullcontext():
        for _ in range(300):
            full.sync.log_message("a", "b", content="x" * 2000)
            kept += 1
    accepted, written, spooled, dropped = full._trail.counts
    assert accepted == written + spooled + dropped
    assert (dropped > 0) == (overflow == "drop")
    full.sync.close()


async def test_blocking_overflow_leaves_the_loop_free(settings: Settings, redis_url: str) -> None:
    full = open_auditor(settings, redis_url="redis://127.0.0.1:1", spool_bytes=300_000)

    async def fill() -> None:
        while True:
            await full.log_message("a", "b", content="x" * 2000)

    filling = asyncio.create_task(fill())
    wait = asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < wait:
        await asyncio.sleep(0.01)
    assert not filling.done()
    filling.cancel()
    await full.aclose()


def test_several_loops_one_after_the_other(settings: Settings) -> None:
    made = open_auditor(settings)

    async def one(number: int) -> None:
        await made.log_message("a", "b", content=str(number))
        await made.flush_all()

    for number in range(3):
        asyncio.run(one(number))
    assert made.sync.search_logs({}).total_count == 3
    made.sync.close()


def test_threads_log_without_gaps(auditor: ClaudeMaxAuditor) -> None:
    def work(name: str) -> None:
        for number in range(200):
            auditor.sync.log_message(name, "b", content=str(number))

    threads = [threading.Thread(target=work, args=(f"agent{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    auditor.sync.flush_all()
    found = auditor.sync.search_logs({}, limit=2000)
    assert found.total_count == 1600
    assert sorted(e.writer_seq for e in found.entries) == list(range(1, 1601))


@pytest.mark.parametrize("durability", ["disk", "memory"])
async def test_the_other_durabilities_log_too(settings: Settings, durability: str) -> None:
    made = open_auditor(settings, durability=durability)
    await asyncio.gather(*(made.log_message("a", "b", content=str(n)) for n in range(50)))
    await made.flush_all()
    assert (await made.search_logs({})).total_count == 50
    await made.aclose()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_log_for_themselves(
    settings: Settings, auditor: ClaudeMaxAuditor, method: str
) -> None:
    program = Path(__file__).with_name("children_program.py")
    subprocess.run(
        [sys.executable, program, method, str(settings.redis_url), settings.home], check=True
    )
    found = auditor.sync.search_logs({}, limit=100)
    assert found.total_count == 7
    assert len({e.entry_id for e in found.entries}) == 7
    assert len({e.writer_id for e in found.entries}) == 3


def test_an_auditor_goes_on_in_a_forked_child(auditor: ClaudeMaxAuditor) -> None:
    auditor.sync.log_message("parent", "b", content="before")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            auditor.sync.log_message("child", "b", content="in the child")
            auditor.sync.flush_all(30)
            auditor.sync.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    auditor.sync.log_message("parent", "b", content="after")
    auditor.sync.flush_all()
    found = auditor.sync.search_logs({}).entries
    assert {e.agent_id for e in found} == {"parent", "child"}
    assert len(found) == 3
    assert {(e.agent_id, e.writer_seq) for e in found} == {
        ("parent", 1), ("parent", 2), ("child", 1),
    }  # fmt: skip
    assert len({e.writer_id for e in found}) == 2


def test_a_clock_that_steps_back_loses_and_doubles_nothing(
    auditor: ClaudeMaxAuditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_now = recorder._now
    ids = [auditor.sync.log_message("a", "b", content=str(n)) for n in range(20)]
    monkeypatch.setattr(recorder, "_now", lambda zone: real_now(zone) - timedelta(hours=1))
    monkeypatch.setattr(recorder, "time_ns", lambda: time.time_ns() - 3_600 * 10**9)
    ids += [auditor.sync.log_message("a", "b", content=str(n)) for n in range(20, 40)]
    auditor.sync.flush_all()
    found = auditor.sync.search_logs({"agent_id": "a"}, limit=100).entries
    assert {e.entry_id for e in found} == set(ids)
    assert len(found) == 40
    in_order = sorted(found, key=lambda e: e.writer_seq)
    assert [e.content for e in in_order] == [str(n) for n in range(40)]
    assert in_order[20].timestamp < in_order[19].timestamp


_PROGRAM = """
import sys, time
from claude_max_audit import ClaudeMaxAuditor, recorder
made = ClaudeMaxAuditor(home=sys.argv[1], redis_url=sys.argv[2], storage_backend="redis")
for number in range(500):
    print(made.sync.log_message("a", "b", content=str(number)), flush=True)
if sys.argv[3] == "wait":
    time.sleep(60)
elif sys.argv[3] == "raise":
    raise SystemExit("a program that fails")
"""


@pytest.mark.parametrize("end", ["exit", "raise", "SIGTERM", "SIGKILL"])
def test_whatever_ends_the_program_what_it_logged_is_kept(
    settings: Settings, auditor: ClaudeMaxAuditor, end: str
) -> None:
    mode = "wait" if end.startswith("SIG") else end
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(settings.home), str(settings.redis_url), mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdout is not None
    logged = set()
    for line in program.stdout:
        logged.add(line.strip())
        if mode == "wait" and len(logged) == 300:
            program.send_signal(getattr(signal, end))
    program.stdout.close()
    program.wait(60)
    auditor.sync.log_message("watcher", "b", content="starts the writer, which adopts")
    def found() -> set[str]:
        page = auditor.sync.search_logs({"agent_id": "a"}, limit=1000)
        return {e.entry_id for e in page.entries}
    wait_for(lambda: logged <= found(), "the dead program's entries")
    assert len(logged) >= 300
    found_seqs = sorted(
        e.writer_seq
        for e in auditor.sync.search_logs({"agent_id": "a"}, limit=1000).entries
    )
    assert found_seqs == list(range(1, len(found_seqs) + 1))


async def test_times_given_by_the_caller_order_and_bound_the_search(
    auditor: ClaudeMaxAuditor,
) -> None:
    start = datetime.now(UTC) - timedelta(days=3)
    for hour in range(48):
        await auditor.log_message(
            "a", "b", content=str(hour), timestamp=start + timedelta(hours=hour)
        )
    span = (start + timedelta(hours=10), start + timedelta(hours=30))
    found = await auditor.search_logs({"agent_id": "a"}, span, limit=5, offset=2)
    assert found.total_count == 21
    assert [e.content for e in found.entries] == ["28", "27", "26", "25", "24"]
