"""Defects in real files of a lake, each caught by the expectation that names it. Whole days, made
up and real, raise nothing at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_quality.day_quality import check_day
from audit_quality.month_quality import check_month
from audit_quality.report import QualityReport
from audit_quality.surroundings import Surroundings
from audit_quality.years_quality import check_years
from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.index.index import EntryIndex
from audit_storage.jobs import JobRecord
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import FILE_SCHEMA, as_frame
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.verify.commit_records import CommitRecords
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import Settings, load_settings
from cold_trail import archive, purge
from conftest import EntryMaker
from hot_trail import stamped
from plain_embedder import PlainEmbedder
from real_trail import real_days

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = datetime(2025, 11, 28, 12, tzinfo=UTC)
DAY = date(2025, 11, 29)
KIND_OF = ["message", "decision", "security_event", "context_access", "performance_metric"]
PER_DAY = 20
VICTIM = 6
"""The row that a test spoils, by its number within the day: a decision."""

Change = Callable[[pl.DataFrame], pl.DataFrame]


def made_up_days(days: int, make: EntryMaker) -> list[AuditEntry]:
    return [
        make(
            timestamp=FIRST + timedelta(days=day, minutes=at),
            entry_type=KIND_OF[at % 5],
            **({"content": f"said on {day} at {at}"} if at % 5 < 2 else {}),
        )
        for day in range(days)
        for at in range(PER_DAY)
    ]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[AuditEntry]]:
    """A home with a lake of three days in two months; tests spoil copies of it."""
    home = tmp_path_factory.mktemp("whole")
    entries = made_up_days(3, EntryMaker())
    archive(Lake(load_settings(environ={}, home=home)), entries)
    return home, entries


@pytest.fixture
def entries(template: tuple[Path, list[AuditEntry]]) -> list[AuditEntry]:
    return template[1]


@pytest.fixture
def lake(template: tuple[Path, list[AuditEntry]], tmp_path: Path) -> Lake:
    shutil.copytree(template[0], tmp_path / "home")
    return Lake(load_settings(environ={}, home=tmp_path / "home"))


def around(lake: Lake, **others: Any) -> Surroundings:
    settings = lake.settings
    return Surroundings(
        Lake(settings),
        others.pop("now", NOW),
        commits=CommitRecords(settings).read(),
        receipts=ReceiptBook(settings),
        rejected=Quarantine(settings).list(),
        **others,
    )


def report_of(lake: Lake, day: date = DAY, **others: Any) -> QualityReport:
    return check_day(Lake(lake.settings), day, around(lake, **others))


def failed(report: QualityReport) -> dict[str, tuple[str, ...]]:
    """The checks that failed, warnings among them, with the ids that they name."""
    return {one.name: one.entry_ids for one in (*report.failed_checks, *report.warnings)}


def file_of_day(lake: Lake, day: date = DAY) -> Path:
    [file] = [one for one in lake.view().files if one.start.date() == day]
    return Path(lake.uri, file.path)


def rewrite(lake: Lake, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the day's file behind the log's back, as one with write access to the folder can."""
    path = file_of_day(lake)
    pq.write_table(change(pq.ParquetFile(path).read()), path)


def commit(lake: Lake, change: Change, day: date = DAY) -> None:
    """Replace the day's file in a commit of its own, so that log, sums and rows agree."""
    with lake.begin("test/defect") as transaction:
        for file in transaction.view.files:
            if file.start.date() == day:
                for rows in transaction.read_rows(file):
                    frame = change(as_frame(rows).sort("timestamp"))
                    rows = frame.select(FILE_SCHEMA.names).to_arrow().cast(FILE_SCHEMA)
                    transaction.add_rows(file.month, rows)
                transaction.remove_file(file)
        transaction.commit()


def with_cells(**cells: Any) -> Change:
    """Return a change of some columns of the victim."""

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        here = pl.int_range(pl.len()) == VICTIM
        return rows.with_columns(
            pl.when(here)
            .then(value if isinstance(value, pl.Expr) else pl.lit(value, rows.schema[name]))
            .otherwise(pl.col(name))
            .alias(name)
            for name, value in cells.items()
        )

    return change


def the(entries: list[AuditEntry], at: int = VICTIM) -> AuditEntry:
    return [entry for entry in entries if entry.timestamp.date() == DAY][at]


def test_a_whole_day_raises_nothing(lake: Lake) -> None:
    report = report_of(lake)

    assert failed(report) == {}
    assert report.rows == PER_DAY
    judged = {one.name for one in report.checks if one.judged}
    assert {"archived_entries_there", "writer_seq_without_gap", "file_bytes"} <= judged


