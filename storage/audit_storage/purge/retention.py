"""How long an entry is kept: calendar years to the day, with a floor that nothing lowers.

The purge and the command line ask this module for one instant, the cutoff: what happened
before it is due, unless it is permanent. Pure arithmetic; it reads no clock and no store.

An entry's last day is counted by the calendar, as retention laws do: seven years from
14 May 2018, 10:00 end on 14 May 2025, 10:00, whatever leap days lie between. From a
29 February that has no anniversary the time runs on to the same hour of 1 March, so that
no entry is ever kept for less than its full years.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from claude_max_audit.entry import as_utc
from claude_max_audit.query import BEGINNING, END
from claude_max_audit.settings import MIN_RETENTION_DAYS


def retention_deadline(timestamp: datetime, years: int) -> datetime:
    """Return the aware UTC instant until which an entry of `timestamp` must be kept.

    Raises `ValueError` when `years` is not a whole number above 0. A deadline past the
    calendar's end (year 9999) is that end.
    """
    _check_years(years)
    moment = as_utc(timestamp)
    if moment.year + years > END.year:
        return END
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:  # 29 February into a common year
        return moment.replace(year=moment.year + years, month=3, day=1)


def cutoff_by_years(now: datetime, years: int) -> datetime:
    """Return the instant before which every entry is past its deadline at `now`.

    Never too late: in the year after which a 29 February has no anniversary, entries of that
    day hold back those of the following 1 March for some hours, never longer than a day.
    """
    _check_years(years)
    moment = as_utc(now)
    if moment.year - years < BEGINNING.year:
        return BEGINNING
    try:
        earlier = moment.replace(year=moment.year - years)
    except ValueError:  # 29 February back into a common year: all of its 28th is past
        return moment.replace(
            year=moment.year - years, month=3, day=1, hour=0, minute=0, second=0, microsecond=0
        )
    leap_day = earlier - timedelta(days=1) if (earlier.month, earlier.day) == (3, 1) else earlier
    return leap_day if retention_deadline(leap_day, years) == moment else earlier


def cutoff_by_days(now: datetime, older_than_days: int) -> datetime:
    """Return the instant `older_than_days` whole days (of 24 h) before `now`.

    Raises `ValueError` below the floor of `MIN_RETENTION_DAYS`.
    """
    if isinstance(older_than_days, bool) or not isinstance(older_than_days, int):
        raise TypeError(
            f"older_than_days must be a whole number of days, not {type(older_than_days).__name__}"
        )
    if older_than_days < MIN_RETENTION_DAYS:
        raise ValueError(_below_floor(f"older_than_days is {older_than_days}"))
    moment = as_utc(now)
    if timedelta(days=older_than_days) >= moment - BEGINNING:
        return BEGINNING
    return moment - timedelta(days=older_than_days)


def check_cutoff(cutoff: datetime, now: datetime) -> datetime:
    """Return `cutoff` as aware UTC; raises `ValueError` when it is younger than the floor."""
    instant = as_utc(cutoff)
    if instant > as_utc(now) - timedelta(days=MIN_RETENTION_DAYS):
        raise ValueError(_below_floor(f"the purge's cutoff is {instant.isoformat()}"))
    return instant


def _check_years(years: int) -> None:
    if isinstance(years, bool) or not isinstance(years, int):
        raise TypeError(
            f"years must be a whole number of calendar years, not {type(years).__name__}"
        )
    if years < 1:
        raise ValueError(_below_floor(f"years is {years}"))


def _below_floor(what: str) -> str:
    return (
        f"{what}, and no entry may be removed before it is {MIN_RETENTION_DAYS} days old "
        f"(MIN_RETENTION_DAYS); give {MIN_RETENTION_DAYS} days or more, or at least one year"
    )
