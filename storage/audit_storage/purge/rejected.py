"""What in quarantine is past its retention, and how it goes; whatever is unclear stays.

The purge calls it. What could not be archived cannot be counted on to say its type or swarm: so it
is kept for the longest time that any rule gives, for ever where its bytes speak of permanence, and
under every hold that it might be named by.
"""

from __future__ import annotations

from collections.abc import Sequence

from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.layout import span_of_day
from audit_storage.purge.due import DueRule
from audit_storage.purge.holds import LegalHold
from claude_max_audit.entry import AuditEntry, decode_entry
from claude_max_audit.vocabulary import Retention

_PERMANENT = Retention.PERMANENT.value.encode()


def rejected_due(
    quarantine: Quarantine, rule: DueRule, holds: Sequence[LegalHold]
) -> list[Rejected]:
    """Return what in quarantine a purge by this rule may remove, oldest day first."""
    days = [day for day in quarantine.days() if span_of_day(day).end < rule.earliest]
    return [
        one
        for day in days
        for one in quarantine.list(day)
        if _PERMANENT not in one.text and _is_past(one, rule) and not _is_held(one, holds)
    ]


def _is_past(one: Rejected, rule: DueRule) -> bool:
    """Say whether what it tells of its own time is past, too: perhaps it lies under a wrong day."""
    entry = _read(one)
    return entry is None or entry.timestamp < rule.earliest


def _is_held(one: Rejected, holds: Sequence[LegalHold]) -> bool:
    entry = _read(one)
    if entry is None:
        return bool(holds)
    return any(hold.query.matches(entry) for hold in holds)


def _read(one: Rejected) -> AuditEntry | None:
    try:
        entry = decode_entry(one.text)
        _ = entry.metadata
    except ValueError:
        return None
    return entry