ROW_DEFECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a forged content": ("content_hash_fits", {"content": "All is well, says the forger"}),
    "a wrong content hash": ("content_hash_fits", {"content_hash": "0" * 64}),
    "a wrong entry hash": ("entry_hash_fits", {"entry_hash": "f" * 64}),
    "another addressee": ("entry_hash_fits", {"to_agent": "somebody else"}),
    "a citation of no form": ("citation_form", {"citation": "see the minutes"}),
    "a size that does not fit": ("size_fits", {"size_bytes": 7}),
    "a severity nobody knows": ("known_severity", {"severity": "fatal"}),
    "a retention nobody knows": ("known_retention", {"retention": "a while"}),
    "an entry without agent": ("required_fields", {"agent_id": None}),
    "a word that the metadata lacks": ("derived_words_fit", {"decision_type": "refusal"}),
    "a time outside the day": ("within_day", {"timestamp": pl.col("timestamp").dt.offset_by("1d")}),
    "recorded in the future": ("not_recorded_in_future", {"recorded_at": NOW + timedelta(days=9)}),
    "recorded before it happened": (
        "recorded_after_it_happened",
        {"recorded_at": pl.col("timestamp").dt.offset_by("-2h")},
    ),
}


@pytest.mark.parametrize("defect", ROW_DEFECTS)
def test_a_spoiled_row_is_named_by_its_expectation(
    lake: Lake, entries: list[AuditEntry], defect: str
) -> None:
    check, cells = ROW_DEFECTS[defect]
    commit(lake, with_cells(**cells))
    report = report_of(lake)

    assert failed(report)[check] == (the(entries).entry_id,)
    [faulty] = report.faulty_rows
    assert (faulty.entry_id, check in faulty.reasons) == (the(entries).entry_id, True)


def test_swapped_citations_are_named_both(lake: Lake, entries: list[AuditEntry]) -> None:
    one, other = the(entries, 5), the(entries, 10)
    swap = pl.col("entry_id").replace_strict(
        {one.entry_id: other.citation, other.entry_id: one.citation}, default=pl.col("citation")
    )
    commit(lake, lambda rows: rows.with_columns(citation=swap))

    assert set(failed(report_of(lake))["citation_fits"]) == {one.entry_id, other.entry_id}


def test_an_id_that_stands_twice_in_a_day(lake: Lake, entries: list[AuditEntry]) -> None:
    twice = the(entries, 3).entry_id
    commit(lake, with_cells(entry_id=twice))

    assert failed(report_of(lake))["unique_entry_id"] == (twice, twice)


def test_an_entry_that_stands_twice_in_a_day(lake: Lake, entries: list[AuditEntry]) -> None:
    commit(lake, lambda rows: pl.concat([rows, rows[VICTIM : VICTIM + 1]]))
    found = failed(report_of(lake))

    assert found["unique_entry_hash"] == (the(entries).entry_id,) * 2
    assert "archived_entries_there" in found


def test_a_lost_entry(lake: Lake, entries: list[AuditEntry]) -> None:
    commit(lake, lambda rows: rows.filter(pl.int_range(pl.len()) != VICTIM))
    report = report_of(lake)

    assert set(failed(report)) == {"archived_entries_there", "writer_seq_without_gap"}
    told = {one.name: one.observed for one in report.failed_checks}
    assert f"{the(entries).writer_seq} of writer" in told["writer_seq_without_gap"]
    assert "archived: 19, recorded: 20" in told["archived_entries_there"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


FILE_DEFECTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a flipped bit": ("file_bytes", flip),
    "a file cut short": ("file_readable", cut),
    "a file that is gone": ("file_there", Path.unlink),
}


@pytest.mark.parametrize("defect", FILE_DEFECTS)
def test_a_damaged_file_is_named(lake: Lake, defect: str) -> None:
    check, damage = FILE_DEFECTS[defect]
    path = file_of_day(lake)
    damage(path)
    [found] = [one for one in report_of(lake).failed_checks if one.name == check]

    assert [Path(lake.uri, name) for name in found.files] == [path]


TABLE_DEFECTS: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "a column that is missing": ("schema", lambda rows: rows.drop_columns(["writer_seq"])),
    "a column of another type": (
        "schema",
        lambda rows: rows.set_column(
            rows.column_names.index("size_bytes"),
            "size_bytes",
            rows.column("size_bytes").cast(pa.string()),
        ),
    ),
    "a row that was slipped in": (
        "file_rows",
        lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]),
    ),
}


