"""The generated swarm: plausible, repeatable, and labelled as generated in every entry."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from audit_flows.generated_swarm import DEFAULT_DAYS, DEFAULT_ENTRIES, generate_swarm
from audit_flows.imports import Draft
from claude_max_audit.entry import AuditEntry
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)
from import_recorder import RecordingAuditor

END = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def drafts() -> list[Draft]:
    return list(generate_swarm(END))


@pytest.fixture(scope="module")
def entries(drafts: list[Draft]) -> list[AuditEntry]:
    auditor = RecordingAuditor()
    for draft in drafts:
        auditor.record(**draft.arguments())
    return auditor.entries


def test_every_entry_is_valid_has_its_own_id_and_says_that_it_is_generated(
    entries: list[AuditEntry],
) -> None:
    assert DEFAULT_ENTRIES <= len(entries) < DEFAULT_ENTRIES + 20
    assert len({entry.entry_id for entry in entries}) == len(entries)
    assert all(entry.metadata["generated"] is True for entry in entries)


def test_all_kinds_words_and_grades_occur(entries: list[AuditEntry]) -> None:
    assert {entry.entry_type for entry in entries} == set(AuditEntryType)
    assert {entry.message_type for entry in entries} == {None, *MessageType}
    assert {entry.operation for entry in entries} == {None, *OperationType}
    assert {entry.severity for entry in entries} == {None, *SecuritySeverity}
    kept = Counter(entry.retention for entry in entries)
    assert 0 < kept[Retention.PERMANENT] < kept[Retention.STANDARD]


def test_even_a_short_story_has_an_event_of_every_severity() -> None:
    told = {draft.severity for draft in generate_swarm(END, entries=400)}
    assert told == {None, *SecuritySeverity}


def test_messages_between_swarms_belong_to_both(entries: list[AuditEntry]) -> None:
    crossing = [entry for entry in entries if len(entry.swarm_ids) == 2]
    assert crossing
    assert all(entry.metadata["cross_swarm"] is True for entry in crossing)
    assert all(entry.swarm_id == entry.swarm_ids[0] for entry in crossing)


def test_it_covers_every_day_in_order_and_ends_before_the_end(drafts: list[Draft]) -> None:
    times = [draft.timestamp for draft in drafts]
    assert times == sorted(times)
    assert times[-1] <= END
    first = END.date() - timedelta(days=DEFAULT_DAYS)
    days: set[date] = {moment.date() for moment in times}
    assert days == {first + timedelta(days=n) for n in range(DEFAULT_DAYS + 1)}


def test_the_same_seed_and_end_tell_the_same_story(drafts: list[Draft]) -> None:
    assert list(generate_swarm(END)) == drafts
    assert list(generate_swarm(END.replace(tzinfo=None))) == drafts


@pytest.mark.parametrize("other", [{"seed": 1}, {"end": END + timedelta(seconds=1)}])
def test_another_seed_or_end_tells_another_story(
    drafts: list[Draft], other: dict[str, int | datetime]
) -> None:
    told = generate_swarm(**({"end": END} | other))  # type: ignore[arg-type]
    assert {d.entry_id for d in told}.isdisjoint(d.entry_id for d in drafts)


@pytest.mark.parametrize("wrong", [{"days": 0}, {"entries": 0}])
def test_nothing_to_generate_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(generate_swarm(END, **wrong))
