"""Queries: what is refused and how it is said, and what a query means."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from claude_max_audit import AuditEntry
from claude_max_audit.query import QUERY_KEYS, check_page, parse_query

DAY = datetime(2025, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "error", "says"),
    [
        ({"agent": "a"}, ValueError, "unknown query key 'agent'; known are agent_id"),
        ({"severity": "dire"}, ValueError, "known are low, medium, high, critical"),
        ({"entry_type": ["message", "gossip"]}, ValueError, "'gossip'; known are message"),
        ({"agent_id": 7}, TypeError, r"query\['agent_id'\] must be text"),
        ({"agent_id": ""}, ValueError, r"query\['agent_id'\] is empty"),
        ({"agent_id": []}, ValueError, "empty list"),
        ({"cross_swarm": "yes"}, TypeError, "must be True or False"),
        ({"text_query": "  "}, ValueError, "is empty"),
        ({"text_query": 3}, TypeError, "must be text"),
        ({"citation": "if://x"}, ValueError, "is not a citation"),
        ("agent_id", TypeError, "must be a mapping"),
    ],
)
def test_a_bad_query_is_refused_and_says_what_is_known(
    query: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        parse_query(query)


@pytest.mark.parametrize(
    ("time_range", "error", "says"),
    [
        ((DAY, DAY - timedelta(seconds=1)), ValueError, "runs backwards"),
        ((DAY,), TypeError, "must be a pair"),
        ("today", TypeError, "must be a pair"),
        (("2025-01-01", None), TypeError, "time_range start must be a datetime"),
    ],
)
def test_a_bad_time_range_is_refused(
    time_range: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        parse_query({}, time_range)


def test_a_span_takes_naive_times_as_utc_and_dates_as_whole_days() -> None:
    naive = parse_query({}, (datetime(2025, 1, 1), None)).span
    assert naive.start == datetime(2025, 1, 1, tzinfo=UTC)
    whole = parse_query({}, (date(2025, 1, 1), date(2025, 1, 1))).span
    assert whole.end - whole.start == timedelta(days=1) - timedelta(microseconds=1)
    eastern = timezone(timedelta(hours=-5))
    moved = parse_query({}, (datetime(2025, 1, 1, tzinfo=eastern), None)).span
    assert moved.start.utcoffset() == timedelta(0)


@pytest.mark.parametrize("limit", [-1, True, 1.5, "10", None])
def test_a_bad_limit_or_offset_is_refused(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="limit must"):
        check_page(limit, 0)
    with pytest.raises((TypeError, ValueError), match="offset must"):
        check_page(0, limit)


def test_keys_mean_what_they_say(make_entry: Callable[..., AuditEntry]) -> None:
    message = make_entry(
        agent_id="a", to_agent="b", swarm_id="s", swarm_ids=("s", "t"), session_id="x"
    )
    event = make_entry(
        entry_type="security_event", severity="high", metadata={"event_type": "auth_failure"}
    )

    def fits(query: dict[str, Any], entry: AuditEntry) -> bool:
        return parse_query(query).matches(entry)

    assert fits({}, message)
    assert fits({"agent_id": "a"}, message)
    assert not fits({"agent_id": "b"}, message)
    assert fits({"to_agent": "b"}, message)
    assert not fits({"to_agent": "a"}, message)
    assert fits({"participant": "a"}, message)
    assert fits({"participant": "b"}, message)
    assert fits({"swarm_id": "t"}, message)
    assert not fits({"swarm_id": "u"}, message)
    assert fits({"swarm_id": ["u", "t"]}, message)
    assert fits({"cross_swarm": True}, message)
    assert fits({"cross_swarm": False}, event)
    assert fits({"severity": ["low", "high"]}, event)
    assert fits({"event_type": "auth_failure"}, event)
    assert not fits({"event_type": "auth_failure"}, message)
    assert fits({"citation": message.citation}, message)
    assert not fits({"citation": message.citation, "entry_id": event.entry_id}, message)
    assert not fits({"agent_id": "a", "session_id": "y"}, message)


def test_every_documented_key_is_taken() -> None:
    assert set(QUERY_KEYS) == {
        "agent_id", "to_agent", "participant", "swarm_id", "entry_type", "message_type",
        "operation", "severity", "event_type", "decision_type", "session_id", "content_hash",
        "entry_id", "citation", "cross_swarm", "retention", "text_query",
    }  # fmt: skip