@pytest.mark.parametrize("defect", TABLE_DEFECTS)
def test_a_rewritten_file_is_named(lake: Lake, defect: str) -> None:
    check, change = TABLE_DEFECTS[defect]
    rewrite(lake, change)

    found = failed(report_of(lake))
    assert {check, "file_bytes"} <= set(found)


@pytest.mark.parametrize(
    ("column", "check"),
    [
        ("entry_id", "unique_entry_id_in_all_years"),
        ("entry_hash", "unique_entry_hash_in_all_years"),
    ],
)
def test_the_same_a_year_apart(
    lake: Lake, entries: list[AuditEntry], column: str, check: str
) -> None:
    make = EntryMaker()
    for day in range(4):
        make(timestamp=FIRST + timedelta(days=day))
    later = [make(timestamp=FIRST + timedelta(days=365, hours=at)) for at in range(3)]
    archive(lake, later)
    assert check_years(Lake(lake.settings)).passed

    value = getattr(the(entries), column)
    commit(lake, lambda rows: with_cells_of_first(rows, column, value), later[0].timestamp.date())
    report = check_years(Lake(lake.settings))

    [found] = report.failed_checks
    assert (found.name, found.failures) == (check, 2)
    assert "2025-11-29, 2026-11-28" in found.observed
    assert {row.day for row in report.faulty_rows} >= {DAY, later[0].timestamp.date()}


