"""Frames of the spool: what was appended is read back, and damage is told from a torn end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_max_audit.spool.segment import FRAME_BYTES, HEADER_BYTES, Segment, Unfit, read_frames

WRITER = "0123456789abcdef"


def entry_like(number: int, padding: int = 10) -> bytes:
    return b'{"entry_id":"%d","content":"%b"}' % (number, b"x" * padding)


def written(path: Path, payloads: list[bytes], capacity: int = 4096) -> Path:
    segment = Segment(WRITER, 1, capacity, path)
    for payload in payloads:
        assert segment.append(payload)
    segment.close()
    return path


@given(payloads=st.lists(st.binary(min_size=1, max_size=300), max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_payload_comes_back_in_order(
    payloads: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("segment") / "1.wal"
    assert list(read_frames(written(path, payloads, 16384))) == payloads


@given(cut=st.integers(min_value=0, max_value=600))
@settings(max_examples=80, deadline=None)
def test_a_file_cut_anywhere_gives_a_prefix_and_no_alarm(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    payloads = [entry_like(n) for n in range(8)]
    path = written(tmp_path_factory.mktemp("segment") / "1.wal", payloads, 1024)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
    frames = list(read_frames(path))
    assert frames == payloads[: len(frames)]


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=12),
    at=st.integers(min_value=HEADER_BYTES, max_value=1 << 12),
    bit=st.integers(min_value=0, max_value=7),
)
@settings(max_examples=120, deadline=None)
def test_a_flipped_bit_never_gives_an_entry_that_nobody_wrote(
    payloads: list[bytes], at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries = [b'{"entry_id":"%b"}' % payload for payload in payloads]
    path = written(tmp_path_factory.mktemp("segment") / "1.wal", entries)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    read = [frame for frame in read_frames(path) if isinstance(frame, bytes)]
    rest = iter(entries)
    assert all(frame in rest for frame in read), "what is read is a part of it, in order"
    assert len(read) >= len(entries) - 1 or at % len(data) < HEADER_BYTES


def test_a_frame_that_does_not_fit_is_refused_and_leaves_the_segment_whole(
    tmp_path: Path,
) -> None:
    segment = Segment(WRITER, 1, 128, tmp_path / "1.wal")
    assert segment.append(b"a" * 40)
    assert not segment.append(b"b" * 60)
    assert segment.append(b"c" * 20)
    segment.close()
    assert list(read_frames(tmp_path / "1.wal")) == [b"a" * 40, b"c" * 20]


@pytest.mark.parametrize("at", [HEADER_BYTES, HEADER_BYTES + 4, HEADER_BYTES + FRAME_BYTES + 3])
def test_damage_in_the_middle_is_reported_and_the_rest_is_read(tmp_path: Path, at: int) -> None:
    payloads = [entry_like(n) for n in range(4)]
    path = written(tmp_path / "1.wal", payloads)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    frames = list(read_frames(path))
    assert [f for f in frames if isinstance(f, bytes)] == payloads[1:]
    unfit = [f for f in frames if isinstance(f, Unfit)]
    assert len(unfit) == 1
    assert unfit[0].offset == HEADER_BYTES


def test_a_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "1.wal"
    path.write_bytes(b"something else entirely, longer than a header")
    (unfit,) = read_frames(path)
    assert isinstance(unfit, Unfit)
    assert "not a spool segment" in unfit.reason


def test_a_segment_in_memory_reads_what_it_took() -> None:
    segment = Segment(WRITER, 5, 1024)
    assert segment.append(b"one")
    assert segment.append(b"two")
    payload, after = segment.read(HEADER_BYTES)
    assert payload == b"one"
    assert segment.read(after)[0] == b"two"
    assert segment.offset_of(6) == after
    assert segment.last_seq == 6
    segment.close()
