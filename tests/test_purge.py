"""A purge removes what is due from every store, to the last byte, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from audit_storage.lake.lake import Lake
from audit_storage.lake.transaction import LakeTransaction
from audit_storage.merkle import leaf_hash, root_of
from audit_storage.purge.purge import (
    PurgePlan,
    PurgeTooLargeError,
    execute_purge,
    plan_purge,
)
from audit_storage.purge.receipts import RECEIPT_SCHEMA, PurgeReceipt, ReceiptBook
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import Query
from claude_max_audit.settings import MIN_RETENTION_DAYS, Settings

EntryMaker = Callable[..., AuditEntry]
NOW = datetime(2025, 11, 30, 3, tzinfo=UTC)
CUTOFF = datetime(2018, 11, 30, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


class WatchedIndex:
    """Keeps the ids it is given, by month, like the index; remembers what was dropped."""

    def __init__(self, entries: list[AuditEntry]) -> None:
        self.months: dict[str, set[str]] = {}
        self.dropped: list[str] = []
        for entry in entries:
            self.months.setdefault(f"{entry.timestamp:%Y-%m}", set()).add(entry.entry_id)

    def forget(self, entry_ids: Collection[str], month: str) -> int:
        self.months.get(month, set()).difference_update(entry_ids)
        return len(entry_ids)

    def drop_month(self, month: str) -> None:
        self.dropped.append(month)
        self.months.pop(month, None)

    def ids(self) -> set[str]:
        return set().union(*self.months.values())


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def book(settings: Settings) -> ReceiptBook:
    return ReceiptBook(settings)


@pytest.fixture
def old(make_entry: EntryMaker) -> list[AuditEntry]:
    """Entries around the cutoff: due, due but permanent, and not due; in three months."""
    due = [
        make_entry(timestamp=CUTOFF - step, content=f"forget-me {at}", agent_id=f"due_{at}")
        for at, step in enumerate([60 * 24 * HOUR, 26 * HOUR, 25 * HOUR, timedelta(microseconds=1)])
    ]
    permanent = make_entry(timestamp=CUTOFF - 25 * HOUR, retention="permanent", content="stays")
    kept = [make_entry(timestamp=CUTOFF + at * 400 * HOUR, content="stays") for at in range(3)]
    return [*due, permanent, *kept]


def archive(lake: Lake, entries: list[AuditEntry]) -> None:
    """Commit entries, each day under its own application id."""
    for day in sorted({entry.day for entry in entries}):
        with lake.begin(f"archive/{day}") as transaction:
            transaction.add([entry for entry in entries if entry.day == day])
            transaction.commit()


def due_of(entries: list[AuditEntry]) -> list[AuditEntry]:
    return [entry for entry in entries if (entry.content or "").startswith("forget-me")]


def stored(lake: Lake) -> set[str]:
    return {one for frame in lake.scan(Query()) for one in frame.get_column("entry_id")}


def purge(
    lake: Lake, book: ReceiptBook, index: WatchedIndex | None = None, now: datetime = NOW
) -> PurgeReceipt | None:
    plan = plan_purge(lake, now, years=7)
    return execute_purge(lake, book, None, index, plan, now, by="test")


def files_with(home: Path, text: str) -> list[Path]:
    """Return the files that hold the text, or would show it when their Parquet is unpacked."""
    return [
        path
        for path in home.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_a_plan_counts_what_is_due_and_changes_nothing(
    lake: Lake, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    version = lake.version()
    plan = plan_purge(lake, NOW, years=7)
    assert plan.cutoff == CUTOFF
    assert plan.days == {
        date(2018, 10, 1): 1,
        date(2018, 11, 29): 2,
        date(2018, 11, 30): 1,
    }
    assert (plan.rows, plan.permanent_kept, plan.policy) == (4, 1, "7 calendar years")
    assert 0 < plan.bytes < sum(file.bytes for file in lake.view().files)
    assert (lake.version(), lake.count()) == (version, len(old))


def test_what_is_due_goes_and_all_else_stays(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    kept = [entry for entry in old if entry not in due_of(old)]
    purge(lake, book)
    assert lake.find([entry.entry_id for entry in old]) == {e.entry_id: e for e in kept}
    assert lake.count() == len(kept)


def test_the_receipt_tells_what_was_removed_without_contents(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry], settings: Settings
) -> None:
    archive(lake, old)
    version = lake.version()
    receipt = purge(lake, book)
    due = sorted(due_of(old), key=lambda entry: (entry.timestamp, entry.entry_id))
    assert receipt is not None
    assert [receipt] == book.receipts() == ReceiptBook(settings).receipts()
    assert (receipt.rows, receipt.permanent_kept, receipt.by) == (4, 1, "test")
    assert (receipt.at, receipt.cutoff, receipt.lake_version) == (NOW, CUTOFF, version)
    assert (receipt.first_day, receipt.last_day) == (date(2018, 10, 1), date(2018, 11, 30))
    assert receipt.root == root_of(entry.canonical_bytes() for entry in due).hex()
    leaves = [row for frame in book.all_leaves() for row in frame.iter_rows(named=True)]
    assert [leaf["entry_id"] for leaf in leaves] == [entry.entry_id for entry in due]
    assert [leaf["leaf"] for leaf in leaves] == [leaf_hash(e.canonical_bytes()) for e in due]
    assert leaves[0]["snapshot"] == "archive/2018-10-01/1"


def test_no_file_of_the_lake_keeps_a_purged_agent(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry], settings: Settings
) -> None:
    archive(lake, old)
    lake_folder = Path(settings.lake_uri)
    removed = {
        file.path for file in lake.view().files if (lake_folder / "entries" / file.path).exists()
    }
    purge(lake, book)
    left = {
        str(path.relative_to(lake_folder / "entries"))
        for path in (lake_folder / "entries").rglob("*.parquet")
    }
    assert left & removed == {
        file.path for file in lake.view().files if file.path in removed
    }
    assert {path for path in left if not path.startswith("_delta_log")} == {
        file.path for file in lake.view().files
    }
    assert files_with(lake_folder, "forget-me") == []


def test_a_second_purge_finds_nothing(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    assert purge(lake, book) is not None
    left = stored(lake)
    assert purge(lake, book) is None
    assert stored(lake) == left
    assert len(book.receipts()) == 1


def test_an_empty_lake_has_nothing_due(lake: Lake, book: ReceiptBook, settings: Settings) -> None:
    assert plan_purge(lake, NOW, years=7).rows == 0
    assert purge(lake, book) is None
    assert not Path(settings.lake_uri, "entries").exists()


def test_the_day_of_an_entry_comes_to_the_hour(
    lake: Lake, book: ReceiptBook, make_entry: EntryMaker
) -> None:
    leap = make_entry(timestamp=datetime(2016, 2, 29, 12, tzinfo=UTC))
    archive(lake, [leap])
    assert purge(lake, book, now=datetime(2023, 3, 1, 12, tzinfo=UTC)) is None
    assert purge(lake, book, now=datetime(2023, 3, 1, 13, tzinfo=UTC)) is not None


def test_days_given_by_the_customer_are_honoured(
    lake: Lake, book: ReceiptBook, make_entry: EntryMaker
) -> None:
    older, younger = (
        make_entry(timestamp=NOW - timedelta(days=2555) + step) for step in (-HOUR, HOUR)
    )
    archive(lake, [older, younger])
    plan = plan_purge(lake, NOW, older_than_days=2555)
    assert plan.policy == "older than 2555 days"
    assert execute_purge(lake, book, None, None, plan, NOW, by="test") is not None
    assert stored(lake) == {younger.entry_id}


def test_the_floor_holds_against_days_and_against_a_forged_plan(
    lake: Lake, book: ReceiptBook, make_entry: EntryMaker
) -> None:
    archive(lake, [make_entry(timestamp=NOW - timedelta(days=30))])
    with pytest.raises(ValueError, match="MIN_RETENTION_DAYS"):
        plan_purge(lake, NOW, older_than_days=MIN_RETENTION_DAYS - 1)
    forged = PurgePlan(
        policy="none", cutoff=NOW, days={}, rows=1, bytes=0, permanent_kept=0, lake_version=0
    )
    with pytest.raises(ValueError, match="MIN_RETENTION_DAYS"):
        execute_purge(lake, book, None, None, forged, NOW, by="test")
    assert lake.count() == 1


def test_a_plan_is_by_years_or_by_days(lake: Lake) -> None:
    with pytest.raises(ValueError, match="not both"):
        plan_purge(lake, NOW)
    with pytest.raises(ValueError, match="not both"):
        plan_purge(lake, NOW, years=7, older_than_days=2555)


def test_the_index_forgets_entries_and_drops_months_that_go_whole(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    index = WatchedIndex(old)
    purge(lake, book, index)
    assert index.dropped == ["2018-10"]
    assert index.ids() == stored(lake)


class StoppedError(RuntimeError):
    """Stands for the process being killed."""


def stop(*_: object, **__: object) -> None:
    raise StoppedError


@pytest.mark.parametrize(
    ("victim", "name"),
    [
        (ReceiptBook, "add_leaves"),
        (ReceiptBook, "add_receipt"),
        (WatchedIndex, "forget"),
        (LakeTransaction, "remove_file"),
        (LakeTransaction, "commit"),
        (Lake, "vacuum_now"),
    ],
)
def test_a_purge_stopped_anywhere_is_finished_by_the_next(
    victim: type,
    name: str,
    lake: Lake,
    book: ReceiptBook,
    old: list[AuditEntry],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(lake, old)
    index = WatchedIndex(old)
    with monkeypatch.context() as patched:
        patched.setattr(victim, name, stop)
        with pytest.raises(StoppedError):
            purge(lake, book, index)
    counted = book.receipts()
    assert len(counted) == (lake.count() < len(old))  # a receipt counts when rows are gone
    purge(lake, book, index)
    kept = {entry.entry_id for entry in old} - {entry.entry_id for entry in due_of(old)}
    assert stored(lake) == index.ids() == kept
    assert [receipt.rows for receipt in book.receipts()] == [4]
    assert sum(frame.height for frame in book.all_leaves()) == 4
    entries = Path(settings.lake_uri, "entries")
    assert {str(path.relative_to(entries)) for path in entries.glob("month=*/*")} == {
        file.path for file in lake.view().files
    }


@pytest.mark.parametrize("place", ["add_receipt", "add_leaves"])
@pytest.mark.parametrize("vacuumed", [True, False])
def test_two_purges_at_once_remove_once(
    place: str,
    vacuumed: bool,
    lake: Lake,
    book: ReceiptBook,
    old: list[AuditEntry],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(lake, old)
    step = getattr(ReceiptBook, place)

    def overtaken(self: ReceiptBook, *given: object) -> None:
        monkeypatch.setattr(ReceiptBook, place, step)
        with monkeypatch.context() as patched:
            if not vacuumed:
                patched.setattr(Lake, "vacuum_now", lambda _, **__: [])
            assert purge(Lake(settings), ReceiptBook(settings)) is not None
        step(self, *given)

    monkeypatch.setattr(ReceiptBook, place, overtaken)
    assert purge(lake, book) is None
    assert [receipt.rows for receipt in book.receipts()] == [4]
    assert sum(frame.height for frame in book.all_leaves()) == 4
    assert lake.count() == len(old) - 4


def test_entries_archived_meanwhile_wait_for_the_next_purge(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry], make_entry: EntryMaker,
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(lake, old)
    add_receipt = ReceiptBook.add_receipt
    late = make_entry(timestamp=CUTOFF - 500 * HOUR, content="forget-me too")

    def archive_late(self: ReceiptBook, receipt: PurgeReceipt) -> None:
        archive(Lake(settings), [late])
        add_receipt(self, receipt)

    with monkeypatch.context() as patched:
        patched.setattr(ReceiptBook, "add_receipt", archive_late)
        first = purge(lake, book)
    assert first is not None
    assert first.rows == 4
    assert late.entry_id in stored(lake)
    second = purge(lake, book)
    assert second is not None
    assert second.rows == 1
    assert late.entry_id not in stored(lake)


def test_a_purge_of_more_than_its_cap_removes_nothing_unless_told(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_storage.purge.plan.ALWAYS_ALLOWED", 3)
    archive(lake, old)
    plan = plan_purge(lake, NOW, years=7)
    assert (plan.rows, plan.at_most, plan.exceeds_cap) == (4, 3, True)
    index = WatchedIndex(old)
    with pytest.raises(PurgeTooLargeError, match=r"would remove 4 of 8 .* 3 unless .* at_most=4"):
        execute_purge(lake, book, None, index, plan, NOW, by="test")
    assert stored(lake) == index.ids() == {entry.entry_id for entry in old}
    assert (book.receipts(), sum(leaves.height for leaves in book.all_leaves())) == ([], 0)
    receipt = execute_purge(lake, book, None, index, plan, NOW, by="test", at_most=4)
    assert receipt is not None
    assert (receipt.rows, receipt.at_most) == (4, 4)


def test_the_cap_stands_in_the_plan_and_may_be_lowered(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry]
) -> None:
    archive(lake, old)
    assert plan_purge(lake, NOW, years=7).at_most == 10_000  # a twentieth of eight is less
    plan = plan_purge(lake, NOW, years=7, at_most=3)
    with pytest.raises(PurgeTooLargeError) as refused:
        execute_purge(lake, book, None, None, plan, NOW, by="test")
    assert (refused.value.rows, refused.value.at_most, refused.value.entries) == (4, 3, 8)
    assert execute_purge(
        lake, book, None, None, plan_purge(lake, NOW, years=7, at_most=4), NOW, by="test"
    )


def test_the_cap_of_a_large_lake_is_a_share_of_it(
    lake: Lake, old: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_storage.purge.plan.ALWAYS_ALLOWED", 0)
    monkeypatch.setattr("audit_storage.purge.plan.MOST_SHARE", 0.5)
    archive(lake, old)
    plan = plan_purge(lake, NOW, years=7)
    assert (plan.rows, plan.at_most, plan.exceeds_cap) == (4, 4, False)


def test_receipts_of_a_lake_of_an_older_version_stay_readable(
    lake: Lake, book: ReceiptBook, old: list[AuditEntry], settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(lake, old[:1])
    names = RECEIPT_SCHEMA.names[:11]
    older = pa.schema([RECEIPT_SCHEMA.field(name) for name in names])
    with monkeypatch.context() as patched:
        patched.setattr("audit_storage.purge.receipts.RECEIPT_SCHEMA", older)
        assert purge(lake, ReceiptBook(settings)) is not None
    assert set(DeltaTable(f"{settings.lake_uri}/receipts").to_pyarrow_table().column_names) == {
        *names
    }
    [before] = book.receipts()
    assert (before.rows, before.terms, before.holds, before.at_most) == (1, None, (), None)
    archive(lake, old[1:])
    after = purge(lake, book, now=NOW + HOUR)
    assert book.receipts() == [before, after]
