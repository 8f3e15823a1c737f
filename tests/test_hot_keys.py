"""Every key is documented, named in one place, and has a way to expire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from claude_max_audit.hot.keys import (
    AGENTS,
    DAYS,
    KEY_FORMS,
    USUAL_KINDS,
    Kind,
    content_key,
    content_keys,
    content_member,
    content_name,
    content_range,
    day_end,
    day_of,
    index_keys,
    kind_of,
    parse_content_member,
)
from claude_max_audit.hot.store import HotStore
from claude_max_audit.vocabulary import MessageType, OperationType, SecuritySeverity
from hot_trail import stamped, varied_entries

PAGE = Path(__file__).resolve().parents[1] / "docs" / "redis-keys.md"
ENTRIES = varied_entries(300)

TABLE_ROW = re.compile(r"^\| `(audit:[^`]+)` \| (\w+) \| .+ \| (.+) \|$", re.MULTILINE)


def form_of(key: str) -> str:
    """The documented form that fits a key; raises if none or several do."""
    fits = [
        form
        for form in KEY_FORMS
        if re.fullmatch(re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(form)), key)
    ]
    assert len(fits) == 1, (key, fits)
    return fits[0]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_the_page_lists_every_key_with_its_type_and_how_it_goes() -> None:
    rows = TABLE_ROW.findall(PAGE.read_text())
    assert {form: kind for form, kind, _ in rows} == KEY_FORMS
    assert all(goes.strip() for _, _, goes in rows)


@pytest.mark.parametrize("until_archived", [True, False])
def test_a_real_redis_holds_no_other_key(
    redis_url: str, client: redis.Redis, until_archived: bool
) -> None:
    hot = HotStore.connect(redis_url, hot_days=36_500, keeps_until_archived=until_archived)
    hot.append_batch(stamped(ENTRIES))
    hot.append_marked([ENTRIES[0].canonical_bytes()], 0)
    day = ENTRIES[0].day
    released = {e.entry_id for e in ENTRIES if e.day == day}
    hot.release_day(day, len(released), datetime.now(UTC), released)
    hot.close()
    keys: Any = client.keys("*")
    forms: set[str] = set()
    for key in keys:
        form = form_of(key.decode())
        kind: Any = client.type(key)
        assert kind.decode() == KEY_FORMS[form], key
        forms.add(form)
        if not until_archived or form == "audit:writer:{writer_id}":
            assert client.ttl(key) > 0, key
    assert forms == set(KEY_FORMS), "the entries here bring every key into being"


def test_with_a_lake_every_key_goes_when_its_entries_have_gone(
    redis_url: str, client: redis.Redis
) -> None:
    hot = HotStore.connect(redis_url)
    hot.append_batch(stamped(ENTRIES))
    for day, count in hot.days().items():
        hot.release_day(day, count, datetime.now(UTC), set(hot.day_ids(day)))
    assert hot.days() == {}, "their time is over, so they go at once"
    hot.prune(datetime.now(UTC) + timedelta(days=31))
    assert client.keys("*") == []
    hot.close()


def test_words_of_the_kinds_tell_which_vocabulary_they_are_of() -> None:
    words = [*MessageType, *OperationType, *SecuritySeverity]
    assert len({str(word) for word in words}) == len(words)
    assert not any("+" in word or ":" in word for word in words)
    for kind in (*USUAL_KINDS, Kind("message", ("hold", "read", "low"))):
        assert Kind.parse(kind.name) == kind
    for entry in ENTRIES:
        assert kind_of(entry).key in index_keys(entry)
        assert len(index_keys(entry)) == len(set(index_keys(entry)))


def test_no_name_can_reach_another_key() -> None:
    assert form_of("audit:agent:s:audit:days") == "audit:agent:{agent_id}"
    assert form_of(DAYS) != form_of(AGENTS)
    assert len({form.partition("{")[0] for form in KEY_FORMS}) == len(KEY_FORMS)


def test_copies_of_a_content_sort_by_time_and_are_found_by_their_span() -> None:
    moments = [-62_135_596_800_000_000, -1, 0, 1, 1_764_460_800_000_000, 253_402_300_799_999_999]
    name = content_name("ab" * 32)
    members = [content_member(name, moment, b"id/with/slash") for moment in moments]
    assert members == sorted(members)
    for moment, member in zip(moments, members, strict=True):
        assert parse_content_member(member) == (moment, b"id/with/slash")
        low, high = content_range(name, moment, moment)
        assert [m for m in members if low[1:] <= m < high[1:]] == [member]


def test_a_content_has_one_part_of_a_day_and_is_short_enough_to_be_packed() -> None:
    day = ENTRIES[0].day.isoformat()
    names = [content_name(entry.content_hash) for entry in ENTRIES]
    assert {content_key(day, name) for name in names} <= set(content_keys(day))
    assert len(set(content_keys(day))) == len(content_keys(day))
    assert content_name("AB" * 32) != content_name("ab" * 32), "any text is told from any other"
    longest = content_member(names[0], 0, ENTRIES[0].entry_id.encode())
    assert len(longest) <= 64, "Redis' default limit"


def test_days_are_utc_days_before_and_after_the_epoch() -> None:
    assert (day_of(-1), day_of(0)) == ("1969-12-31", "1970-01-01")
    assert day_of(86_400_000_000 - 1) == "1970-01-01"
    assert day_end("1970-01-01") == 86_400
    assert day_end("1969-12-31") == 0
