"""The lake in an object store: the same life, the same answers, on a real S3 server."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.export.export import export_trail
from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.compaction import compact_closed_months
from audit_storage.lake.delta_log import file_system
from audit_storage.lake.lake import Lake
from audit_storage.lake.staged_file import PIECE_BYTES, store, sum_of
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.purge import execute_purge
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.search.search import search_both
from boundary import Step
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import LakeUnavailableError, LakeUnsafeError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query
from claude_max_audit.settings import Settings, load_settings
from cold_trail import stored, verified
from conftest import EntryMaker
from fault_table import Case, days_ago, run, run_into
from hot_trail import newest_first, stamped, varied_entries
from s3_server import S3Server

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fault_table"])
"""Processes that are forked off one that has imported everything and started no thread."""

FIRST = datetime(2018, 9, 29, tzinfo=UTC)
NOW = datetime(2018, 11, 20, 3, tzinfo=UTC)
PURGED_AT = datetime(2025, 10, 1, 12, 15, tzinfo=UTC)
"""Seven years after the noon of the third of four archived days."""


@pytest.fixture
def settings(s3_settings: Settings) -> Settings:
    return replace(s3_settings, embedder="none")


@pytest.fixture
def bucket(settings: Settings) -> str:
    return settings.lake_uri.split("/")[2]


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def hot(settings: Settings) -> Iterator[HotStore]:
    assert settings.redis_url is not None
    hot = HotStore.connect(settings.redis_url, keeps_until_archived=True)
    yield hot
    hot.close()


def days_of_entries(count: int = 240, seed: int = 3) -> list[AuditEntry]:
    """Entries of four days, two in each of two months."""
    return varied_entries(count, seed=seed, days=4, first=FIRST)


def ids(entries: list[AuditEntry]) -> set[str]:
    return {entry.entry_id for entry in entries}


def keys_with(objects: dict[str, bytes], words: set[str]) -> list[str]:
    """The objects in which one of the words stands, also inside Parquet's compression."""
    found = []
    for key, data in objects.items():
        texts = [data.decode("latin-1")]
        if key.endswith(".parquet"):
            texts.append(str(pq.read_table(pa.BufferReader(data)).to_pylist()))
        if any(word in text for word in words for text in texts):
            found.append(key)
    return found


def test_the_whole_life_of_a_trail(
    settings: Settings, lake: Lake, hot: HotStore, bucket: str, s3_server: S3Server
) -> None:
    entries = days_of_entries()
    early, late = entries[:200], entries[200:]

    # Archived, with what came late; a second archive changes nothing.
    hot.append_batch(stamped(early))
    first = archive_closed_days(lake, hot, Quarantine(settings), NOW)
    hot.append_batch(stamped(late))
    second = archive_closed_days(lake, hot, Quarantine(settings), NOW)
    assert (first.archived, second.archived) == (200, 40)
    assert archive_closed_days(lake, hot, Quarantine(settings), NOW).archived == 0
    assert stored(lake) == ids(entries)

    # Compacted, with keys by which hashes and ids are found.
    compacted = compact_closed_months(lake, NOW)
    assert [month.files_after for month in compacted.months] == [1, 1]
    assert compacted.keyed == 2
    assert {month.month for month in compacted.months} == {"2018-09", "2018-10"}
    wanted = entries[7]
    assert lake.find([wanted.entry_id, "none"]) == {wanted.entry_id: wanted}
    by_hash = Query(where={"content_hash": (wanted.content_hash,)})
    alike = newest_first([one for one in entries if one.content_hash == wanted.content_hash])
    assert lake.page(by_hash, 500, 0).entries == alike

    # Searched in both tiers, and exported to this machine.
    found = search_both(lake, hot, Query(), 500, 0, NOW)
    assert (found.total_count, found.complete) == (240, True)
    assert found.entries == newest_first(entries)
    exported = export_trail(
        lake, hot, Query(), "jsonl", None, exports_dir=settings.exports
    )
    assert exported.path.read_text().count("\n") == 240

    # Purged: what a hold protects and what is permanent stays, the rest is gone to the byte.
    held_agent = "mayor"
    HoldBook(settings).place(
        Query(where={"agent_id": (held_agent,)}), by="counsel", reason="case 7", now=PURGED_AT
    )
    plan = plan_purge(lake, PURGED_AT, years=7)
    receipt = execute_purge(lake, ReceiptBook(settings), hot, None, plan, PURGED_AT, by="test")
    kept = stored(lake)
    gone = ids(entries) - kept
    assert receipt is not None
    assert receipt.rows == len(gone) > 50
    assert gone == {
        one.entry_id
        for one in entries
        if one.timestamp < plan.cutoff
        and one.agent_id != held_agent
        and one.retention != "permanent"
    }
    objects = s3_server.objects(bucket)
    files = {key: data for key, data in objects.items() if "/entries/month=" in key}
    assert len(files) == len(lake.view().files)
    assert keys_with(files, gone) == []
    said = {one.content for one in entries if one.entry_id in gone and one.content}
    only_gone = {text for text in said if text.startswith("number ")}
    assert only_gone
    assert keys_with(objects, only_gone) == []
    assert s3_server.unfinished_uploads(bucket) == 0
    report = verified(lake)
    assert report.whole, report.advice()
    assert report.purged == len(gone)


