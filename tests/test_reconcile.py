"""Reconcile names every entry that one store has and another has not, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from audit_quality.reconcile import NAMED_IDS, DayTally, reconcile
from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.index.index import EntryIndex
from audit_storage.index.refill import refill_month
from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.keys import entry_key
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import Settings
from conftest import RedisServer
from hot_trail import stamped
from plain_embedder import PlainEmbedder

NOW = datetime.now(UTC)
"""Real time, because Redis lets copies expire by its own clock."""

YESTERDAY = (NOW - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
LONG_AGO = YESTERDAY - timedelta(days=60)
MakeEntry = Callable[..., AuditEntry]


class Stores:
    """All three, and the archive that fills them."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url is not None
        self.lake = Lake(settings)
        self.hot = HotStore.connect(settings.redis_url, hot_days=30)
        self.index = EntryIndex(settings, PlainEmbedder())
        self.quarantine = Quarantine(settings)

    def log(self, entries: list[AuditEntry]) -> None:
        self.hot.append_batch(stamped(entries))

    def archive(self) -> None:
        archive_closed_days(self.lake, self.hot, self.quarantine, NOW, index=self.index)

    def compare(self, **options: Any) -> dict[date, DayTally]:
        options.setdefault("thorough", True)
        bad = {one.entry_id for one in self.quarantine.list() if one.entry_id}
        found = reconcile(self.lake, self.hot, self.index, NOW, quarantined=bad, **options)
        assert [tally.day for tally in found] == sorted({tally.day for tally in found})
        return {tally.day: tally for tally in found}


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    stores = Stores(settings)
    yield stores
    stores.hot.close()
    stores.index.close()


@pytest.fixture
def entries(stores: Stores, make_entry: MakeEntry) -> list[AuditEntry]:
    """Thirty of yesterday, and ten of a day whose copies in Redis have gone; all archived."""
    made = [make_entry(timestamp=YESTERDAY + timedelta(minutes=n)) for n in range(30)]
    old = [make_entry(timestamp=LONG_AGO + timedelta(minutes=n)) for n in range(10)]
    stores.log(made + old)
    stores.archive()
    return made


def ids(entries: list[AuditEntry]) -> tuple[str, ...]:
    return tuple(sorted(entry.entry_id for entry in entries))


def only(tallies: dict[date, DayTally], day: datetime = YESTERDAY) -> tuple[str, tuple[str, ...]]:
    """The one difference that there is, which is of this day."""
    assert [one for one, tally in tallies.items() if tally.differences] == [day.date()]
    [difference] = tallies[day.date()].differences
    assert difference.number >= len(difference.entry_ids)
    return str(difference), difference.entry_ids


@pytest.mark.parametrize("thorough", [True, False])
def test_stores_that_agree_have_no_difference(
    stores: Stores, entries: list[AuditEntry], thorough: bool
) -> None:
    tallies = stores.compare(thorough=thorough)
    assert not any(tally.differences for tally in tallies.values())
    yesterday, long_ago = tallies[YESTERDAY.date()], tallies[LONG_AGO.date()]
    assert (yesterday.hot, yesterday.lake, yesterday.index) == (30, 30, 30)
    assert (long_ago.hot, long_ago.lake, long_ago.index) == (0, 10, 10)


def test_empty_stores_agree(stores: Stores) -> None:
    assert stores.compare() == {}


def test_entries_that_wait_for_the_archive_are_named(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry
) -> None:
    late = [make_entry(timestamp=YESTERDAY + timedelta(hours=5)) for _ in range(3)]
    stores.log(late)
    told, named = only(stores.compare())
    assert named == ids(late)
    assert told.startswith("3 entries wait in Redis for the archive: ")
    stores.archive()
    assert not any(tally.differences for tally in stores.compare().values())


def test_a_late_entry_of_a_day_that_redis_let_go_is_the_only_difference(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry
) -> None:
    late = make_entry(timestamp=LONG_AGO + timedelta(hours=5))
    stores.log([late])
    told, named = only(stores.compare(), LONG_AGO)
    assert named == (late.entry_id,)
    assert "wait in Redis" in told


def test_many_are_counted_and_the_first_named(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry
) -> None:
    late = [make_entry(timestamp=YESTERDAY + timedelta(hours=5)) for _ in range(NAMED_IDS + 7)]
    stores.log(late)
    told, named = only(stores.compare())
    assert named == ids(late)[:NAMED_IDS]
    assert told.startswith(f"{NAMED_IDS + 7} entries")
    assert told.endswith(" and 7 more")


def test_archived_entries_that_redis_lost_are_named(
    stores: Stores, entries: list[AuditEntry]
) -> None:
    stores.hot.forget([entry.entry_id for entry in entries[4:8]])
    told, named = only(stores.compare())
    assert named == ids(entries[4:8])
    assert told.startswith("Redis lost 4 archived entries")


