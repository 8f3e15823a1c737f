"""Retention counts calendar years to the day, and its floor holds against every setting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audit_storage.purge.retention import (
    check_cutoff,
    cutoff_by_days,
    cutoff_by_years,
    retention_deadline,
)
from claude_max_audit.settings import MIN_RETENTION_DAYS

ONE = timedelta(microseconds=1)


def utc(*parts: int) -> datetime:
    """Return an aware UTC instant."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("timestamp", "years", "deadline"),
    [
        (utc(2018, 5, 14, 10), 7, utc(2025, 5, 14, 10)),
        (utc(2016, 2, 28, 23, 59), 7, utc(2023, 2, 28, 23, 59)),
        (utc(2016, 2, 29, 23, 59), 7, utc(2023, 3, 1, 23, 59)),
        (utc(2016, 2, 29, 12), 8, utc(2024, 2, 29, 12)),
        (utc(2096, 2, 29), 4, utc(2100, 3, 1)),  # 2100 is no leap year
        (utc(2019, 12, 31, 23, 59, 59, 999999), 7, utc(2026, 12, 31, 23, 59, 59, 999999)),
        (utc(9998, 1, 1), 7, utc(9999, 12, 31, 23, 59, 59, 999999)),
    ],
)
def test_a_deadline_is_the_same_day_of_a_later_year(
    timestamp: datetime, years: int, deadline: datetime
) -> None:
    assert retention_deadline(timestamp, years) == deadline


def test_a_deadline_is_counted_in_utc() -> None:
    local = datetime(2018, 5, 14, 1, tzinfo=timezone(timedelta(hours=5)))
    assert retention_deadline(local, 7) == utc(2025, 5, 13, 20)


def test_seven_years_are_more_than_2555_days() -> None:
    kept = retention_deadline(utc(2018, 5, 14), 7) - utc(2018, 5, 14)
    assert kept == timedelta(days=2557)


moments = st.datetimes(utc(1900, 1, 1).replace(tzinfo=None), datetime(2300, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(now=moments, years=st.integers(1, 30), before=st.timedeltas(ONE, timedelta(days=3)))
@example(now=utc(2031, 3, 1, 12), years=7, before=ONE)
@example(now=utc(2031, 3, 1, 12), years=7, before=timedelta(hours=13))
@example(now=utc(2031, 3, 2), years=7, before=ONE)
@example(now=utc(2028, 2, 29, 12), years=7, before=ONE)
def test_nothing_before_the_cutoff_is_still_to_be_kept(
    now: datetime, years: int, before: timedelta
) -> None:
    assert retention_deadline(cutoff_by_years(now, years) - before, years) <= now


@given(now=moments, years=st.integers(1, 30), after=st.timedeltas(ONE, timedelta(days=3)))
@example(now=utc(2031, 3, 1, 12), years=7, after=ONE)
@example(now=utc(2028, 2, 29, 12), years=7, after=ONE)
def test_what_is_due_waits_for_its_cutoff_at_most_a_day(
    now: datetime, years: int, after: timedelta
) -> None:
    kept = cutoff_by_years(now, years) + timedelta(days=1) + after
    assert retention_deadline(kept, years) > now


def test_the_29th_of_february_is_kept_until_the_same_hour_of_1_march() -> None:
    assert cutoff_by_years(utc(2031, 3, 1, 12), 7) == utc(2024, 2, 29, 12)
    assert cutoff_by_years(utc(2031, 2, 28, 23), 7) == utc(2024, 2, 28, 23)
    assert cutoff_by_years(utc(2031, 3, 2), 7) == utc(2024, 3, 2)


def test_a_cutoff_before_the_calendar_finds_nothing_due() -> None:
    assert cutoff_by_years(utc(2025, 1, 1), 5000).year == 1
    assert cutoff_by_days(utc(2025, 1, 1), 5_000_000).year == 1


def test_days_given_by_the_customer_are_honoured() -> None:
    assert cutoff_by_days(utc(2025, 11, 30), 2555) == utc(2025, 11, 30) - timedelta(days=2555)


@pytest.mark.parametrize("days", [MIN_RETENTION_DAYS - 1, 30, 0, -1])
def test_the_floor_refuses_fewer_days(days: int) -> None:
    with pytest.raises(ValueError, match=f"{MIN_RETENTION_DAYS} days"):
        cutoff_by_days(utc(2025, 11, 30), days)


def test_the_floor_refuses_a_cutoff_that_is_too_young() -> None:
    now = utc(2025, 11, 30)
    floor = now - timedelta(days=MIN_RETENTION_DAYS)
    assert check_cutoff(floor, now) == floor
    with pytest.raises(ValueError, match="MIN_RETENTION_DAYS"):
        check_cutoff(floor + ONE, now)


@pytest.mark.parametrize("years", [0, -7])
def test_the_floor_refuses_years_that_keep_nothing(years: int) -> None:
    with pytest.raises(ValueError, match="at least one year"):
        cutoff_by_years(utc(2025, 11, 30), years)


@pytest.mark.parametrize("years", [7.0, "7", True])
def test_years_are_whole_numbers(years: object) -> None:
    with pytest.raises(TypeError, match="calendar years"):
        retention_deadline(utc(2025, 11, 30), years)  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [2555.5, "2555", True])
def test_days_are_whole_numbers(days: object) -> None:
    with pytest.raises(TypeError, match="whole number of days"):
        cutoff_by_days(utc(2025, 11, 30), days)  # type: ignore[arg-type]
