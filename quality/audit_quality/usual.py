"""What is usual: how many entries and how many repeated contents the weeks before had.

Pure. A trail that is young or small has no usual, and nothing is held against it then.
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil, exp, floor, log
from statistics import median

WEEKS_BEFORE = 4
"""Weeks that say what is usual: long enough for weekends, short enough to follow growth."""

LEAST_PAST = 7
"""Days (or months) with entries below which nothing is usual yet."""

TENFOLD = log(10)
SPREADS = 5
"""A volume is unusual when it is ten times off the median, and five times further than the
days before used to be: steady trails are watched closely, erratic ones do not cry wolf."""

SMALL_VOLUME, LARGE_VOLUME = 100, 10_000
"""A median below the first cannot collapse, fewer entries than the second are no explosion."""

MORE_REPEATS = 0.3
"""How much larger the share of repeated contents may be than its median."""

LEAST_CONTENTS = 100
"""Contents below which a share of repeated ones says nothing."""


def usual_volume(past: Collection[int]) -> tuple[int | None, int | None]:
    """Return the least and the most entries that are usual after these; None: not known."""
    if len(past) < LEAST_PAST:
        return None, None
    logs = [log(rows) for rows in past if rows > 0]
    centre = median(logs)
    spread = max(TENFOLD, SPREADS * median(abs(one - centre) for one in logs))
    least = floor(exp(centre - spread)) if exp(centre) >= SMALL_VOLUME else 0
    return least, max(LARGE_VOLUME, ceil(exp(centre + spread)))


def most_repeats(past: Collection[float], contents: int) -> float | None:
    """Return the largest share of repeated contents that is usual; None: not known."""
    if len(past) < LEAST_PAST or contents < LEAST_CONTENTS:
        return None
    return median(past) + MORE_REPEATS