def test_a_redis_that_starts_empty_is_told_of_the_hot_days_only(
    stores: Stores, entries: list[AuditEntry], redis_server: RedisServer
) -> None:
    redis_server.client().flushall()
    told, _ = only(stores.compare())
    assert told.startswith("Redis lost 30 archived entries")


def test_without_redis_or_index_the_rest_is_compared(
    stores: Stores, entries: list[AuditEntry]
) -> None:
    [_, yesterday] = reconcile(stores.lake, None, None, NOW)
    assert (yesterday.hot, yesterday.lake, yesterday.index) == (None, 30, None)
    assert yesterday.differences == ()


@pytest.mark.parametrize("thorough", [True, False])
def test_entries_that_the_index_lacks_are_named(
    stores: Stores, entries: list[AuditEntry], thorough: bool
) -> None:
    stores.index.forget([entry.entry_id for entry in entries[:2]])
    told, named = only(stores.compare(thorough=thorough))
    assert named == ids(entries[:2])
    assert "the index lacks 2 entries" in told
    assert stores.compare()[YESTERDAY.date()].index == 28
    stores.index.add(entries)
    assert not any(tally.differences for tally in stores.compare().values())


@pytest.mark.parametrize("thorough", [True, False])
def test_entries_that_only_the_index_has_are_named(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry, thorough: bool
) -> None:
    """Of a day of the lake, and of one that no store knows."""
    foreign = make_entry(timestamp=YESTERDAY + timedelta(hours=7))
    unknown = make_entry(timestamp=LONG_AGO - timedelta(days=400))
    stores.index.add([foreign, unknown])
    tallies = stores.compare(thorough=thorough)
    differing = {day: tally.differences for day, tally in tallies.items() if tally.differences}
    assert {day: [one.entry_ids for one in found] for day, found in differing.items()} == {
        YESTERDAY.date(): [(foreign.entry_id,)],
        unknown.day: [(unknown.entry_id,)],
    }
    assert "that the lake has not" in tallies[unknown.day].findings[0]


def test_one_for_another_is_seen_by_a_thorough_look(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry
) -> None:
    """Equal numbers hide it from the nightly one."""
    foreign = make_entry(timestamp=YESTERDAY + timedelta(hours=7))
    stores.index.forget([entries[0].entry_id])
    stores.index.add([foreign])
    assert not any(tally.differences for tally in stores.compare(thorough=False).values())
    [lacking, extra] = stores.compare()[YESTERDAY.date()].differences
    assert (lacking.entry_ids, extra.entry_ids) == ((entries[0].entry_id,), (foreign.entry_id,))


def test_an_entry_in_quarantine_waits_for_no_archive(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry, redis_server: RedisServer
) -> None:
    spoiled = make_entry(timestamp=YESTERDAY + timedelta(hours=9), content="as it was said")
    stores.log([spoiled])
    text = spoiled.to_json().replace("as it was said", "as it is forged")
    redis_server.client().hset(entry_key(spoiled.entry_id), "json", text)
    stores.archive()
    assert stores.quarantine.counts() == {YESTERDAY.date(): 1}
    assert not any(tally.differences for tally in stores.compare().values())
    tally = reconcile(stores.lake, stores.hot, stores.index, NOW)[-1]
    assert tally.differences[0].entry_ids == (spoiled.entry_id,)


def test_a_copy_in_redis_with_other_bytes_is_named(
    stores: Stores, entries: list[AuditEntry], redis_server: RedisServer
) -> None:
    """Whoever can write to Redis changes what recent searches answer; a thorough look sees it."""
    changed = entries[3]
    text = changed.to_json().replace(changed.agent_id, "somebody else")
    redis_server.client().hset(entry_key(changed.entry_id), "json", text)
    assert not any(tally.differences for tally in stores.compare(thorough=False).values())
    told, named = only(stores.compare())
    assert named == ids([changed])
    assert "Redis holds 1 entries with other bytes than the lake" in told


def test_vectors_without_words_are_named_and_a_rebuilt_month_has_none(
    stores: Stores, entries: list[AuditEntry], make_entry: MakeEntry
) -> None:
    stray = make_entry(timestamp=YESTERDAY + timedelta(hours=7))
    stores.index.add([stray])
    month = f"{stray.timestamp:%Y-%m}"
    stores.index._words.forget(month, [stray.entry_id])
    told, named = only(stores.compare())
    assert named == ids([stray])
    assert f"1 vectors without words, `claude-audit reindex --month {month} --rebuild`" in told
    stores.index.drop_month(month)
    refill_month(stores.lake, stores.index, month)
    assert not any(tally.differences for tally in stores.compare().values())
