"""How entries leave the hot store: by archive, by age, by purge, and never by accident."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
import redis

from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.keys import (
    AGENTS,
    DAYS,
    KINDS,
    agent_key,
    archived_key,
    entry_key,
)
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query
from conftest import EntryMaker, RedisServer
from hot_trail import (
    EVERYTHING,
    FIRST_DAY,
    Killed,
    assert_holds,
    dump,
    mortal,
    stamped,
    varied_entries,
)

DAY = FIRST_DAY.date()
HOT = timedelta(days=30)
ENTRIES = varied_entries(300)
OF_DAY = [entry for entry in ENTRIES if entry.day == DAY]
OF_OTHERS = [entry for entry in ENTRIES if entry.day != DAY]


class Clock:
    """The moment at which a store looks for what has expired."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> float:
        return self.moment.timestamp()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC))


@pytest.fixture
def hot(redis_url: str, clock: Clock) -> Iterator[HotStore]:
    store = HotStore.connect(redis_url, hot_days=30, clock=clock)
    yield store
    store.close()


@pytest.fixture
def only_redis(redis_url: str, clock: Clock) -> Iterator[HotStore]:
    store = HotStore.connect(redis_url, hot_days=30, keeps_until_archived=False, clock=clock)
    yield store
    store.close()


def expire(client: redis.Redis, entries: list[AuditEntry]) -> None:
    """Let Redis drop entries as it does at the end of their time."""
    for entry in entries:
        client.pexpireat(entry_key(entry.entry_id), 1)
    assert not any(client.exists(entry_key(entry.entry_id)) for entry in entries)


