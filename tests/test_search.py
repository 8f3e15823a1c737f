"""Search over both tiers gives what a plain list would: every match once, newest first."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake.lake import Lake
from audit_storage.search.search import Stretch, plan_stretches, search_both
from claude_max_audit import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import Span, parse_query
from claude_max_audit.settings import Settings

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
"""Real time, because Redis lets copies expire by its own clock."""
MakeEntry = Callable[..., AuditEntry]


@pytest.fixture
def hot(settings: Settings) -> Iterator[HotStore]:
    assert settings.redis_url is not None
    store = HotStore.connect(settings.redis_url, hot_days=30, keeps_until_archived=True)
    yield store
    store.close()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def log(hot: HotStore, entries: list[AuditEntry]) -> None:
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


def spread(make_entry: MakeEntry, count: int, seed: int, span_days: int = 60) -> list[AuditEntry]:
    """Entries over the last days, of a few agents and swarms, some at the same instant."""
    chance = random.Random(seed)
    entries = []
    for _ in range(count):
        moment = NOW - timedelta(seconds=chance.randrange(span_days * 86_400) // 300 * 300)
        swarms = tuple(sorted(chance.sample(["red", "green", "blue"], chance.choice([1, 1, 2]))))
        entries.append(
            make_entry(
                timestamp=moment,
                agent_id=chance.choice(["ann", "bob", "cyd"]),
                to_agent=chance.choice(["ann", "bob", None]),
                swarm_id=swarms[0],
                swarm_ids=swarms,
                message_type=chance.choice(["inform", "request", "error"]),
                content=chance.choice(["ok", "done", "again"]),
            )
        )
    return entries


QUERIES: list[dict[str, Any]] = [
    {},
    {"agent_id": "ann"},
    {"participant": "bob"},
    {"swarm_id": ["red", "blue"], "message_type": "error"},
    {"cross_swarm": True, "agent_id": ["bob", "cyd"]},
    {"agent_id": "nobody"},
]
SPANS = [
    None,
    (NOW - timedelta(days=40), NOW - timedelta(days=20)),
    (NOW - timedelta(days=33, hours=5), None),
    (NOW - timedelta(days=2), NOW),
]


def check_against(model: list[AuditEntry], lake: Lake, hot: HotStore | None) -> None:
    newest = sorted(model, key=lambda e: (e.timestamp, e.entry_id), reverse=True)
    for asked in QUERIES:
        for span in SPANS:
            query = parse_query(asked, span)
            expected = [entry for entry in newest if query.matches(entry)]
            for limit, offset in ((7, 5), (1000, 0)):
                found = search_both(lake, hot, query, limit, max(0, offset), NOW)
                assert found.complete, found.missing
                assert found.total_count == len(expected), (asked, span)
                start = max(0, offset)
                assert found.entries == expected[start : start + limit], (asked, span, start)


def test_before_in_and_after_the_archive_the_answer_is_the_same(
    make_entry: MakeEntry, hot: HotStore, lake: Lake, settings: Settings
) -> None:
    entries = spread(make_entry, 300, seed=1)
    log(hot, entries)
    check_against(entries, lake, hot)
    archive_closed_days(lake, hot, Quarantine(settings), NOW, older_than=NOW - timedelta(days=25))
    check_against(entries, lake, hot)
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    check_against(entries, lake, hot)
    assert len(hot.days()) < len(lake.days())


def test_late_entries_of_archived_days_are_found_once(
    make_entry: MakeEntry, hot: HotStore, lake: Lake, settings: Settings
) -> None:
    entries = spread(make_entry, 200, seed=2)
    log(hot, entries)
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    late = spread(make_entry, 60, seed=3)
    log(hot, late)
    check_against(entries + late, lake, hot)
    log(hot, entries[:50])  # A spool carried again after the archive: copies of what it holds.
    check_against(entries + late, lake, hot)
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    check_against(entries + late, lake, hot)


def test_a_redis_that_lost_everything_leaves_the_lake_to_answer(
    make_entry: MakeEntry, hot: HotStore, lake: Lake, settings: Settings, redis_server: Any
) -> None:
    entries = spread(make_entry, 150, seed=4)
    log(hot, entries)
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    open_day = [entry for entry in entries if entry.day == NOW.date()]
    redis_server.client().flushall()
    kept = [entry for entry in entries if entry not in open_day]
    check_against(kept, lake, hot)
    late = spread(make_entry, 30, seed=5)
    log(hot, late)
    check_against(kept + late, lake, hot)


def test_the_lake_alone_answers_without_redis(
    make_entry: MakeEntry, hot: HotStore, lake: Lake, settings: Settings
) -> None:
    entries = [e for e in spread(make_entry, 100, seed=6) if e.day < NOW.date()]
    log(hot, entries)
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    found = search_both(lake, None, parse_query({}), 10, 0, NOW)
    assert found.source == "lake"
    assert found.total_count == len(entries)


def test_a_tier_that_fails_is_named_and_the_other_answers(
    make_entry: MakeEntry, lake: Lake, settings: Settings, hot: HotStore
) -> None:
    log(hot, [make_entry(timestamp=NOW)])
    log_folder = settings.home / "lake" / "entries" / "_delta_log"
    log_folder.mkdir(parents=True)
    (log_folder / "00000000000000000000.json").write_text("not a log")
    found = search_both(lake, hot, parse_query({}), 10, 0, NOW)
    assert found.total_count == 1
    assert not found.complete
    assert found.missing[0].startswith("lake: ")


def day(number: int) -> date:
    return date(2025, 12, number)


def test_stretches_cover_the_span_once_and_give_each_day_to_one_tier() -> None:
    span = Span(datetime(2025, 12, 1, 6, tzinfo=UTC), datetime(2025, 12, 9, 6, tzinfo=UTC))
    stretches = plan_stretches(
        span,
        lake_days={day(1), day(2), day(4), day(6)},
        hot_days={day(2), day(4), day(5), day(8), day(12)},
        complete={day(4)},
    )
    assert [(s.from_lake, s.late) for s in stretches] == [
        (False, ()),
        (True, ()),
        (False, ()),
        (True, (day(2),)),
    ]
    assert stretches[0].span.end == span.end
    assert stretches[-1].span.start == span.start
    for newer, older in itertools.pairwise(stretches):
        assert newer.span.start - older.span.end == timedelta(microseconds=1)


def test_without_any_day_redis_is_asked() -> None:
    assert plan_stretches(Span(), set(), set(), set()) == [Stretch(Span(), from_lake=False)]