# ---------------------------------------------------------------- commits


def archive_at_once(settings: Settings, writers: int) -> list[int]:
    """Let several processes' worth of stores archive at the same moment; what each brought."""
    together = Barrier(writers, timeout=60)

    def run(_: int) -> int:
        hot = HotStore.connect(str(settings.redis_url), keeps_until_archived=True)
        try:
            together.wait()
            report = archive_closed_days(Lake(settings), hot, Quarantine(settings), NOW)
            return report.archived
        finally:
            hot.close()

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(run, range(writers)))


def test_two_archives_at_once_bring_each_entry_once(
    settings: Settings, lake: Lake, hot: HotStore
) -> None:
    entries = varied_entries(60, seed=4, days=2, first=FIRST)
    hot.append_batch(stamped(entries))
    assert sum(archive_at_once(settings, 2)) == 60
    assert stored(lake) == ids(entries)
    report = verified(lake)
    assert report.whole, report.advice()
    assert report.entries == 60


def test_a_commit_whose_answer_was_lost_is_known_to_stand(
    settings: Settings,
    lake: Lake,
    hot: HotStore,
    make_entry: EntryMaker,
    bucket: str,
    s3_server: S3Server,
) -> None:
    """The store is asked again and refuses: its own commit looks like another writer's."""
    entries = [make_entry(timestamp=FIRST) for _ in range(20)]
    hot.append_batch(stamped(entries[:10]))
    archive_closed_days(lake, hot, Quarantine(settings), NOW)
    hot.append_batch(stamped(entries[10:]))
    commit = f"/entries/_delta_log/{lake.version() + 1:020d}.json"
    s3_server.requests()
    with s3_server.faults(lost_answer=commit):
        report = archive_closed_days(lake, hot, Quarantine(settings), NOW)
    assert sum(commit in asked and asked.startswith("PUT") for asked in s3_server.requests()) == 2
    assert report.archived == 10
    assert stored(lake) == ids(entries)
    files = {f"trail/entries/{file.path}" for file in lake.view().files}
    assert set(s3_server.objects(bucket, "trail/entries/month=")) == files
    assert verified(lake).whole


def test_rows_of_small_tables_come_once_though_an_answer_was_lost(
    settings: Settings, make_entry: EntryMaker, s3_server: S3Server
) -> None:
    jobs, holds, quarantine = JobTable(settings), HoldBook(settings), Quarantine(settings)
    run = JobRecord(job="verify", started_at=NOW, ended_at=NOW, result="succeeded")
    jobs.record(run)
    with s3_server.faults(lost_answer=f"/jobs/_delta_log/{1 + 1:020d}.json"):
        jobs.record(replace(run, job="archive"))
    assert [one.job for one in jobs.history()].count("archive") == 1

    hold = holds.place(Query(), by="counsel", reason="case 7", now=NOW)
    with s3_server.faults(lost_answer=f"/holds/_delta_log/{1 + 1:020d}.json"):
        assert not holds.release(hold.hold_id, by="counsel", reason="over", now=NOW).active
    assert [one.active for one in holds.holds()] == [False]

    day = FIRST.date()
    bad = [Rejected(day, None, "no JSON", text, NOW) for text in (b"{", b"[")]
    assert quarantine.add(day, bad[:1]) == 1
    with s3_server.faults(lost_answer=f"/quarantine/_delta_log/{1 + 1:020d}.json"):
        assert quarantine.add(day, bad) == 1
    assert {one.text for one in quarantine.list()} == {b"{", b"["}
    assert quarantine.counts() == {day: 2}


def test_a_commit_of_unknown_outcome_keeps_its_files(
    settings: Settings, hot: HotStore, make_entry: EntryMaker, s3_server: S3Server
) -> None:
    """The store takes the commit, and is gone before it says so or is asked again."""
    impatient = {**settings.lake_options, "max_retries": "1", "retry_timeout": "5s"}
    settings = replace(settings, lake_options=impatient)
    lake = Lake(settings)
    entries = [make_entry(timestamp=FIRST) for _ in range(5)]
    with lake.begin("made before"):
        pass
    hot.append_batch(stamped(entries))
    commit = f"/entries/_delta_log/{1:020d}.json"
    with (
        s3_server.faults(lost_answer=commit, gone_after=True),
        pytest.raises(LakeUnavailableError),
    ):
        archive_closed_days(lake, hot, Quarantine(settings), NOW)
    again = archive_closed_days(lake, hot, Quarantine(settings), NOW)
    assert (again.archived, [day.already for day in again.days]) == (0, [5])
    assert stored(lake) == ids(entries)
    assert verified(lake).whole