def fresh_day() -> datetime:
    """A UTC day that ended not long ago, so that its release lies in the future."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return yesterday.replace(hour=0, minute=0, second=0, microsecond=0)


def entries_of(make: EntryMaker, day: datetime, count: int) -> list[AuditEntry]:
    return [make(timestamp=day + timedelta(minutes=i), swarm_id="s1") for i in range(count)]


def test_nothing_expires_before_the_archive_releases_it(
    hot: HotStore, client: redis.Redis, clock: Clock
) -> None:
    hot.append_batch(stamped(ENTRIES))
    clock.moment += timedelta(days=10_000)
    assert hot.prune(clock.moment) == 0
    assert_holds(hot, ENTRIES)
    assert {key for key, (_, _, expires) in dump(client).items() if expires} <= {AGENTS.encode()}


def test_released_entries_expire_hot_days_after_their_day(
    hot: HotStore, client: redis.Redis, make_entry: EntryMaker
) -> None:
    day = fresh_day()
    entries = entries_of(make_entry, day, 20)
    hot.append_batch(stamped(entries))
    ids = {entry.entry_id for entry in entries}
    now = datetime.now(UTC)
    assert hot.release_day(day.date(), 20, now, ids) == 20
    end = day + timedelta(days=1) + HOT
    key = archived_key(day.date().isoformat())
    times: Any = [client.expiretime(entry_key(i)) if _has_expiretime(client) else None for i in ids]
    assert set(times) <= {int(end.timestamp()), None}
    assert all(0 < _ttl(client, entry_key(i)) <= 31 * 86_400 for i in ids)
    assert _ttl(client, key) <= _ttl(client, entry_key(entries[0].entry_id)) - 59
    assert client.get(key) == b"20"
    assert hot.complete_days({day.date(): 20, DAY: 3}, now) == {day.date()}
    assert hot.release_day(day.date(), 20, now, ids) == 20
    assert_holds(hot, entries)


def _has_expiretime(client: redis.Redis) -> bool:
    server: Any = client.info("server")
    return int(server["redis_version"].split(".")[0]) >= 7


def _ttl(client: redis.Redis, key: str) -> int:
    ttl: Any = client.ttl(key)
    return int(ttl)


def test_a_day_is_complete_only_while_every_archived_entry_is_here(
    hot: HotStore, client: redis.Redis, make_entry: EntryMaker
) -> None:
    day = fresh_day()
    entries = entries_of(make_entry, day, 10)
    hot.append_batch(stamped(entries))
    now = datetime.now(UTC)
    assert hot.complete_days({day.date(): 10}, now) == set(), "not released yet"
    hot.release_day(day.date(), 10, now, {e.entry_id for e in entries})
    assert hot.complete_days({day.date(): 10}, now) == {day.date()}
    assert hot.complete_days({day.date(): 11}, now) == set(), "the lake has one more"
    end = day + timedelta(days=1) + HOT
    assert hot.complete_days({day.date(): 10}, end - timedelta(seconds=30)) == set()
    hot.forget([entries[0].entry_id])
    assert hot.complete_days({day.date(): 10}, now) == set(), "one was purged here only"
    assert client.get(archived_key(day.date().isoformat())) is None
    hot.append_batch(stamped(entries_of(make_entry, day, 1)))
    assert hot.complete_days({day.date(): 10}, now) == set(), "a late one is not in its place"


def test_a_lake_with_more_than_redis_gets_no_marker(hot: HotStore, make_entry: EntryMaker) -> None:
    day = fresh_day()
    entries = entries_of(make_entry, day, 10)
    hot.append_batch(stamped(entries))
    now = datetime.now(UTC)
    assert hot.release_day(day.date(), 15, now, {e.entry_id for e in entries}) == 10
    assert hot.complete_days({day.date(): 15}, now) == set()


def test_a_late_entry_waits_for_the_next_archive_of_its_day(
    hot: HotStore, client: redis.Redis, make_entry: EntryMaker
) -> None:
    day = fresh_day()
    entries = entries_of(make_entry, day, 10)
    hot.append_batch(stamped(entries))
    now = datetime.now(UTC)
    archived = {e.entry_id for e in entries}
    hot.release_day(day.date(), 10, now, archived)
    late = entries_of(make_entry, day, 3)
    hot.append_batch(stamped(late))
    assert hot.complete_days({day.date(): 10}, now) == {day.date()}, "the marker stays"
    assert hot.release_day(day.date(), 10, now, archived) == 10
    assert all(_ttl(client, entry_key(e.entry_id)) == -1 for e in late)
    assert hot.release_day(day.date(), 10, now) == 0, "unnamed, and more than the lake has"
    assert all(_ttl(client, entry_key(e.entry_id)) == -1 for e in late)
    hot.release_day(day.date(), 13, now, archived | {e.entry_id for e in late})
    assert all(_ttl(client, entry_key(e.entry_id)) > 0 for e in late)
    assert hot.complete_days({day.date(): 13}, now) == {day.date()}
    assert_holds(hot, entries + late)


def test_a_release_past_its_time_removes_the_named_at_once(
    hot: HotStore, client: redis.Redis
) -> None:
    hot.append_batch(stamped(ENTRIES))
    late = OF_DAY[:4]
    archived = {e.entry_id for e in OF_DAY[4:]}
    future = datetime(2026, 3, 1, tzinfo=UTC)
    assert hot.release_day(DAY, len(archived), future, archived) == len(archived)
    assert_holds(hot, OF_OTHERS + late)
    assert client.get(archived_key(DAY.isoformat())) is None
    assert hot.complete_days({DAY: len(archived)}, future) == set()


def test_expired_days_leave_every_index_and_late_entries_stay(
    hot: HotStore, client: redis.Redis, clock: Clock, make_entry: EntryMaker
) -> None:
    day = fresh_day()
    entries = entries_of(make_entry, day, 25)
    hot.append_batch(stamped(ENTRIES + entries))
    hot.release_day(day.date(), 25, datetime.now(UTC), {e.entry_id for e in entries})
    late = entries_of(make_entry, day, 2)
    hot.append_batch(stamped(late))
    expire(client, entries)
    clock.moment = day + timedelta(days=1) + HOT
    # No prune is called: the first read finds that the day is due.
    assert hot.count(EVERYTHING) == len(ENTRIES) + 2
    assert_holds(hot, ENTRIES + late)
    assert hot.count(Query(where={"content_hash": (entries[0].content_hash,)})) == 2
    assert not _names(client) & {e.entry_id.encode() for e in entries}
    assert client.zscore(DAYS, day.date().isoformat()) == float("inf"), "late ones do not expire"


def _names(client: redis.Redis) -> set[bytes]:
    """Every member of every id set."""
    keys: Any = client.keys("audit:*")
    found: set[bytes] = set()
    for key in keys:
        if client.type(key) == b"zset" and not key.startswith(b"audit:content:"):
            members: Any = client.zrange(key, 0, -1)
            found.update(members)
    return found


def test_the_last_of_a_day_takes_all_its_keys_along(
    hot: HotStore, client: redis.Redis, clock: Clock
) -> None:
    hot.append_batch(stamped(ENTRIES))
    for day in hot.days():
        client.zadd(DAYS, {day.isoformat(): clock()})
    expire(client, ENTRIES)
    clock.moment += timedelta(days=40)
    assert hot.prune(clock.moment) == len(ENTRIES)
    assert client.keys("*") == []
    hot.append_batch(stamped(ENTRIES))
    assert_holds(hot, ENTRIES)


def test_a_prune_killed_anywhere_is_finished_by_the_next(
    redis_url: str, client: redis.Redis, clock: Clock
) -> None:
    link = mortal(redis_url)
    hot = HotStore(link, clock=clock)
    late, expired = OF_DAY[:3], OF_DAY[3:]
    lives, died = 0, True
    while died:
        client.flushall()
        link.lives = 1_000_000
        hot.append_batch(stamped(ENTRIES))
        expire(client, expired)
        client.zadd(DAYS, {DAY.isoformat(): clock()})
        link.lives = lives
        try:
            hot.prune(clock.moment)
            died = False
        except Killed:
            lives += 1
        link.lives = 1_000_000
        clock.moment += timedelta(minutes=2)
        hot.prune(clock.moment)
        assert_holds(hot, OF_OTHERS + late)
        assert not _names(client) & {e.entry_id.encode() for e in expired}
    assert lives > 10, "every round trip of a prune is a place to die"
    hot.close()


def test_a_writer_beside_a_prune_loses_nothing(
    redis_url: str, client: redis.Redis, clock: Clock
) -> None:
    """Before each round trip of the prune, a late entry of the pruned day is written."""
    link = mortal(redis_url)
    pruning, writing = HotStore(link, clock=clock), HotStore.connect(redis_url, clock=clock)
    writing.append_batch(stamped(OF_DAY))
    expire(client, OF_DAY)
    client.zadd(DAYS, {DAY.isoformat(): clock()})
    waiting = [e for e in varied_entries(600, seed=3) if e.day == DAY]
    late: list[AuditEntry] = []
    connect = link._connection

    def write_first() -> Any:
        late.append(waiting.pop())
        writing.append_batch(stamped(late[-1:]))
        return connect()

    link._connection = write_first  # type: ignore[method-assign]
    pruning.prune(clock.moment)
    link._connection = connect  # type: ignore[method-assign]
    assert len(late) > 5
    assert_holds(writing, late)
    clock.moment += timedelta(minutes=2)
    assert_holds(writing, late)
    pruning.close()
    writing.close()


def test_an_entry_that_is_gone_early_is_noticed_and_taken_out(
    hot: HotStore, client: redis.Redis
) -> None:
    hot.append_batch(stamped(ENTRIES))
    client.delete(entry_key(OF_DAY[0].entry_id), entry_key(OF_OTHERS[0].entry_id))
    remaining = OF_DAY[1:] + OF_OTHERS[1:]
    page = hot.page(EVERYTHING, 1_000, 0)
    assert page.total == len(page.entries) == len(remaining)
    assert_holds(hot, remaining)


def test_forget_removes_entries_and_every_trace(hot: HotStore, client: redis.Redis) -> None:
    hot.append_batch(stamped(OF_OTHERS))
    without = dump(client)
    hot.append_batch(stamped(OF_DAY))
    ids = [e.entry_id for e in OF_DAY]
    assert hot.forget([*ids, "unknown"]) == len(ids)
    assert hot.forget(ids) == 0
    left = dump(client)
    for dumped in (left, without):
        del dumped[AGENTS.encode()]
        # Which index keys a day touched may stay listed; they are only looked into.
        for key in [k for k in dumped if k.startswith(b"audit:keys:")]:
            del dumped[key]
    assert left == without
    assert_holds(hot, OF_OTHERS)


@pytest.mark.parametrize("lives", range(1, 6))
def test_a_forget_killed_anywhere_is_finished_by_the_next(
    redis_url: str, client: redis.Redis, lives: int
) -> None:
    link = mortal(redis_url)
    hot = HotStore(link)
    hot.append_batch(stamped(ENTRIES))
    ids = [e.entry_id for e in OF_DAY]
    link.lives = lives
    try:
        hot.forget(ids)
    except Killed:
        assert lives < 5
    link.lives = 1_000_000
    hot.forget(ids)
    hot.prune(datetime.now(UTC))
    assert_holds(hot, OF_OTHERS)
    assert not _names(client) & {i.encode() for i in ids}
    hot.close()


def test_without_a_lake_entries_expire_from_their_writing(
    only_redis: HotStore, client: redis.Redis, make_entry: EntryMaker
) -> None:
    now = datetime.now(UTC)
    live = make_entry(timestamp=now, recorded_at=now)
    imported = make_entry(timestamp=now - timedelta(days=400), recorded_at=now)
    ahead = make_entry(timestamp=now + timedelta(days=4_000), recorded_at=now)
    long_spooled = make_entry(
        timestamp=now - timedelta(days=31), recorded_at=now - timedelta(days=31)
    )
    only_redis.append_batch(stamped([live, imported, ahead, long_spooled]))
    hot_seconds = HOT.total_seconds()
    for entry in (live, imported):
        assert hot_seconds - 120 < _ttl(client, entry_key(entry.entry_id)) <= hot_seconds
    assert _ttl(client, entry_key(ahead.entry_id)) <= hot_seconds + 86_400
    assert_holds(only_redis, [live, imported, ahead])
    lives: dict[bytes, int] = {}
    keys: Any = client.keys("*")
    for key in keys:
        lives[key] = _ttl(client, key.decode())
    assert min(lives.values()) > 0, "every key expires by itself"
    entries_go = max(ttl for key, ttl in lives.items() if key.startswith(b"audit:entry:"))
    assert all(
        ttl > entries_go for key, ttl in lives.items() if not key.startswith(b"audit:entry:")
    )


def test_without_a_lake_a_day_is_trimmed_minute_by_minute(
    only_redis: HotStore, client: redis.Redis, clock: Clock, make_entry: EntryMaker
) -> None:
    start = datetime.now(UTC).replace(hour=6, minute=0, second=5, microsecond=0)
    start -= timedelta(days=1)
    clock.moment = start
    entries = [
        make_entry(timestamp=moment, recorded_at=moment, agent_id="a", swarm_id="s1")
        for moment in (start + timedelta(minutes=i) for i in range(10))
    ]
    imported = make_entry(timestamp=start, recorded_at=start + timedelta(days=1), agent_id="a")
    only_redis.append_batch(stamped([*entries, imported]))
    for gone in (3, 4, 10):
        expire(client, entries[:gone])
        # The minute after the entry expired: its end is rounded down to the minute.
        clock.moment = start + HOT + timedelta(minutes=gone - 1)
        assert_holds(only_redis, [*entries[gone:], imported])
        assert client.zcard(agent_key("a")) == 11 - gone
    due = client.zscore(DAYS, start.date().isoformat())
    assert due is not None
    assert due == pytest.approx(
        client.time()[0] + _ttl(client, entry_key(imported.entry_id)), abs=2
    )


def test_agents_and_kinds_are_forgotten_with_their_entries(
    hot: HotStore, client: redis.Redis, make_entry: EntryMaker
) -> None:
    odd = make_entry(severity="high", operation="read")
    hot.append_batch(stamped([odd]))
    assert client.zrange(KINDS, 0, -1) == [b"message:inform+read+high"]
    assert hot.count(Query(where={"severity": ("high",)})) == 1
    hot.prune(datetime.now(UTC))
    assert client.zcard(KINDS) == 1
    hot.forget([odd.entry_id])
    hot.prune(datetime.now(UTC))
    assert client.zcard(KINDS) == 0
    assert client.zcard(AGENTS) == 0, "taken down in 2025, so no longer active"


def test_an_unknown_day_is_released_in_vain(hot: HotStore) -> None:
    assert hot.release_day(date(2025, 1, 1), 5, datetime.now(UTC)) == 0
    assert hot.days() == {}
    assert hot.complete_days({date(2025, 1, 1): 5}, datetime.now(UTC)) == set()
    assert hot.complete_days({}, datetime.now(UTC)) == set()


def test_what_was_forgotten_leaves_redis_own_files(
    hot: HotStore, client: redis.Redis, redis_server: RedisServer
) -> None:
    hot.append_batch(stamped(OF_DAY))
    trace = OF_DAY[0].entry_id.encode()
    assert _is_in_files(redis_server, trace)
    hot.forget([entry.entry_id for entry in OF_DAY])
    assert _is_in_files(redis_server, trace)
    assert hot.erase_traces() is True
    # Redis 7 deletes the old file a moment after the new one is in its place.
    deadline = monotonic() + 30
    while _is_in_files(redis_server, trace):
        assert monotonic() < deadline
    assert client.zcard(AGENTS) == 0


def test_a_server_that_forbids_it_is_told_of(
    hot: HotStore, client: redis.Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    hot.append_batch(stamped(OF_DAY))
    client.acl_setuser(
        "writer", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"],
        commands=["-bgrewriteaof"],
    )  # fmt: skip
    try:
        limited = HotStore.connect(redis_url.replace("unix://", "unix://writer:secret@"))
        assert limited.erase_traces() is False
        assert "BGREWRITEAOF" in caplog.text
        limited.close()
    finally:
        client.acl_deluser("writer")


def _is_in_files(server: RedisServer, trace: bytes) -> bool:
    files = [path for path in server.embedded.directory.rglob("*.aof*") if path.is_file()]
    return any(trace in path.read_bytes() for path in files if path.exists())
