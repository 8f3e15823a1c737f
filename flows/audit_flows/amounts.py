"""Amounts as people read them: in tables, in lines of a log, in the names of runs."""

from __future__ import annotations

from datetime import date


def count(number: int) -> str:
    """Return a number with its thousands apart: 1,376."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: 1 entry, 2 entries, 0 days."""
    if number == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
    return f"{number:,} {plural}"


def size(number: int) -> str:
    """Return a number of bytes in the unit that fits: 812 B, 2.1 MB (powers of 1000)."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def days(first: date, last: date) -> str:
    """Return a span of days, or the one day: 2025-11-30 to 2025-12-02."""
    return str(first) if first == last else f"{first} to {last}"


def age(seconds: float) -> str:
    """Return a length of time in the one unit that tells it best: 12 s, 3 min, 5 h, 2 d."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