def test_a_commit_that_never_arrives_leaves_nothing_to_see(
    settings: Settings, hot: HotStore, make_entry: EntryMaker, s3_server: S3Server
) -> None:
    impatient = {**settings.lake_options, "max_retries": "1", "retry_timeout": "5s"}
    settings = replace(settings, lake_options=impatient)
    lake = Lake(settings)
    entries = [make_entry(timestamp=FIRST) for _ in range(5)]
    hot.append_batch(stamped(entries))
    with lake.begin("made before"):
        pass
    with (
        s3_server.faults(refused=f"/entries/_delta_log/{1:020d}.json", times=99),
        pytest.raises(LakeUnavailableError),
    ):
        archive_closed_days(lake, hot, Quarantine(settings), NOW)
    assert lake.count() == 0
    assert archive_closed_days(lake, hot, Quarantine(settings), NOW).archived == 5
    report = verified(lake)
    assert report.whole
    assert any("not part of the lake" in note for note in report.notes)


@pytest.mark.parametrize("fault", ["killed before", "killed after"])
def test_an_archive_that_is_killed_at_its_commit_is_finished_by_the_next(
    fault: str, settings: Settings, lake: Lake, hot: HotStore, make_entry: EntryMaker
) -> None:
    entries = [make_entry(timestamp=days_ago(day)) for day in (3, 3, 2)]
    hot.append_batch(stamped(entries))
    step = Step("DeltaTable.create_write_transaction", "delta_log.DeltaLog.commit", 1)
    process = CONTEXT.Process(
        target=run_into, args=(Case("archive", step, fault), settings), daemon=True
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert lake.count() == (2 if fault == "killed after" else 0)
    assert verified(lake).whole
    run("archive", settings)
    assert stored(lake) == ids(entries)
    assert verified(lake).whole


def test_a_store_that_lets_two_commits_win_gets_none(
    settings: Settings,
    lake: Lake,
    hot: HotStore,
    make_entry: EntryMaker,
    bucket: str,
    s3_server: S3Server,
) -> None:
    hot.append_batch(stamped([make_entry(timestamp=FIRST)]))
    with s3_server.faults(ignore_conditions=True):
        for use in (
            lambda: archive_closed_days(lake, hot, Quarantine(settings), NOW),
            lambda: HoldBook(settings).place(Query(), by="counsel", reason="case 7", now=NOW),
        ):
            with pytest.raises(LakeUnsafeError, match="If-None-Match"):
                use()
        assert s3_server.objects(bucket) == {}
    assert archive_closed_days(lake, hot, Quarantine(settings), NOW).archived == 1
    assert not any("probe" in key for key in s3_server.objects(bucket))


def test_no_variable_can_turn_the_safety_of_commits_off(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    monkeypatch.setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    options = {**settings.lake_options, "Conditional_Put": "disabled"}
    with Lake(replace(settings, lake_options=options)).begin("test") as transaction:
        assert transaction.view.version == 0


# ---------------------------------------------------------------- requests


def test_a_file_is_sent_once_and_under_its_final_name(
    lake: Lake, make_entry: EntryMaker, bucket: str, s3_server: S3Server
) -> None:
    entries = [make_entry(timestamp=FIRST, content=f"number {n}") for n in range(50)]
    with lake.begin("test") as transaction:
        transaction.add(entries)
        s3_server.requests()
        snapshot = transaction.commit()
    [path] = snapshot.paths
    sent = [asked for asked in s3_server.requests() if "/month=" in asked]
    assert {asked.partition("?")[0].split(" ")[1] for asked in sent} == {
        f"/{bucket}/trail/entries/{path}"
    }
    assert [asked.split(" ")[0] for asked in sent] == ["POST", "PUT", "POST"]
    [data] = s3_server.objects(bucket, "trail/entries/month=").values()
    assert len(data) == snapshot.bytes


def test_a_commit_that_is_not_made_takes_nothing_there(
    lake: Lake, make_entry: EntryMaker, bucket: str, s3_server: S3Server
) -> None:
    with lake.begin("test") as transaction:
        transaction.add([make_entry(timestamp=FIRST)])
        transaction.end_file("2018-09")
        assert len(s3_server.objects(bucket, "trail/entries/month=")) == 1
    assert s3_server.objects(bucket, "trail/entries/month=") == {}
    assert s3_server.unfinished_uploads(bucket) == 0


@pytest.mark.parametrize("place", ["folder", "bucket"])
@pytest.mark.parametrize("size", [0, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_file_of_any_size_arrives_whole(
    place: str, size: int, settings: Settings, tmp_path: Path
) -> None:
    """The table's file system takes small pieces only, and fails in the middle of larger ones."""
    uri = settings.lake_uri if place == "bucket" else str(tmp_path)
    folder = file_system(uri, settings.lake_options)
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    store(folder, "lookup/large.keys", BytesIO(data))
    with folder.open_input_file("lookup/large.keys") as back:
        assert back.read() == data
    assert sum_of(folder, "lookup/large.keys") == sha256(data).hexdigest()


def test_a_lookup_asks_key_files_and_opens_only_the_file_that_has_it(
    settings: Settings, lake: Lake, make_entry: EntryMaker, s3_server: S3Server
) -> None:
    entries = []
    for month in range(1, 9):
        at = datetime(2018, month, 5, tzinfo=UTC)
        entries += [make_entry(timestamp=at, content=f"{month}/{n}") for n in range(30)]
        with lake.begin("test") as transaction:
            transaction.add(entries[-30:])
            transaction.commit()
    assert lake.build_lookup() == 8
    wanted = entries[100]
    fresh = Lake(settings)
    fresh.count()
    s3_server.requests()
    page = fresh.page(Query(where={"content_hash": (wanted.content_hash,)}), 10, 0)
    assert [entry.entry_id for entry in page.entries] == [wanted.entry_id]
    first = s3_server.requests()
    fresh.page(Query(where={"content_hash": (wanted.content_hash,)}), 10, 0)
    second = s3_server.requests()
    assert len([one for one in first if "/lookup/" in one]) == 8 * 2  # its size, and a block
    assert len([one for one in second if "/lookup/" in one]) == 0
    for asked in (first, second):
        assert {one.split("/month=")[1][:7] for one in asked if "/month=" in one} == {"2018-04"}


# ---------------------------------------------------------------- keys and places


def test_the_store_s_own_variables_are_enough(
    settings: Settings,
    make_entry: EntryMaker,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An agent without Redis, whose process knows the place and the store's own variables."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUDIT_LAKE_URI", settings.lake_uri)
    monkeypatch.setenv("AUDIT_EMBEDDER", "none")

    async def use() -> list[str | None]:
        async with ClaudeMaxAuditor(storage_backend="chromadb", home=settings.home) as auditor:
            await auditor.log_message("planner", "worker", "inform", "Into the bucket")
            await auditor.flush_all()
            found = await auditor.search_logs({"agent_id": "planner"})
            assert (found.source, found.complete, found.total_count) == ("lake", True, 1)
            return [entry.content for entry in found.entries]

    assert asyncio.run(use()) == ["Into the bucket"]
    assert Lake(settings).count() == 1


def test_options_come_as_json_and_are_never_shown(tmp_path: Path) -> None:
    secret = {"AWS_SECRET_ACCESS_KEY": "hush"}
    given = {"AUDIT_LAKE_OPTIONS": json.dumps(secret), "AUDIT_LAKE_URI": "s3://one/two/"}
    settings = load_settings(environ=given, home=tmp_path)
    assert settings.lake_options == secret
    assert settings.lake_uri == "s3://one/two"
    assert "hush" not in repr(settings)
    assert load_settings(environ=settings.as_environment()) == settings
    for wrong in ("hush", '["hush"]', '{"timeout": 5}'):
        with pytest.raises(ValueError, match="AUDIT_LAKE_OPTIONS") as refused:
            load_settings(environ={"AUDIT_LAKE_OPTIONS": wrong}, home=tmp_path)
        assert "hush" not in str(refused.value)
    with pytest.raises(ValueError, match="AUDIT_LAKE_URI"):
        load_settings(environ={"AUDIT_LAKE_URI": "ftp://one/two"}, home=tmp_path)


def test_a_place_that_cannot_be_reached_is_no_empty_lake(settings: Settings) -> None:
    missing = replace(settings, lake_uri="s3://no-such-bucket/trail")
    with pytest.raises(LakeUnavailableError, match="NoSuchBucket"):
        Lake(missing).count()
    with pytest.raises(LakeUnavailableError, match="NoSuchBucket"):
        Lake(missing).begin("test")
    nobody = {
        **settings.lake_options,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "max_retries": "0",
    }
    with pytest.raises(LakeUnavailableError, match="refused"):
        Lake(replace(settings, lake_options=nobody)).count()
