"""Writing to the hot store and reading single entries back, against a real Redis."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from msgspec.structs import replace

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import RedisRefusedError, RedisUnavailableError
from claude_max_audit.hot.batch import BatchPacker, Keeping
from claude_max_audit.hot.keys import day_key, entry_key
from claude_max_audit.hot.store import HotStore, UnreadableEntryError
from claude_max_audit.query import Query
from conftest import EntryMaker
from hot_trail import EVERYTHING, assert_holds, dump, newest_first, stamped, varied_entries

ENTRIES = varied_entries(400)
BATCH = stamped(ENTRIES)


@pytest.fixture
def hot(redis_url: str) -> Iterator[HotStore]:
    store = HotStore.connect(redis_url)
    yield store
    store.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize("until_archived", [True, False])
def test_a_batch_written_twice_leaves_the_same_keys(
    redis_url: str, client: redis.Redis, until_archived: bool
) -> None:
    hot = HotStore.connect(redis_url, keeps_until_archived=until_archived, hot_days=36_500)
    hot.append_batch(BATCH)
    once = dump(client)
    hot.append_batch(BATCH)
    hot.append_batch(BATCH[100:200])
    assert dump(client) == once
    assert_holds(hot, ENTRIES)
    hot.close()


def test_a_batch_cut_anywhere_and_repeated_ends_right(
    redis_url: str, client: redis.Redis, hot: HotStore
) -> None:
    batch = BATCH[:40]
    hot.append_batch(batch)
    whole = dump(client)
    packed = BatchPacker([stamped.canonical for stamped in batch], Keeping(30, True), 0)
    sent = b"".join(packed.parts())
    path = redis_url.removeprefix("unix://").partition("?")[0]
    for cut in range(0, len(sent), len(sent) // 60):
        client.flushall()
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(path)
            line.sendall(sent[:cut])
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass
        for day in hot.days():
            assert all(hot.existing([i]) for i in hot.day_ids(day)), "an index before its entry"
        hot.append_batch(batch)
        assert dump(client) == whole


def test_every_entry_is_read_back_exactly(hot: HotStore) -> None:
    hot.append_batch(BATCH)
    ids = [entry.entry_id for entry in ENTRIES]
    found = hot.find([*ids, "no-such-id"])
    assert list(found.values()) == ENTRIES
    assert all(found[e.entry_id].canonical_bytes() == e.canonical_bytes() for e in ENTRIES)
    assert hot.existing([*ids, "no-such-id"]) == set(ids)
    assert hot.find([]) == {}
    hot.append_batch([])


def test_real_days_come_back_in_order(hot: HotStore) -> None:
    hot.append_batch(BATCH)
    by_day: dict[date, list[AuditEntry]] = {}
    for entry in reversed(newest_first(ENTRIES)):
        by_day.setdefault(entry.day, []).append(entry)
    assert hot.days() == {day: len(entries) for day, entries in by_day.items()}
    for day, entries in by_day.items():
        assert hot.day_ids(day) == [e.entry_id for e in entries]
        texts = [text for chunk in hot.scan_day(day, chunk=7) for text in chunk]
        assert texts == [e.to_json().encode() for e in entries]
    assert hot.day_ids(date(2001, 1, 1)) == []


def test_many_entries_of_one_instant_are_walked_once_each(
    hot: HotStore, make_entry: EntryMaker
) -> None:
    moment = datetime(2025, 12, 1, tzinfo=UTC)
    entries = [make_entry(timestamp=moment) for _ in range(1_500)]
    hot.append_batch(stamped(entries))
    walked = [e.entry_id for chunk in hot.scan(EVERYTHING, chunk=100) for e in chunk]
    assert walked == [e.entry_id for e in newest_first(entries)]
    assert hot.day_ids(moment.date()) == walked[::-1]


def test_times_far_off_keep_their_day_and_order(hot: HotStore, make_entry: EntryMaker) -> None:
    moments = [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2200, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    entries = [
        AuditEntry.from_json(replace(make_entry(), timestamp=moment, entry_hash=None).to_json())
        for moment in moments
    ]
    hot.append_batch(stamped(entries))
    assert_holds(hot, entries)
    same = Query(where={"content_hash": (entries[0].content_hash,)})
    assert list(hot.page(same, 10, 0).entries) == newest_first(entries)


def test_figures_are_those_of_the_entries(hot: HotStore, make_entry: EntryMaker) -> None:
    now = datetime.now(UTC)
    fresh = make_entry(timestamp=now, recorded_at=now, agent_id="fresh")
    old = make_entry(
        timestamp=now - timedelta(days=90), recorded_at=now - timedelta(days=90), agent_id="old"
    )
    crossing = make_entry(
        timestamp=now - timedelta(minutes=2), recorded_at=now, swarm_ids=("s1", "s2"), swarm_id="s1"
    )
    hot.append_batch(stamped([fresh, old, crossing]))
    hot.append_batch(stamped([fresh, old, crossing]))
    figures = hot.figures(now)
    assert (figures.entries, figures.active_agents) == (3, 2)
    assert (figures.cross_swarm_messages, figures.entries_last_minute) == (1, 1)
    assert figures.days == len({e.day for e in (fresh, old, crossing)})


def test_figures_ask_as_little_of_many_entries_as_of_few(
    hot: HotStore, client: redis.Redis
) -> None:
    def commands_of_figures() -> tuple[int, int]:
        before: Any = client.info("stats")
        entries = hot.figures(datetime.now(UTC)).entries
        after: Any = client.info("stats")
        asked = after["total_commands_processed"] - before["total_commands_processed"]
        return entries, asked

    hot.append_batch(BATCH[:50])
    assert {entry.day for entry in ENTRIES[:50]} == {entry.day for entry in ENTRIES}
    few, asked_of_few = commands_of_figures()
    hot.append_batch(BATCH)
    many, asked_of_many = commands_of_figures()
    assert (few, many) == (50, 400)
    assert asked_of_many == asked_of_few < 20


def test_one_damaged_entry_hides_no_other(
    hot: HotStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    hot.append_batch(BATCH[:5])
    damaged = ENTRIES[2].entry_id
    client.hset(entry_key(damaged), "json", b'{"entry_id": 1}')
    with caplog.at_level(logging.WARNING, "claude_max_audit"):
        page = hot.page(EVERYTHING, 10, 0)
    assert (len(page.entries), page.total) == (4, 5)
    assert damaged in caplog.text
    for read in (lambda: hot.find([damaged]), lambda: list(hot.scan(EVERYTHING))):
        with pytest.raises(UnreadableEntryError, match=damaged):
            read()
    assert hot.forget([damaged]) == 1
    assert_holds(hot, [e for e in ENTRIES[:5] if e.entry_id != damaged])


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}])
def test_a_callers_client_serves_whatever_it_decodes(
    redis_url: str, options: dict[str, int]
) -> None:
    with redis.Redis.from_url(redis_url, **options) as client:
        hot = HotStore.from_client(client)
        hot.append_batch(BATCH)
        assert_holds(hot, ENTRIES)
        hot.close()
        assert client.ping(), "the caller's client stays open"


def test_an_asyncio_client_lends_its_address(redis_url: str) -> None:
    hot = HotStore.from_client(redis.asyncio.Redis.from_url(redis_url, decode_responses=True))
    hot.append_batch(BATCH[:10])
    assert_holds(hot, ENTRIES[:10])
    assert hot.address.startswith("unix:")
    hot.close()


def test_anything_else_is_no_client() -> None:
    with pytest.raises(TypeError, match="redis_client must be"):
        HotStore.from_client("redis://localhost")
    with pytest.raises(ValueError, match="scheme"):
        HotStore.connect("http://localhost")


def test_a_server_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    hot = HotStore.connect("redis://user:s3cret@127.0.0.1:1/3")
    for call in (hot.ping, lambda: hot.append_batch(BATCH[:1]), lambda: hot.count(EVERYTHING)):
        with pytest.raises(RedisUnavailableError) as caught:
            call()
        assert "127.0.0.1:1/3" in str(caught.value)
        assert "s3cret" not in str(caught.value)
    gone = HotStore.connect(f"unix://{tmp_path}/none.sock")
    with pytest.raises(RedisUnavailableError, match=r"none\.sock"):
        gone.ping()


def test_a_connection_that_broke_is_made_anew(hot: HotStore, client: redis.Redis) -> None:
    hot.append_batch(BATCH[:5])
    client.client_kill_filter(_type="normal", skipme=True)
    hot.append_batch(BATCH)
    assert_holds(hot, ENTRIES)


def test_a_password_that_is_missing_or_wrong_is_refused(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis").start()
    path = server.url.removeprefix("unix://").partition("?")[0]
    try:
        with redis.Redis(unix_socket_path=path) as admin:
            admin.config_set("requirepass", "right-one")
            for url in (f"unix://{path}", f"unix://:wr0ng@{path}"):
                hot = HotStore.connect(url)
                with pytest.raises(RedisRefusedError, match="AUDIT_REDIS_URL") as caught:
                    hot.ping()
                assert "wr0ng" not in str(caught.value)
                hot.close()
            hot = HotStore.connect(f"unix://:right-one@{path}")
            hot.append_batch(BATCH[:3])
            assert_holds(hot, ENTRIES[:3])
            hot.close()
            admin.config_set("requirepass", "")
    finally:
        server.stop()


def test_a_server_without_memory_refuses_writes_and_serves_reads(
    hot: HotStore, client: redis.Redis
) -> None:
    hot.append_batch(BATCH[:20])
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisRefusedError, match="memory"):
            hot.append_batch(BATCH)
        assert hot.page(EVERYTHING, 5, 0).total == 20
        assert hot.count(Query(where={"entry_type": ("message",), "swarm_id": ("s1",)})) >= 0
    finally:
        client.config_set("maxmemory", 0)
    hot.append_batch(BATCH)
    assert_holds(hot, ENTRIES)


def test_a_key_of_somebody_else_is_refused_by_name(hot: HotStore, client: redis.Redis) -> None:
    client.set(day_key("2025-11-29"), "mine")
    with pytest.raises(RedisRefusedError, match="WRONGTYPE"):
        hot.append_batch(BATCH)


def test_a_part_that_cannot_be_made_leaves_no_reply_behind(hot: HotStore) -> None:
    with pytest.raises(AttributeError):
        hot.append_batch([*BATCH[:200], None])  # type: ignore[list-item]
    hot.append_batch(BATCH)
    assert_holds(hot, ENTRIES)


def test_importing_the_hot_store_does_not_import_redis() -> None:
    program = (
        "import sys, claude_max_audit.hot.store\n"
        "sys.exit(bool({'redis', 'hiredis'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
