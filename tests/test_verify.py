"""Verify finds every byte that was changed, every row that was dropped, doubled or swapped."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import FILE_SCHEMA, as_frame, entries_of, to_table
from audit_storage.merkle import root_of
from audit_storage.purge.purge import execute_purge, plan_purge
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.findings import KINDS, REMEDIES, VerifyReport
from audit_storage.verify.verify import verify
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import Span
from claude_max_audit.settings import Settings

EntryMaker = Callable[..., AuditEntry]
Change = Callable[[pl.DataFrame], pl.DataFrame]
FIRST = datetime(2018, 3, 5, 12, tzinfo=UTC)
PURGED_AT = datetime(2025, 3, 16, tzinfo=UTC)
"""Seven years after the first two days; of each, one entry is permanent."""

DAYS = 4
KIND_OF = ["message", "decision", "security_event", "context_access", "performance_metric"]


@pytest.fixture
def lake(settings: Settings, make_entry: EntryMaker) -> Lake:
    """A lake of four days in two months, ten entries each, with the archive's records."""
    lake = Lake(settings)
    for day in range(DAYS):
        entries = [
            make_entry(
                timestamp=FIRST + timedelta(days=10 * day, minutes=at),
                entry_type=KIND_OF[at % 5],
                retention="permanent" if at == 3 else "standard",
            )
            for at in range(10)
        ]
        archive(lake, settings, entries)
    return lake


def archive(lake: Lake, settings: Settings, entries: list[AuditEntry]) -> None:
    """Commit one day's entries as the archive does, with both witnesses."""
    day = entries[0].day
    root = root_of(entry.canonical_bytes() for entry in entries).hex()
    with lake.begin(f"archive/{day}") as transaction:
        transaction.add(entries)
        snapshot = transaction.commit({"day": day.isoformat(), "merkle_root": root})
    JobTable(settings).record(
        JobRecord(
            job="archive",
            started_at=FIRST,
            ended_at=FIRST,
            result="succeeded",
            day=day,
            rows=snapshot.rows,
            merkle_root=root,
            details={"snapshot": snapshot.name},
        )
    )


def check(settings: Settings, **options: Any) -> VerifyReport:
    """Verify with nothing cached, as another process would."""
    return verify(Lake(settings), CommitRecords(settings), ReceiptBook(settings), **options)


def kinds(report: VerifyReport) -> set[str]:
    assert report.total_findings == len(report.findings)
    assert {finding.kind for finding in report.findings} == set(report.counts)
    return set(report.counts)


def kinds_beside_the_sum(report: VerifyReport) -> set[str]:
    """What is found of a rewritten file beside that its bytes are not those that were written."""
    [finding] = [finding for finding in report.findings if finding.kind == "file_bytes"]
    assert finding.where.endswith(".parquet")
    return kinds(report) - {"file_bytes"}


def parquet_files(settings: Settings) -> list[Path]:
    """Return the lake's files, that of the oldest day first."""
    files = Path(settings.lake_uri, "entries").glob("month=*/*.parquet")
    return sorted(files, key=lambda file: pq.read_table(file, columns=["timestamp"])[0][0].as_py())


def rewrite(path: Path, change: Change) -> None:
    """Change a file behind the log's back, as one with write access to the folder can."""
    changed = change(as_frame(pq.ParquetFile(path).read()))
    pq.write_table(changed.to_arrow().cast(FILE_SCHEMA), path)


def first_row(**columns: Any) -> Change:
    """Return a change of some columns of the oldest row."""

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        oldest = pl.col("timestamp") == pl.col("timestamp").min()
        return rows.with_columns(
            pl.when(oldest).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
            for name, value in columns.items()
        )

    return change


def oldest_entry(settings: Settings) -> AuditEntry:
    rows = as_frame(pq.ParquetFile(parquet_files(settings)[0]).read())
    return entries_of(rows.sort("timestamp"))[0]


def test_an_untouched_lake_is_whole(lake: Lake, settings: Settings) -> None:
    seen: list[tuple[int, int]] = []
    report = check(settings, progress=lambda done, total: seen.append((done, total)))
    assert report.findings == ()
    assert report.whole
    assert (report.entries, report.files, report.commits) == (40, DAYS, DAYS)
    assert report.notes == ()
    assert seen[-1] == (80, 80)
    assert seen == sorted(seen)


