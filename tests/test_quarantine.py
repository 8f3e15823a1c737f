"""Rejected bytes are kept once, whole, and by any number of writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from audit_storage.archive.quarantine import Quarantine, Rejected
from claude_max_audit.settings import Settings, load_settings

DAY = date(2025, 1, 1)
NOW = datetime(2025, 1, 2, 2, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({}, home=tmp_path / "home")


def rejected(text: bytes, day: date = DAY) -> Rejected:
    return Rejected(day, None, "it cannot be read", text, NOW)


def test_an_empty_quarantine_has_nothing_and_is_not_created(settings: Settings) -> None:
    quarantine = Quarantine(settings)
    assert quarantine.list() == []
    assert quarantine.counts() == {}
    assert quarantine.count() == 0
    assert quarantine.hashes(DAY) == set()
    assert quarantine.add(DAY, []) == 0
    assert not Path(settings.lake_uri).exists()


def test_bytes_come_back_as_they_were(settings: Settings) -> None:
    quarantine = Quarantine(settings)
    hostile = [b"", b"\x00\xff\xfe", b'{"entry_id":', "ünï".encode(), b"x" * 100_000]
    kept = [rejected(text) for text in hostile]
    assert quarantine.add(DAY, kept) == 5
    found = Quarantine(settings).list(DAY)
    assert sorted(found, key=lambda r: r.text) == sorted(kept, key=lambda r: r.text)
    assert quarantine.hashes(DAY) == {sha256(text).hexdigest() for text in hostile}


def test_the_same_bytes_of_a_day_are_kept_once(settings: Settings) -> None:
    quarantine = Quarantine(settings)
    assert quarantine.add(DAY, [rejected(b"a"), rejected(b"a"), rejected(b"b")]) == 2
    assert quarantine.add(DAY, [rejected(b"b"), rejected(b"c")]) == 1
    assert quarantine.count() == sum(quarantine.counts().values()) == 3
    assert quarantine.add(DAY, [rejected(b"b"), rejected(b"c")]) == 0
    other = date(2025, 1, 2)
    assert quarantine.add(other, [rejected(b"a", other)]) == 1
    assert quarantine.counts() == {DAY: 3, other: 1}
    assert [one.text for one in quarantine.list(other)] == [b"a"]


def test_writers_at_once_keep_each_text_once(settings: Settings) -> None:
    texts = [b"%d" % number for number in range(10)]
    with ThreadPoolExecutor(4) as pool:
        added = pool.map(
            lambda _: Quarantine(settings).add(DAY, [rejected(text) for text in texts]), range(4)
        )
        assert sum(added) == 10
    assert sorted(one.text for one in Quarantine(settings).list()) == sorted(texts)
