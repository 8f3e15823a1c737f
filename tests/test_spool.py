"""The spool: order, bounds, release, rewind, and who may adopt what."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_max_audit.errors import RedisUnavailableError, SpoolFullError
from claude_max_audit.spool.adoption import adopt_dead_writers
from claude_max_audit.spool.folder import adopt_folder, segments_in
from claude_max_audit.spool.full import NEXT_IN_MEMORY
from claude_max_audit.spool.segment import HEADER_BYTES, number_of, read_frames
from claude_max_audit.spool.spool import Spool
from claude_max_audit.spool.survey import survey_tallies
from claude_max_audit.spool.tally import Tally, tally_of

WRITER = "0123456789abcdef"


def entry_like(number: int) -> bytes:
    return b'{"entry_id":"%06d","content":"%b","writer_seq":%d}' % (number, b"x" * 86, number + 1)


def filled(directory: Path, count: int, **options: Any) -> Spool:
    spool = Spool(directory, WRITER, segment_bytes=2048, **options)
    for number in range(count):
        with spool.lock:
            spool.append(entry_like(number))
    return spool


class Store:
    """A sink that remembers, fails when told to, and forgets when told to."""

    best_batch = 7
    linger_seconds = 0.0
    in_flight = 1

    def __init__(self, fail_after: int | None = None, *, loses: bool = True) -> None:
        self.entries: list[bytes] = []
        self.fail_after = fail_after
        self.loses = loses

    def begin(self, batch: Sequence[bytes]) -> Callable[[], None]:
        self.write(batch, 0)
        return lambda: None

    def give_up(self) -> None:
        pass

    def check(self) -> None:
        pass

    def write(self, batch: Sequence[bytes], after: int) -> None:
        if self.fail_after is not None and len(self.entries) >= self.fail_after:
            raise RedisUnavailableError("nowhere", "told to fail")
        self.entries.extend(batch)

    def held_of(self, writer_id: str) -> int | None:
        if not self.loses:
            return None
        return number_of(self.entries[-1]) if self.entries else 0


def make_old(folder: Path) -> None:
    """Let answered segments look as old as if the store could lose nothing of them."""
    long_ago = time.time() - 3600
    for segment in segments_in(folder):
        os.utime(segment, (long_ago, long_ago))


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


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 40)),
    st.tuples(st.just("read"), st.integers(1, 60)),
    st.tuples(st.just("answer"), st.just(0)),
    st.tuples(st.just("fail"), st.just(0)),
    st.tuples(st.just("lose"), st.just(0)),
    st.tuples(st.just("tidy"), st.just(0)),
    st.tuples(st.just("prepare"), st.just(0)),
    st.tuples(st.just("large"), st.integers(1000, 4000)),
)


@given(steps=st.lists(STEP, max_size=40), durable=st.booleans())
@settings(max_examples=80, deadline=None)
def test_whatever_happens_the_store_gets_every_entry_in_order(
    steps: list[tuple[str, int]], durable: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), WRITER, durable=durable, segment_bytes=1500)
    entries: list[bytes] = []
    in_flight: list[list[bytes]] = []
    stored: list[bytes] = []
    for step, count in steps:
        if step == "append":
            for _ in range(count):
                entries.append(entry_like(len(entries)))
                with spool.lock:
                    spool.append(entries[-1])
        elif step == "read" and (batch := spool.read(count, 1 << 20)):
            in_flight.append(batch)
        elif step == "answer" and in_flight:
            stored += in_flight.pop(0)
            spool.confirm(len(stored) - spool.confirmed)
        elif step == "fail":
            in_flight.clear()
            spool.rewind()
        elif step == "lose":
            in_flight.clear()
            stored.clear()
            spool.rewind(to_oldest=True)
        elif step == "tidy":
            spool.tidy()
        elif step == "prepare":
            spool.prepare()
        elif step == "large":
            large = entry_like(len(entries)) + b" " * count
            with spool.lock:
                spool.append(large)
            entries.append(large)
        assert stored == entries[: len(stored)]
        assert spool.pending == len(entries) - len(stored)
    if durable:
        on_disk = [frame for path in segments_in(spool.folder) for frame in read_frames(path)]
        assert on_disk == entries, "the names of the segments sort as they were written"
    spool.rewind()
    assert stored + drained(spool) == entries
    spool.close()


def names(folder: Path) -> list[str]:
    return [segment.suffix for segment in segments_in(folder)]


def test_segments_go_only_when_all_their_entries_are_confirmed(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60, keep_seconds=0)
    before = segments_in(spool.folder)
    drained(spool)
    spool.confirm(30)
    spool.tidy()
    after = segments_in(spool.folder)
    assert 0 < len(after) < len(before)
    assert after == before[-len(after) :]
    spool.confirm(30)
    spool.tidy()
    assert len(segments_in(spool.folder)) == 1, "the newest is still appended to"
    spool.close()
    assert not spool.folder.exists()


def test_what_redis_may_still_lose_stays_by_another_name(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60)
    drained(spool)
    spool.confirm(60)
    spool.tidy()
    assert set(names(spool.folder)[:-1]) == {".done"}
    assert spool.keeps
    spool.close()
    assert set(names(spool.folder)) == {".done"}


def test_what_is_kept_is_bounded_by_bytes_but_not_its_last_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = filled(tmp_path, 60, keep_seconds=3600, keep_bytes=4500)
    drained(spool)
    spool.confirm(60)
    spool.tidy()
    assert len(names(spool.folder)) > 4
    monkeypatch.setattr("claude_max_audit.spool.kept.LOSS_SECONDS", 0.0)
    spool.tidy()
    assert names(spool.folder) == [".done", ".done", ".wal"]
    spool.close()


def test_nothing_leaves_the_disk_while_the_store_does_not_answer(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60, keep_seconds=0)
    drained(spool)
    spool.confirm(60)
    before = len(names(spool.folder))
    spool.tidy(releasing=False)
    assert len(names(spool.folder)) == before
    spool.close()


def test_kept_entries_give_way_to_new_ones_when_room_is_short(tmp_path: Path) -> None:
    spool = filled(tmp_path, 30, keep_seconds=3600, max_bytes=6 * 2048)
    for round_ in range(5):
        read = drained(spool)
        spool.confirm(len(read))
        spool.tidy()
        for number in range(30):
            with spool.lock:
                spool.append(entry_like(1000 * round_ + number))
        assert spool.bytes_held <= 6 * 2048
    spool.close()


def test_entries_read_again_after_they_left_the_memory(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60)
    spool.tidy()
    assert drained(spool) == [entry_like(n) for n in range(60)]
    spool.tidy()
    spool.rewind()
    assert drained(spool) == [entry_like(n) for n in range(60)]
    spool.confirm(60)
    spool.tidy()
    assert spool.oldest_number() == 1
    spool.rewind(to_oldest=True)
    assert spool.pending == 60
    assert drained(spool) == [entry_like(n) for n in range(60)]
    spool.close()


def test_a_spool_that_waits_for_the_store_leaves_the_memory(tmp_path: Path) -> None:
    spool = filled(tmp_path, 400)
    spool.tidy()
    mapped = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
    assert mapped.count(str(spool.folder)) <= 1 + NEXT_IN_MEMORY
    assert drained(spool) == [entry_like(n) for n in range(400)]
    spool.close()


def test_closing_leaves_what_the_store_does_not_hold(tmp_path: Path) -> None:
    spool = filled(tmp_path, 10)
    drained(spool)
    spool.confirm(4)
    spool.close()
    assert names(spool.folder) == [".wal"]


def test_a_disk_that_failed_once_is_not_believed_for_what_was_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = filled(tmp_path, 3, synced=True)
    with monkeypatch.context() as patched:

        def fail(_: int) -> None:
            raise OSError(5, "told to fail")

        patched.setattr(os, "fdatasync", fail)
        spool.sync()
    assert spool.failure_of(3) is not None
    spool.sync()
    assert spool.failure_of(3) is not None
    with spool.lock:
        spool.append(entry_like(3))
    spool.sync()
    assert spool.failure_of(4) is None
    assert drained(spool) == [entry_like(n) for n in range(4)]
    assert len(names(spool.folder)) == 2
    spool.close()


def test_a_full_spool_refuses_and_keeps_nothing_half(tmp_path: Path) -> None:
    spool = filled(tmp_path, 0, max_bytes=4096)
    kept = 0
    while kept < 20:
        with spool.lock:
            spool.append(entry_like(kept))
        kept += 1
    with pytest.raises(SpoolFullError, match="AUDIT_SPOOL_BYTES"), spool.lock:
        spool.append(bytes(2048))
    assert drained(spool) == [entry_like(n) for n in range(kept)]
    assert spool.pending == kept
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
    assert adopt_dead_writers(tmp_path, store) == (0, False)
    assert store.entries == []
    spool.close()


def test_a_dead_writer_is_adopted_whole_and_its_folder_goes_in_time(tmp_path: Path) -> None:
    spool = filled(tmp_path, 50)
    die(spool)
    store = Store()
    assert adopt_dead_writers(tmp_path, store) == (50, True)
    assert store.entries == [entry_like(n) for n in range(50)]
    assert adopt_dead_writers(tmp_path, store) == (0, True), "the store may still lose it"
    make_old(spool.folder)
    assert adopt_dead_writers(tmp_path, store) == (0, False)
    assert store.entries == [entry_like(n) for n in range(50)]
    assert not spool.folder.exists()


def test_a_store_that_loses_nothing_lets_the_folder_go_at_once(tmp_path: Path) -> None:
    spool = filled(tmp_path, 50)
    die(spool)
    assert adopt_dead_writers(tmp_path, Store(loses=False)) == (50, False)
    assert not spool.folder.exists()


def test_what_the_store_lost_of_a_dead_writer_is_carried_again(tmp_path: Path) -> None:
    spool = filled(tmp_path, 60)
    drained(spool)
    spool.confirm(60)
    spool.close()
    make_old(spool.folder)
    emptied = Store()
    assert adopt_dead_writers(tmp_path, emptied) == (60, True)
    assert emptied.entries == [entry_like(n) for n in range(60)]
    make_old(spool.folder)
    behind = Store()
    behind.entries = [entry_like(n) for n in range(40)]
    carried, _ = adopt_dead_writers(tmp_path, behind)
    assert 20 <= carried < 60
    assert set(behind.entries) == {entry_like(n) for n in range(60)}


def test_an_adoption_that_fails_is_done_again_by_the_next(tmp_path: Path) -> None:
    die(filled(tmp_path, 50))
    with pytest.raises(RedisUnavailableError):
        adopt_dead_writers(tmp_path, Store(fail_after=20))
    store = Store(loses=False)
    adopt_dead_writers(tmp_path, store)
    assert set(store.entries) >= {entry_like(n) for n in range(20, 50)}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_lock_went_first_is_removed_unless_it_holds_a_file(tmp_path: Path) -> None:
    husk, odd = tmp_path / "0123456789abcdef", tmp_path / "fedcba9876543210"
    for folder in (husk, odd):
        folder.mkdir()
    (odd / "notes").touch()
    assert adopt_dead_writers(tmp_path, Store()) == (0, False)
    assert list(tmp_path.iterdir()) == [odd]


def test_a_folder_that_cannot_be_read_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = filled(tmp_path, 5)
    die(odd)
    segments_in(odd.folder)[0].unlink()
    (odd.folder / "0000000001.wal").mkdir()
    other = Spool(tmp_path, "fedcba9876543210")
    with other.lock:
        other.append(entry_like(7))
    die(other)
    store = Store()
    assert adopt_dead_writers(tmp_path, store).carried == 1
    assert store.entries == [entry_like(7)]
    assert "cannot be adopted" in caplog.text


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
    assert adopt_dead_writers(tmp_path, store).carried == 9
    (kept,) = (tmp_path / "rejected").iterdir()
    assert kept.read_bytes() == bytes(data)
    assert "not a whole frame" in caplog.text


def test_a_tally_tells_what_a_writer_noted_and_how_long_its_calls_took(tmp_path: Path) -> None:
    spool = filled(tmp_path, 10)
    spool.confirm(4)
    spool.timed = (2, 9_000)
    spool.note_tally()
    (told,) = survey_tallies(tmp_path).values()
    assert told.tally == Tally(10, 4, 0, 2, 9_000)
    assert told.tally.spooled == 6
    assert told.bytes == sum(path.stat().st_size for path in segments_in(spool.folder))
    die(spool)
    assert survey_tallies(tmp_path / "elsewhere") == {}


def test_a_tally_of_an_older_version_has_three_numbers(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(struct.pack("<QQQ", 9, 7, 1))
    assert tally_of(tmp_path) == Tally(9, 7, 1, 0, 0)
    (tmp_path / "lock").write_bytes(b"")
    assert tally_of(tmp_path) == Tally(0, 0, 0)