def test_a_lake_that_is_not_there_is_whole_and_is_not_made(settings: Settings) -> None:
    report = check(settings)
    assert (report.whole, report.entries) == (True, 0)
    assert not Path(settings.lake_uri).exists()


def test_a_compacted_lake_is_whole(lake: Lake, settings: Settings) -> None:
    lake.compact_month("2018-03")
    lake.vacuum_now()
    report = check(settings)
    assert report.findings == ()
    assert report.files < DAYS


def test_some_days_can_be_verified(lake: Lake, settings: Settings) -> None:
    rewrite(parquet_files(settings)[0], first_row(content="forged"))
    others = [FIRST.date() + timedelta(days=10 * at) for at in (1, 2, 3)]
    assert not check(settings, days=[FIRST.date()]).whole
    report = check(settings, days=others)
    assert report.whole
    assert report.entries == 30


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"content": "forged"}, {"entry_hash", "content_hash", "commit_root"}),
        ({"agent_id": "agent_aa"}, {"entry_hash", "commit_root", "file_statistics"}),
        ({"event_type": "auth_failure"}, {"derived_column"}),
        ({"snapshot": "archive/2018-03-05/9"}, {"commit_rows"}),
        ({"entry_type": "gossip"}, {"unreadable_row", "commit_rows"}),
        ({"metadata": "{broken"}, {"entry_hash", "commit_root"}),
        ({"metadata": None}, {"unreadable_row", "commit_rows"}),
        ({"swarm_ids": None}, {"unreadable_row", "commit_rows"}),
        ({"entry_hash": "0" * 64}, {"entry_hash"}),
        ({"retention": "permanent"}, {"entry_hash", "commit_root"}),
        (
            {"timestamp": FIRST - timedelta(days=400)},
            {"entry_hash", "file_statistics", "month", "commit_rows"},
        ),
    ],
)
def test_a_changed_column_is_found(
    columns: dict[str, Any], expected: set[str], lake: Lake, settings: Settings
) -> None:
    target = oldest_entry(settings)
    rewrite(parquet_files(settings)[0], first_row(**columns))
    report = check(settings)
    found = kinds_beside_the_sum(report)
    assert expected <= found | {"entry_hash"} if "timestamp" in columns else found == expected
    named = [finding for finding in report.findings if finding.entry_id is not None]
    assert {finding.entry_id for finding in named} <= {target.entry_id}


def test_a_forger_who_mends_the_hashes_is_found_by_the_root(
    lake: Lake, settings: Settings
) -> None:
    forged = msgspec.structs.replace(oldest_entry(settings), agent_id="agent_a", parent_id="x")
    again = AuditEntry.from_json(forged.canonical_bytes())
    assert again.entry_hash is not None
    rewrite(
        parquet_files(settings)[0], first_row(parent_id="x", entry_hash=again.entry_hash)
    )
    report = check(settings)
    assert kinds_beside_the_sum(report) == {"commit_root"}
    roots = [f for f in report.findings if f.kind == "commit_root"]
    assert len(roots) == 2, "the log and the job are witnesses"
    assert all(f"commit archive/{forged.day}/1" in finding.where for finding in roots)


def test_a_forger_who_goes_through_the_log_is_found_by_the_root(
    lake: Lake, settings: Settings
) -> None:
    """File, its sum, its line in the log, the entry's hashes: all fit but the commit's root."""
    forged = msgspec.structs.replace(oldest_entry(settings), parent_id="x", entry_hash=None)
    row = to_table([AuditEntry.from_json(forged.canonical_bytes())], f"archive/{forged.day}/1")
    with lake.begin("intruder") as transaction:
        [file] = [f for f in transaction.view.files if f.start.date() == forged.day]
        for rows in transaction.read_rows(file):
            others = [entry_id.as_py() != forged.entry_id for entry_id in rows["entry_id"]]
            transaction.add_rows(file.month, rows.filter(pa.array(others)))
        transaction.add_rows(file.month, row)
        transaction.remove_file(file)
        transaction.commit()
    report = check(settings)
    assert kinds(report) == {"commit_root"}
    assert report.entries == 40


