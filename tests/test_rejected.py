"""What lies in quarantine goes when it is surely past its retention, and stays when in doubt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from audit_storage.archive.quarantine import OF_LAKE, Quarantine, Rejected
from audit_storage.lake.lake import Lake
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.plan import PurgeTooLargeError, plan_purge
from audit_storage.purge.policy_file import policy_of
from audit_storage.purge.purge import execute_purge
from audit_storage.purge.receipts import PurgeReceipt, ReceiptBook
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import parse_query
from claude_max_audit.settings import Settings
from cold_trail import archive, stored, verified

EntryMaker = Callable[..., AuditEntry]
NOW = datetime(2025, 11, 30, 3, tzinfo=UTC)
LAST_DUE = date(2018, 11, 29)
"""The last day that was over before the cutoff."""


@pytest.fixture
def quarantine(settings: Settings) -> Quarantine:
    return Quarantine(settings)


def put(quarantine: Quarantine, text: bytes, day: date = LAST_DUE) -> str:
    """Reject a text; returns its name in plans and receipts."""
    one = Rejected(day, None, "it cannot be read", text, NOW - timedelta(days=1))
    quarantine.add(day, [one])
    return f"{day}/{one.text_hash}"


def purge(settings: Settings, at_most: int | None = None) -> PurgeReceipt | None:
    lake = Lake(settings)
    plan = plan_purge(lake, NOW, policy=policy_of(settings), at_most=at_most)
    return execute_purge(lake, ReceiptBook(settings), None, None, plan, NOW, by="test")


def test_what_is_past_goes_with_a_receipt_and_without_a_byte(
    settings: Settings, quarantine: Quarantine
) -> None:
    gone = put(quarantine, b"\xff forget-me")
    stays = put(quarantine, b"\xff too young", LAST_DUE + timedelta(days=1))
    receipt = purge(settings)
    assert receipt is not None
    assert (receipt.rows, receipt.rejected) == (0, (gone,))
    assert (receipt.first_day, receipt.last_day) == (LAST_DUE, LAST_DUE)
    assert ReceiptBook(settings).receipts() == [receipt]
    assert [f"{one.day}/{one.text_hash}" for one in quarantine.list()] == [stays]
    files = [path for path in Path(settings.lake_uri).rglob("*") if path.is_file()]
    assert [path for path in files if b"forget-me" in path.read_bytes()] == []
    assert verified(Lake(settings)).whole
    assert purge(settings) is None


def test_a_copy_of_a_row_of_the_lake_goes_too(
    settings: Settings, quarantine: Quarantine
) -> None:
    reason = f"{OF_LAKE}entry_hash_fits"
    quarantine.add(LAST_DUE, [Rejected(LAST_DUE, "id", reason, b'{"content":"forget-me"}', NOW)])
    assert quarantine.counts() == {}, "the archive has nothing to do with it"
    assert purge(settings) is not None
    assert quarantine.list() == []


def test_the_longest_rule_holds_for_what_does_not_say_what_it_is(
    settings: Settings, quarantine: Quarantine
) -> None:
    put(quarantine, b"\xff")
    settings.home.mkdir(exist_ok=True)
    policy = settings.home / "retention.toml"
    policy.write_text('[[rule]]\nentry_type = "decision"\nyears = 8\n')
    assert purge(settings) is None
    policy.write_text('[[rule]]\nentry_type = "decision"\nyears = 1\n')
    assert purge(settings) is not None


def test_what_may_be_permanent_or_young_stays(
    settings: Settings, quarantine: Quarantine, make_entry: EntryMaker
) -> None:
    put(quarantine, b'"retention":"permanent", and no entry')
    put(quarantine, make_entry(timestamp=NOW).to_json().encode())  # under a wrong day
    assert purge(settings) is None
    assert len(quarantine.list()) == 2


def test_a_hold_protects_what_it_names_and_what_nobody_can_read(
    settings: Settings, quarantine: Quarantine, make_entry: EntryMaker
) -> None:
    at = datetime(2018, 11, 29, 12, tzinfo=UTC)
    for agent in ("held", "other"):
        put(quarantine, make_entry(timestamp=at, agent_id=agent).to_json().encode())
    put(quarantine, b"\xff")
    book = HoldBook(settings)
    hold = book.place(parse_query({"agent_id": "held"}), by="a", reason="b", now=NOW)
    receipt = purge(settings)
    assert receipt is not None
    assert len(receipt.rejected) == 1
    assert len(quarantine.list()) == 2
    book.release(hold.hold_id, by="a", reason="b", now=NOW)
    assert purge(settings) is not None
    assert quarantine.list() == []


def test_it_counts_toward_the_cap(settings: Settings, quarantine: Quarantine) -> None:
    put(quarantine, b"\xff")
    with pytest.raises(PurgeTooLargeError, match="would remove 1 of 0"):
        purge(settings, at_most=0)
    assert len(quarantine.list()) == 1


def test_one_that_was_stopped_before_the_bytes_is_finished_by_the_next(
    settings: Settings, quarantine: Quarantine, make_entry: EntryMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(Lake(settings), [make_entry(timestamp=datetime(2018, 1, 1, tzinfo=UTC))])
    put(quarantine, b"\xff")

    def stop(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Quarantine, "erase", stop)
        with pytest.raises(RuntimeError):
            purge(settings)
    assert (stored(Lake(settings)), len(quarantine.list())) == (set(), 1)
    again = purge(settings)
    assert again is not None
    assert (again.rows, len(again.rejected)) == (0, 1)
    assert quarantine.list() == []
    first, second = ReceiptBook(settings).receipts()
    assert first.rejected == second.rejected  # both tell of it, and no row is counted twice
    assert {first.rows, second.rows} == {0, 1}
