"""Moments as people type them: a day, an instant, or how long ago. Always UTC.

`2025-11-30` is that whole day, `2025-11-30T14:00` (a zone may follow) an instant, `today`
and `yesterday` are days, and `90m`, `24h`, `7d`, `8w` ago are instants. Reads no clock: the
caller passes `now`.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from claude_max_audit.entry import as_utc

FORMS = "2025-11-30, 2025-11-30T14:00, today, yesterday, or an age such as 90m, 24h, 7d, 8w"
"""What `parse_moment` takes, for help and for error messages."""

_AGE = re.compile(r"(\d{1,6})([mhdw])\Z")
_UNIT = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, now: datetime) -> date | datetime:
    """Return the UTC day or the aware UTC instant that `text` names.

    A day stays a `date`, so that as an end it means the whole day. Raises `ValueError`.
    """
    if text in ("today", "yesterday"):
        return now.date() - timedelta(days=text == "yesterday")
    try:
        if age := _AGE.match(text):
            return now - timedelta(**{_UNIT[age[2]]: int(age[1])})
        return date.fromisoformat(text) if len(text) == 10 else parse_instant(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; the forms are {FORMS}") from None


def parse_instant(text: str) -> datetime:
    """Return the aware UTC instant of an ISO 8601 text; without a zone it is UTC."""
    return as_utc(datetime.fromisoformat(text))


def parse_day(text: str) -> date:
    """Return the day of a text such as 2025-11-30; raises `ValueError`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day; the form is 2025-11-30") from None