def with_cells_of_first(rows: pl.DataFrame, column: str, value: str) -> pl.DataFrame:
    first = pl.int_range(pl.len()) == 0
    return rows.with_columns(
        pl.when(first).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


def test_a_month_is_whole_and_names_what_only_shows_across_days(lake: Lake) -> None:
    whole = [passed_check(day) for day in (28, 29, 30)]
    assert failed(check_month("2025-11", around(lake, checked=whole))) == {}

    moved = with_cells(timestamp=pl.col("timestamp").dt.offset_by("1mo"))
    commit(lake, moved)
    found = failed(check_month("2025-11", around(lake, checked=whole[:2])))

    assert set(found) == {"within_month", "within_day_in_month", "days_found_whole"}


def passed_check(day: int, rows: int = PER_DAY, repeated: float = 0.0) -> JobRecord:
    at = NOW - timedelta(days=1)
    return JobRecord(
        "data-quality", at, at, "succeeded", date(2025, 11, day), rows,
        details={"repeated": repeated},
    )  # fmt: skip


def test_a_purged_day_lacks_nothing(tmp_path: Path) -> None:
    lake = Lake(load_settings(environ={}, home=tmp_path))
    make, start = EntryMaker(), datetime(2018, 3, 5, tzinfo=UTC)
    kept = {3: "permanent", 7: "permanent"}
    archive(
        lake,
        [
            make(timestamp=start + timedelta(minutes=at), retention=kept.get(at, "standard"))
            for at in range(10)
        ],
    )
    purge(lake, datetime(2025, 3, 16, tzinfo=UTC))

    report = report_of(lake, start.date())
    assert (report.rows, failed(report)) == (2, {})


def test_a_number_that_waits_or_lies_in_quarantine_is_not_missing(
    lake: Lake, entries: list[AuditEntry]
) -> None:
    commit(lake, lambda rows: rows.filter(pl.int_range(pl.len()) != VICTIM))
    assert "writer_seq_without_gap" in failed(report_of(lake))

    lost = the(entries)
    Quarantine(lake.settings).add(
        DAY, [Rejected(DAY, lost.entry_id, "bad", lost.to_json().encode(), NOW)]
    )
    assert "writer_seq_without_gap" not in failed(report_of(lake))


def test_a_number_that_a_full_spool_dropped_is_told_and_not_missing(tmp_path: Path) -> None:
    lake = Lake(load_settings(environ={}, home=tmp_path))
    make = EntryMaker()
    entries = [make(content=f"{at}") for at in range(6)]
    gap = {
        "event_type": "audit_gap",
        "details": {"writer_id": "test-writer", "first_seq": 3, "last_seq": 4},
    }
    told = make(entry_type="security_event", metadata=gap)
    archive(lake, [*entries[:2], *entries[4:], told])

    assert failed(report_of(lake, entries[0].timestamp.date())) == {}


def test_fewer_entries_than_in_the_weeks_before(tmp_path: Path) -> None:
    lake = Lake(load_settings(environ={}, home=tmp_path))
    make, usual = EntryMaker(), 120
    volumes = [usual] * 8 + [5]
    archive(
        lake,
        [
            make(timestamp=FIRST + timedelta(days=day, seconds=at))
            for day, volume in enumerate(volumes)
            for at in range(volume)
        ],
    )
    days = list(lake.days())

    assert "volume_not_collapsed" in failed(report_of(lake, days[-1]))
    assert "volume_not_collapsed" not in failed(report_of(lake, days[-2]))


def test_more_repeated_contents_than_in_the_weeks_before(tmp_path: Path) -> None:
    lake = Lake(load_settings(environ={}, home=tmp_path))
    make = EntryMaker()
    archive(lake, [make(content="again") for _ in range(150)])
    day = date(2025, 11, 30)
    seldom = [passed_check(at, 150, 0.02) for at in range(20, 30)]
    often = [passed_check(at, 150, 0.9) for at in range(20, 30)]

    assert "contents_repeat_as_usual" in failed(report_of(lake, day, checked=seldom))
    assert failed(report_of(lake, day, checked=often)) == {}


class Stores:
    """Redis, lake and index of yesterday's entries, all archived."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url is not None
        self.lake = Lake(settings)
        self.hot = HotStore.connect(settings.redis_url, hot_days=30)
        self.index = EntryIndex(settings, PlainEmbedder())
        self.now = datetime.now(UTC)
        self.start = (self.now - timedelta(days=1)).replace(hour=0, minute=0)
        make = EntryMaker()
        self.make = make
        self.entries = [make(timestamp=self.start + timedelta(minutes=n)) for n in range(10)]
        self.hot.append_batch(stamped(self.entries))
        archive_closed_days(self.lake, self.hot, Quarantine(settings), self.now, index=self.index)

    def failed(self) -> dict[str, tuple[str, ...]]:
        found = report_of(
            self.lake, self.start.date(), now=self.now, hot=self.hot, index=self.index
        )
        assert found.passed, "what the next archive or reindex mends fails no run"
        return failed(found)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    stores = Stores(settings)
    yield stores
    stores.hot.close()
    stores.index.close()


def test_stores_that_agree_are_no_finding(stores: Stores) -> None:
    assert stores.failed() == {}


def test_an_entry_that_only_redis_has(stores: Stores) -> None:
    late = stores.make(timestamp=stores.start + timedelta(hours=5))
    stores.hot.append_batch(stamped([late]))
    assert stores.failed() == {"redis_waits_for_nothing": (late.entry_id,)}


def test_an_entry_that_redis_lost(stores: Stores) -> None:
    gone = stores.entries[4].entry_id
    stores.hot.forget([gone])
    assert stores.failed() == {"redis_holds_hot_day": (gone,)}


def test_an_entry_that_the_index_lacks(stores: Stores) -> None:
    gone = stores.entries[4].entry_id
    stores.index.forget([gone])
    assert stores.failed() == {"index_complete": (gone,)}


def test_an_entry_that_only_the_index_has(stores: Stores) -> None:
    foreign = stores.make(timestamp=stores.start + timedelta(hours=5))
    stores.index.add([foreign])
    assert stores.failed() == {"index_without_foreign": (foreign.entry_id,)}


def check_in_turn(lake: Lake, now: datetime) -> list[QualityReport]:
    """Check each day as the nights do, each with what the nights before found."""
    checked: list[JobRecord] = []
    seen = around(lake, now=now)
    reports = []
    for day, rows in lake.days().items():
        seen = replace_checked(seen, checked)
        report = check_day(lake, day, seen)
        details = {"repeated": report.measures["repeated"]}
        record = JobRecord("data-quality", now, now, "succeeded", day, rows, details=details)
        checked = [record, *checked]
        reports.append(report)
    return reports


def replace_checked(seen: Surroundings, checked: list[JobRecord]) -> Surroundings:
    return Surroundings(
        seen.lake, seen.now, commits=seen.commits, receipts=seen.receipts, checked=checked
    )


def test_thirty_made_up_days_raise_nothing(tmp_path: Path) -> None:
    lake = Lake(load_settings(environ={}, home=tmp_path))
    archive(lake, made_up_days(30, EntryMaker()))

    reports = check_in_turn(lake, NOW)

    assert len(reports) == 30
    assert {report.subject: failed(report) for report in reports if failed(report)} == {}
    assert failed(check_years(lake)) == {}


@pytest.mark.parametrize("source", ["claude_code_dain", "gastown_town_2026-02"])
def test_real_days_raise_nothing(realdata: Path, tmp_path: Path, source: str) -> None:
    lake = Lake(load_settings(environ={}, home=tmp_path))
    days = real_days(realdata, source)
    archive(lake, [entry for entries in days.values() for entry in entries])

    reports = check_in_turn(lake, datetime.now(UTC))

    assert [report.rows for report in reports] == [len(entries) for entries in days.values()]
    assert {report.subject: failed(report) for report in reports if failed(report)} == {}
    assert sum(report.duplicated_contents for report in reports) > 0
