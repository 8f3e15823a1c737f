"""Imports through the real auditor into a real Redis: the totals are those of the files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit_flows.generated_swarm import generate_swarm
from audit_flows.imports import import_path
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query
from claude_max_audit.settings import Settings

START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def auditor(settings: Settings) -> Iterator[ClaudeMaxAuditor]:
    made = ClaudeMaxAuditor(redis_url=settings.redis_url, home=settings.home)
    yield made
    made.sync.close()


@pytest.fixture
def hot(settings: Settings) -> Iterator[HotStore]:
    store = HotStore.connect(str(settings.redis_url))
    yield store
    store.close()


def test_all_real_events_are_in_redis_and_a_second_import_adds_none(
    realdata: Path, auditor: ClaudeMaxAuditor, hot: HotStore
) -> None:
    events = [
        json.loads(line)
        for file in sorted((realdata / "events").iterdir())
        for line in file.read_text().splitlines()
    ]
    report = import_path(auditor, realdata / "events", known=hot.existing, untimed_from=START)
    auditor.sync.flush_all()
    assert report.new_entries == len(events) == 7_548
    stored = [entry for chunk in hot.scan(Query()) for entry in chunk]
    assert Counter((e.entry_type, e.agent_id, e.swarm_id, e.content) for e in stored) == Counter(
        (e["kind"], e["from_agent"], e["swarm"], e["content"]) for e in events
    )
    stated = Counter(
        datetime.fromisoformat(e["timestamp"]) for e in events if e["timestamp"] is not None
    )
    assert Counter(e.timestamp for e in stored if e.timestamp >= min(stated)) == stated
    again = import_path(auditor, realdata / "events", known=hot.existing, untimed_from=START)
    auditor.sync.flush_all()
    assert (again.new_entries, again.already_there) == (0, 7_548)
    assert hot.count(Query()) == 7_548


def test_all_real_transcripts_are_in_redis(
    realdata: Path, auditor: ClaudeMaxAuditor, hot: HotStore
) -> None:
    report = import_path(auditor, realdata / "raw" / "cclog", known=hot.existing)
    auditor.sync.flush_all()
    assert report.accounted_for
    assert hot.count(Query()) == report.new_entries
    stored = [entry for chunk in hot.scan(Query()) for entry in chunk]
    assert Counter(entry.entry_type for entry in stored) == report.entries


def test_a_generated_swarm_is_in_redis(auditor: ClaudeMaxAuditor, hot: HotStore) -> None:
    drafts = list(generate_swarm(datetime.now(UTC), entries=300))
    for draft in drafts:
        auditor.sync.record(**draft.arguments())
    auditor.sync.flush_all()
    assert hot.existing([draft.entry_id for draft in drafts]) == {d.entry_id for d in drafts}
