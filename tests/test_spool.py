"""The spool: order, bounds, release, rewind, and who may adopt what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from claude_max_audit.errors import RedisUnavailableError, SpoolFullError
from claude_max_audit.spool.adoption import adopt_dead_writers
from claude_max_audit.spool.folder import adopt_folder, segments_in
from claude_max_audit.spool.segment import HEADER_BYTES
from claude_max_audit.spool.spool import Spool

WRITER = "0123456789abcdef"


def entry_like(number: int) -> bytes:
    return b'{"entry_id":"%06d","content":"%b"}' % (number, b"x" * 100)


def filled(directory: Path, count: int, **options: int) -> Spool:
    spool = Spool(directory, WRITER, segment_bytes=2048, **options)  # type: ignore[arg-type]
    for number in range(count):
        with spool.lock:
            spool.append(entry_like(number))
    return spool


class Store:
    """A sink that remembers, and fails when told to."""

    best_batch = 7
    linger_seconds = 0.0

    def __init__(self, fail_after: int | None = None) -> None:
        self.entries: list[bytes] = []
        self.fail_after = fail_after

    def write(self, batch: Sequence[bytes]) -> None:
        if self.fail_after is not None and len(self.entries) >= self.fail_after:
            raise RedisUnavailableError("nowhere", "told to fail")
        self.entries.extend(batch)


def drained(spool: Spool) -> list[bytes]:
    entries: list[bytes] = []
    while batch := spool.read(10, 1 << 20):
        entries += batch
    return entries


def die(spool: Spool) -> None:
    """End as a killed process does: nothing is tidied, the lock is gone."""
    spool.abandon()
    spool.let_go_of_lock()


def test_entries_are_read_in_order_over_many_segments(tmp_path: Path) -> None:
    spool = filled(tmp_path, 100)
    assert len(segments_in(spool.folder)) > 3
    assert drained(spool) == [entry_like(n) for n in range(100)]
    spool.close()


def test_reading_goes_on_where_more_is_appended(tmp_path: Path) -> None:
    spool = filled(tmp_path, 3)
    assert len(drained(spool)) == 3
    with spool.lock:
        spool.append(entry_like(3))
    assert drained(spool) == [entry_like(3)]
    spool.close()


def test_rewind_reads_again_from_the_first_unconfirmed_entry(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60)
    spool.read(25, 1 << 20)
    spool.confirm(25)
    spool.read(20, 1 << 20)
    spool.rewind()
    assert drained(spool) == [entry_like(n) for n in range(25, 60)]
    assert spool.pending == 35
    spool.close()


def test_rewind_to_the_oldest_gives_confirmed_entries_again(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60)
    drained(spool)
    spool.confirm(60)
    spool.rewind(to_oldest=True)
    assert drained(spool) == [entry_like(n) for n in range(60)]
    spool.close()


def test_segments_go_only_when_all_their_entries_are_confirmed(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60)
    before = segments_in(spool.folder)
    drained(spool)
    spool.confirm(30)
    spool.release(at_once=True)
    after = segments_in(spool.folder)
    assert 0 < len(after) < len(before)
    spool.confirm(30)
    spool.release(at_once=True)
    assert segments_in(spool.folder) == []
    spool.close()
    assert not spool.folder.exists()


def test_a_confirmed_segment_stays_while_redis_may_still_lose_it(tmp_path: Path) -> None:
    spool = filled(tmp_path, 10)
    drained(spool)
    spool.confirm(10)
    spool.release()
    assert segments_in(spool.folder)
    spool.close()


def test_closing_leaves_what_the_store_does_not_hold(tmp_path: Path) -> None:
    spool = filled(tmp_path, 10)
    drained(spool)
    spool.confirm(4)
    spool.close()
    assert segments_in(spool.folder)


def test_a_full_spool_refuses_and_keeps_nothing_half(tmp_path: Path) -> None:
    spool = filled(tmp_path, 0, max_bytes=4096)
    kept = 0
    with pytest.raises(SpoolFullError, match="AUDIT_SPOOL_BYTES"), spool.lock:
        while True:
            spool.append(entry_like(kept))
            kept += 1
    assert drained(spool) == [entry_like(n) for n in range(kept)]
    spool.close()


def test_an_entry_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    spool = filled(tmp_path, 2)
    large = b'{"entry_id":"big"}' + b" " * 10_000
    with spool.lock:
        spool.append(large)
        spool.append(entry_like(2))
    assert drained(spool) == [entry_like(0), entry_like(1), large, entry_like(2)]
    spool.close()


def test_a_spool_in_memory_leaves_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, WRITER, durable=False, segment_bytes=2048)
    with spool.lock:
        for number in range(50):
            spool.append(entry_like(number))
    assert drained(spool) == [entry_like(n) for n in range(50)]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_writer_is_not_adopted(tmp_path: Path) -> None:
    spool = filled(tmp_path, 5)
    store = Store()
    assert adopt_dead_writers(tmp_path, store) == 0
    assert store.entries == []
    spool.close()


def test_a_dead_writer_is_adopted_whole_and_its_folder_goes(tmp_path: Path) -> None:
    spool = filled(tmp_path, 50)
    die(spool)
    store = Store()
    assert adopt_dead_writers(tmp_path, store) == 50
    assert store.entries == [entry_like(n) for n in range(50)]
    assert not spool.folder.exists()


def test_an_adoption_that_fails_is_done_again_by_the_next(tmp_path: Path) -> None:
    die(filled(tmp_path, 50))
    with pytest.raises(RedisUnavailableError):
        adopt_dead_writers(tmp_path, Store(fail_after=20))
    store = Store()
    adopt_dead_writers(tmp_path, store)
    assert set(store.entries) >= {entry_like(n) for n in range(20, 50)}
    assert list(tmp_path.iterdir()) == []


def test_only_one_of_two_adopters_gets_a_folder(tmp_path: Path) -> None:
    spool = filled(tmp_path, 5)
    die(spool)
    first = adopt_folder(spool.folder)
    assert first is not None
    assert adopt_folder(spool.folder) is None
    os.close(first)


def test_a_damaged_segment_is_set_aside_and_its_whole_entries_are_carried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = filled(tmp_path, 10)
    die(spool)
    segment = segments_in(spool.folder)[0]
    data = bytearray(segment.read_bytes())
    data[HEADER_BYTES + 20] ^= 0xFF
    segment.write_bytes(data)
    store = Store()
    assert adopt_dead_writers(tmp_path, store) == 9
    (kept,) = (tmp_path / "rejected").iterdir()
    assert kept.read_bytes() == bytes(data)
    assert "not a whole frame" in caplog.text