def test_a_swapped_citation_is_found(lake: Lake, settings: Settings) -> None:
    def swap(rows: pl.DataFrame) -> pl.DataFrame:
        citations = rows.get_column("citation").to_list()
        citations[0], citations[1] = citations[1], citations[0]
        return rows.with_columns(pl.Series("citation", citations))

    rewrite(parquet_files(settings)[0], swap)
    report = check(settings)
    assert kinds_beside_the_sum(report) == {"citation", "entry_hash", "commit_root"}
    assert len([f for f in report.findings if f.kind == "citation"]) == 2


def test_a_dropped_row_is_found(lake: Lake, settings: Settings) -> None:
    rewrite(parquet_files(settings)[0], lambda rows: rows.slice(1))
    report = check(settings)
    assert {"file_rows", "commit_rows"} <= kinds(report)
    [missing] = [note for note in report.notes if "writer" in note]
    assert "1 of its entries" in missing


def test_a_doubled_row_is_found(lake: Lake, settings: Settings) -> None:
    rewrite(parquet_files(settings)[0], lambda rows: pl.concat([rows, rows.head(1)]))
    report = check(settings)
    assert kinds_beside_the_sum(report) == {
        "file_rows", "commit_rows", "duplicate_id", "duplicate_hash"
    }  # fmt: skip
    [doubled] = [f for f in report.findings if f.kind == "duplicate_id"]
    assert doubled.entry_id is not None
    assert "stands 2 times" in doubled.detail


def test_a_row_dropped_through_the_log_is_found(lake: Lake, settings: Settings) -> None:
    entry_id = oldest_entry(settings).entry_id
    lake.delete_rows(Span(), pl.col("entry_id") == entry_id, app="intruder")
    assert kinds(check(settings)) == {"commit_rows"}


def test_a_vanished_file_is_found(lake: Lake, settings: Settings) -> None:
    victim = parquet_files(settings)[1]
    victim.unlink()
    report = check(settings)
    assert kinds(report) == {"missing_file", "commit_rows"}
    [broken] = [f for f in report.findings if f.kind == "missing_file"]
    assert "10 entries from" in broken.detail
    assert broken.where.endswith(victim.name)
    assert report.entries == 30


FLIPS = 100


def test_every_flipped_bit_is_found(lake: Lake, settings: Settings) -> None:
    """Also one that changes nothing that is read; verify itself survives what it reads."""
    path = parquet_files(settings)[0]
    sound = path.read_bytes()
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    choose = random.Random(7)
    anywhere = choose.sample(range(len(sound)), FLIPS // 2)
    in_footer = choose.sample(range(footer, len(sound)), FLIPS // 2)
    for place in (*anywhere, *in_footer):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        report = check(settings)
        [sums] = [f for f in report.findings if f.kind == "file_bytes"]
        assert sums.where.endswith(path.name), f"bit of byte {place}"
    path.write_bytes(sound)
    assert check(settings).whole


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b"", lambda b: b + b"\0"])
def test_a_file_of_another_length_is_found(
    change: Callable[[bytes], bytes], lake: Lake, settings: Settings
) -> None:
    path = parquet_files(settings)[0]
    path.write_bytes(change(path.read_bytes()))
    assert "file_bytes" in kinds(check(settings))


def test_the_same_entry_in_two_months_is_found(
    lake: Lake, settings: Settings, make_entry: EntryMaker
) -> None:
    entry = oldest_entry(settings)
    again = make_entry(entry_id=entry.entry_id, timestamp=FIRST + timedelta(days=90))
    archive(lake, settings, [again])
    report = check(settings)
    assert kinds(report) == {"duplicate_id"}
    [doubled] = report.findings
    assert doubled.entry_id == entry.entry_id
    assert str(entry.day) in doubled.detail
    assert str(again.day) in doubled.detail


def test_a_file_that_no_log_names_is_a_remark(lake: Lake, settings: Settings) -> None:
    known = parquet_files(settings)[0]
    orphan = known.with_name("part-of-a-killed-archive.parquet")
    orphan.write_bytes(known.read_bytes())
    report = check(settings)
    assert report.whole
    [note] = report.notes
    assert orphan.name in note
    assert f"1 files ({known.stat().st_size:,} bytes)" in note


