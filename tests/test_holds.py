"""A legal hold keeps what it names from everything that deletes, until somebody releases it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake.delta_log import DeltaLog
from audit_storage.lake.lake import Lake
from audit_storage.purge.holds import HoldBook, LegalHold
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.purge import _Removal
from audit_storage.purge.receipts import ReceiptBook
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import Query, Span, parse_query
from claude_max_audit.settings import Settings
from cold_trail import WatchedIndex, archive, purge, stored, verified

EntryMaker = Callable[..., AuditEntry]
NOW = datetime(2025, 11, 30, 3, tzinfo=UTC)
CUTOFF = datetime(2018, 11, 30, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def book(settings: Settings) -> HoldBook:
    return HoldBook(settings)


@pytest.fixture
def old(make_entry: EntryMaker) -> list[AuditEntry]:
    """Twelve entries that are due, of three agents in two swarms and sessions, in two months."""
    return [
        make_entry(
            timestamp=CUTOFF - (1 + at % 2 * 800 + at) * HOUR,
            agent_id=f"agent_{at % 3}",
            swarm_id="red" if at % 3 else "blue",
            entry_type="context_access" if at % 3 == 2 else "message",
            session_id=f"session_{at % 2}",
            content=f"entry {at}",
        )
        for at in range(12)
    ]


def hold(book: HoldBook, asked: dict[str, Any], span: Span | None = None) -> LegalHold:
    query = parse_query(asked) if span is None else parse_query(asked).within(span)
    return book.place(query, by="counsel", reason="case 17/2025", now=NOW)


def ids_of(entries: list[AuditEntry], query: Query) -> set[str]:
    return {entry.entry_id for entry in entries if query.matches(entry)}


QUERIES: list[tuple[dict[str, Any], Span]] = [
    ({"swarm_id": "blue"}, Span()),
    ({"agent_id": "agent_1"}, Span()),
    ({"session_id": "session_0"}, Span()),
    ({"participant": "agent_b"}, Span()),
    ({}, Span(CUTOFF - 700 * HOUR, CUTOFF)),
    ({"agent_id": ["agent_1", "agent_2"]}, Span(end=CUTOFF - 8 * HOUR)),
    ({"cross_swarm": False, "entry_type": "message"}, Span()),
    ({}, Span()),
]


@pytest.mark.parametrize(("asked", "span"), QUERIES)
def test_a_purge_leaves_exactly_what_a_hold_names(
    lake: Lake, book: HoldBook, old: list[AuditEntry], asked: dict[str, Any], span: Span
) -> None:
    archive(lake, old)
    placed = hold(book, asked, span)
    held = ids_of(old, placed.query)
    assert held
    plan = plan_purge(lake, NOW, years=7)
    assert (plan.rows, plan.held_kept) == (len(old) - len(held), len(held))
    [told] = plan.held
    assert (told.hold_id, told.rows, told.reason) == (placed.hold_id, len(held), "case 17/2025")
    assert told.bytes > 0
    receipt = purge(lake, NOW)
    assert stored(lake) == held
    if receipt is not None:
        assert receipt.holds == plan.held
        assert ReceiptBook(lake.settings).receipts() == [receipt]
    report = verified(lake)
    assert report.whole, report.findings
    book.release(placed.hold_id, by="counsel", reason="settled", now=NOW)
    assert purge(lake, NOW) is not None
    assert stored(lake) == set()
    assert verified(lake).whole


def test_an_entry_under_two_holds_stays_until_both_are_released(
    lake: Lake, book: HoldBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    of_swarm, of_agent = hold(book, {"swarm_id": "red"}), hold(book, {"agent_id": "agent_1"})
    plan = plan_purge(lake, NOW, years=7)
    protected = {told.hold_id: told.rows for told in plan.held}
    assert protected == {of_swarm.hold_id: 8, of_agent.hold_id: 4}
    assert (plan.rows, plan.held_kept) == (4, 8)
    book.release(of_swarm.hold_id, by="counsel", reason="dropped", now=NOW)
    purge(lake, NOW)
    assert stored(lake) == ids_of(old, of_agent.query)


def test_holds_stand_in_the_book_with_who_when_and_why(
    book: HoldBook, settings: Settings
) -> None:
    assert book.holds() == []
    placed = hold(book, {"agent_id": ["a", "b"]}, Span(CUTOFF, NOW))
    assert placed.active
    assert book.active() == (placed,)
    assert (placed.placed_by, placed.reason, placed.placed_at) == ("counsel", "case 17/2025", NOW)
    later = NOW + 5 * HOUR
    released = book.release(placed.hold_id[:8], by="judge", reason="settled", now=later)
    assert (released.released_by, released.release_reason) == ("judge", "settled")
    assert released.released_at == later
    assert HoldBook(settings).holds() == [released]
    assert book.active() == ()
    assert released.as_dict()["query"] == {
        "agent_id": ["a", "b"],
        "start": CUTOFF.isoformat(),
        "end": NOW.isoformat(),
    }
    assert released.as_dict()["released_at"] == later.isoformat()


def test_a_hold_that_is_over_or_unknown_is_not_released(book: HoldBook) -> None:
    placed = hold(book, {})
    with pytest.raises(ValueError, match="no hold 'nothing'"):
        book.release("nothing", by="judge", reason="x", now=NOW)
    with pytest.raises(ValueError, match="no hold ''"):
        book.release("", by="judge", reason="x", now=NOW)
    book.release(placed.hold_id, by="judge", reason="settled", now=NOW)
    with pytest.raises(ValueError, match=r"was released on 2025-11-30 03:00 UTC by judge"):
        book.release(placed.hold_id, by="judge", reason="again", now=NOW)
    assert len(book.holds()) == 1


def test_a_hold_needs_a_name_a_reason_and_exact_matches(book: HoldBook) -> None:
    with pytest.raises(ValueError, match="needs by"):
        book.place(Query(), by=" ", reason="case", now=NOW)
    with pytest.raises(ValueError, match="needs reason"):
        book.place(Query(), by="counsel", reason="", now=NOW)
    with pytest.raises(ValueError, match="text_query"):
        book.place(parse_query({"text_query": "secret"}), by="counsel", reason="case", now=NOW)
    assert book.holds() == []


def test_two_releases_at_once_count_once(
    book: HoldBook, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = hold(book, {})
    append = DeltaLog.append

    def overtaken(log: DeltaLog, *given: Any, **named: Any) -> int:
        monkeypatch.setattr(DeltaLog, "append", append)
        HoldBook(settings).release(placed.hold_id, by="faster", reason="settled", now=NOW)
        return append(log, *given, **named)

    monkeypatch.setattr(DeltaLog, "append", overtaken)
    with pytest.raises(ValueError, match="by faster"):
        book.release(placed.hold_id, by="slower", reason="settled", now=NOW)
    assert [one.released_by for one in book.holds()] == ["faster"]


@pytest.mark.parametrize("step", ["leaves", "months_that_go", "stage"])
def test_a_hold_that_comes_while_a_purge_is_at_work_is_honoured(
    lake: Lake,
    book: HoldBook,
    old: list[AuditEntry],
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(lake, old)
    original = getattr(_Removal, step)
    placed: list[LegalHold] = []

    def place_first(self: _Removal, *given: object) -> object:
        if not placed:
            placed.append(hold(book, {"swarm_id": "blue"}))
        return original(self, *given)

    monkeypatch.setattr(_Removal, step, place_first)
    receipt = purge(lake, NOW)
    held = ids_of(old, placed[0].query)
    assert stored(lake) == held
    assert receipt is not None
    assert (receipt.rows, receipt.held_kept) == (8, 4)
    assert [one.hold_id for one in receipt.holds] == [placed[0].hold_id]
    assert ReceiptBook(lake.settings).receipts() == [receipt]
    assert verified(lake).whole


def test_a_hold_that_comes_before_the_bytes_are_gone_keeps_them(
    lake: Lake, book: HoldBook, old: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(lake, old)
    before = {file.path for file in lake.view().files}
    with monkeypatch.context() as patched:
        patched.setattr(Lake, "vacuum_now", lambda _, **__: [])
        assert purge(lake, NOW) is not None
    placed = hold(book, {"agent_id": "agent_0"})
    assert len(lake.vacuum_now()) < len(before)
    folder = Path(lake.uri)
    left = {str(path.relative_to(folder)) for path in folder.glob("month=*/*.parquet")}
    kept = pl.concat([pl.read_parquet(folder / path) for path in left])
    assert ids_of(old, placed.query) <= set(kept.get_column("entry_id"))
    book.release(placed.hold_id, by="counsel", reason="settled", now=NOW)
    assert set(lake.vacuum_now()) == left
    assert list(folder.glob("month=*/*.parquet")) == []


def test_a_vacuum_under_a_hold_takes_files_whose_rows_are_elsewhere(
    lake: Lake, book: HoldBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    hold(book, {})
    before = {file.path for file in lake.view().files}
    for month in {file.month for file in lake.view().files}:
        lake.compact_month(month)
    replaced = before - {file.path for file in lake.view().files}
    assert len(replaced) > 1
    assert set(lake.vacuum_now()) == replaced
    assert stored(lake) == {entry.entry_id for entry in old}
    assert verified(lake).whole


def test_rows_under_a_hold_are_not_deleted_by_condition(
    lake: Lake, book: HoldBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    placed = hold(book, {"swarm_id": "blue"})
    removal = lake.delete_rows(Span(), pl.lit(True), app="somebody")
    assert removal.rows == 8
    assert stored(lake) == ids_of(old, placed.query)


def test_a_month_with_held_entries_is_not_dropped_from_the_index(
    lake: Lake, book: HoldBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    index = WatchedIndex(old)
    hold(book, {"entry_id": [old[0].entry_id]})
    purge(lake, NOW, index)
    assert index.ids() == stored(lake) == {old[0].entry_id}
    assert index.dropped == [f"{old[1].timestamp:%Y-%m}"]


def test_a_held_entry_leaves_redis_only_for_the_lake(
    lake: Lake, book: HoldBook, old: list[AuditEntry], settings: Settings
) -> None:
    assert settings.redis_url is not None
    hot = HotStore.connect(settings.redis_url)
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in old])
    placed = hold(book, {"swarm_id": "blue"})
    hot.prune(NOW)
    assert hot.existing([entry.entry_id for entry in old]) == {e.entry_id for e in old}
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    assert hot.existing([entry.entry_id for entry in old]) == set()  # long past their hot days
    purge(lake, NOW)
    assert stored(lake) == ids_of(old, placed.query)
    hot.close()


def test_a_hold_covers_what_comes_later(
    lake: Lake, book: HoldBook, old: list[AuditEntry]
) -> None:
    placed = hold(book, {"swarm_id": "red"})
    archive(lake, old)
    purge(lake, NOW)
    assert stored(lake) == ids_of(old, placed.query)
