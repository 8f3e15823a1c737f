"""Columns of one day of agents at work: texts, times and ids, many at once.

Called by `swarm_years.py`. Everything comes from the generator of chance that is passed in.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from traffic import WORDS

_NUMBERED: Final = 0.12
"""The part of the words that are names with a number: files, tickets, sessions."""

_LONGEST: Final = 24
"""Bytes of the longest word with its number and the space after it, and some to spare."""

_HOURS: Final = np.array(
    [3, 2, 2, 2, 2, 3, 4, 6, 9, 11, 11, 10, 9, 10, 11, 11, 10, 8, 6, 5, 4, 4, 3, 3], dtype=float
)
"""How busy each hour of the day (UTC) is."""

_HEX: Final = np.frombuffer(b"".join(b"%02x" % n for n in range(256)), np.uint8).reshape(256, 2)
_DASHES: Final = (8, 13, 18, 23)


def phrases(chance: np.random.Generator, count: int, size: int) -> pl.Series:
    """Return `count` texts of exactly `size` characters, each beginning with a whole word."""
    stride = size + _LONGEST
    wanted = count * stride + size + _LONGEST
    words = chance.integers(0, len(WORDS), wanted // 6)  # they have eight letters on average
    numbered = chance.random(len(words)) < _NUMBERED
    numbers = np.where(numbered, chance.integers(0, 10_000, len(words)), 10_000)
    text = pl.Series(WORDS).gather(words) + pl.Series(_TAILS).gather(numbers)
    stream = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    ends = np.frombuffer(stream.buffers()[1], np.int64)[: len(words) + 1]
    letters = np.frombuffer(stream.buffers()[2], np.uint8)
    starts = ends[np.searchsorted(ends, np.arange(count) * stride)]
    texts = np.lib.stride_tricks.sliding_window_view(letters, size)[starts]
    return texts_of(texts)


def times_of_day(chance: np.random.Generator, count: int) -> np.ndarray:
    """Return microseconds since midnight, sorted, with the rhythm of a working day; none is on a
    full second."""
    hours = chance.choice(24, count, p=_HOURS / _HOURS.sum())
    times: np.ndarray = np.sort(hours * 3_600_000_000 + chance.integers(0, 3_600_000_000, count))
    return times | 1


def ids_of(chance: np.random.Generator, moments: pl.Series) -> pl.Series:
    """Return a UUID of version 7 (RFC 9562) for each moment."""
    count = len(moments)
    raw = np.empty((count, 16), np.uint8)
    stamps = moments.dt.epoch("ms").to_numpy().astype(">i8").view(np.uint8).reshape(count, 8)
    raw[:, :6] = stamps[:, 2:]
    raw[:, 6:] = np.frombuffer(chance.bytes(count * 10), np.uint8).reshape(count, 10)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x70
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = _HEX[raw].reshape(count, 32)
    texts = np.full((count, 36), ord("-"), np.uint8)
    texts[:, [at for at in range(36) if at not in _DASHES]] = digits
    return texts_of(texts)


def texts_of(letters: np.ndarray) -> pl.Series:
    """Return each row of ASCII letters as a text."""
    count, size = letters.shape
    ends = np.arange(0, (count + 1) * size, size, dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(letters))]
    texts = pl.from_arrow(pa.Array.from_buffers(pa.large_string(), count, buffers))
    assert isinstance(texts, pl.Series)
    return texts


_TAILS: Final = [*(f"_{number} " for number in range(10_000)), " "]