def test_a_file_that_another_program_wrote_is_checked_by_its_rows(
    lake: Lake, settings: Settings
) -> None:
    deltalake.DeltaTable(lake.uri).optimize.compact()
    lake.vacuum_now()
    report = check(settings)
    assert report.whole
    assert "no SHA-256 in their name" in report.notes[0]
    rewrite(parquet_files(settings)[0], first_row(content="forged"))
    assert {"content_hash", "entry_hash", "commit_root"} <= kinds(check(settings))


def test_a_report_says_what_to_do(lake: Lake, settings: Settings) -> None:
    parquet_files(settings)[0].unlink()
    report = check(settings)
    assert set(REMEDIES) == set(KINDS)
    told = "\n".join(report.advice())
    assert "missing_file (1)" in told
    assert all(REMEDIES[kind] in told for kind in kinds(report))


def test_witnesses_that_contradict_each_other_are_named(lake: Lake, settings: Settings) -> None:
    JobTable(settings).record(
        JobRecord(
            job="archive",
            started_at=FIRST,
            ended_at=FIRST,
            result="succeeded",
            rows=9,
            merkle_root="00" * 32,
            details={"snapshot": f"archive/{FIRST:%Y-%m-%d}/1"},
        )
    )
    assert kinds(check(settings)) == {"commit_records", "commit_rows"}


def test_the_jobs_are_witness_enough_when_the_log_forgot(lake: Lake, settings: Settings) -> None:
    lake.vacuum_now()  # makes a checkpoint
    log = Path(settings.lake_uri, "entries", "_delta_log")
    for commit in sorted(log.glob("*.json"))[:-1]:
        commit.unlink()
    report = check(settings)
    assert (report.findings, report.notes) == ((), ())
    rewrite(parquet_files(settings)[0], lambda rows: rows.slice(1))
    report = check(settings)
    assert all("(job " in f.where for f in report.findings if f.kind == "commit_rows")
    assert "commit_rows" in kinds(report)


def test_a_commit_without_any_record_is_noted(
    lake: Lake, make_entry: EntryMaker, settings: Settings
) -> None:
    with lake.begin("import") as transaction:
        transaction.add([make_entry()])
        transaction.commit()
    report = check(settings)
    assert report.whole
    assert report.notes == ("1 commits have no record to compare with: import/1",)


def test_after_a_purge_every_remaining_proof_holds(lake: Lake, settings: Settings) -> None:
    book = ReceiptBook(settings)
    plan = plan_purge(lake, PURGED_AT, years=7)
    receipt = execute_purge(lake, book, None, None, plan, PURGED_AT, by="test")
    assert receipt is not None
    assert receipt.rows == 18
    report = check(settings)
    assert report.findings == ()
    assert (report.entries, report.purged) == (22, 18)
    rewrite(parquet_files(settings)[0], first_row(content="forged"))
    assert "commit_root" in kinds(check(settings))


def test_a_forged_receipt_hides_no_removal(lake: Lake, settings: Settings) -> None:
    plan = plan_purge(lake, PURGED_AT, years=7)
    execute_purge(lake, ReceiptBook(settings), None, None, plan, PURGED_AT, by="test")
    [leaf_file] = Path(settings.lake_uri, "purged").glob("*.parquet")
    table = pq.read_table(leaf_file)
    pq.write_table(table.slice(1), leaf_file)
    assert kinds(check(settings)) == {"receipt", "commit_rows"}


def test_a_purged_entry_that_came_back_is_named(lake: Lake, settings: Settings) -> None:
    entry = oldest_entry(settings)
    plan = plan_purge(lake, PURGED_AT, years=7)
    execute_purge(lake, ReceiptBook(settings), None, None, plan, PURGED_AT, by="test")
    with lake.begin("intruder") as transaction:
        transaction.add_rows("2018-03", to_table([entry], f"archive/{entry.day}/1"))
        transaction.commit()
    report = check(settings)
    assert "unpurged" in kinds(report)
    assert [f.entry_id for f in report.findings if f.kind == "unpurged"] == [entry.entry_id]


def test_the_report_is_plain_json(lake: Lake, settings: Settings) -> None:
    parquet_files(settings)[0].unlink()
    told = msgspec.json.decode(msgspec.json.encode(check(settings).as_dict()))
    assert told["whole"] is False
    assert told["findings"][0]["kind"] in KINDS
