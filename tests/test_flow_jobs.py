"""The jobs as flows: real data, real Redis, a real Prefect API that is read back over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from audit_flows.ephemeral_api import EphemeralApi
from audit_flows.prefect_home import API_URL_VARIABLE, audit_environment, prefect_environment
from audit_flows.run_in_process import run_flow
from audit_quality.data_docs.address import address_of, path_of
from audit_quality.report import QualityFailedError
from audit_storage.archive.quarantine import OF_LAKE, Quarantine
from audit_storage.index.index import EntryIndex
from audit_storage.jobs import JobTable
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import FILE_SCHEMA
from audit_storage.layout import span_of_day
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.plan import PurgeTooLargeError
from audit_storage.purge.policy_file import PolicyFileError
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import RedisUnavailableError
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import parse_query
from claude_max_audit.settings import Settings, load_settings
from real_trail import real_days

MakeEntry = Callable[..., AuditEntry]


class History:
    """Prefect's side of the jobs, as the UI reads it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def artifact(self, key: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/artifacts/{key}/latest").raise_for_status().json()
        rows: list[dict[str, Any]] = json.loads(answer["data"])
        return rows

    def document(self, key: str) -> str:
        """Return the text of a Markdown artifact."""
        answer = httpx.get(f"{self.url}/artifacts/{key}/latest").raise_for_status().json()
        return str(answer["data"])

    def runs(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Return the newest runs of a flow ("flow") or a task ("task") first."""
        asked = {f"{kind}_runs": {"name": {"like_": name}}, "sort": "EXPECTED_START_TIME_DESC"}
        answer = httpx.post(f"{self.url}/{kind}_runs/filter", json=asked).raise_for_status()
        runs: list[dict[str, Any]] = answer.json()
        return runs


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = load_settings(environ={}, home=tmp_path_factory.mktemp("prefect"))
    variables = {**os.environ, **prefect_environment(home)}
    with EphemeralApi(home.prefect_dir, variables) as api:
        yield api.url()


@pytest.fixture
def history(api_url: str, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setenv(API_URL_VARIABLE, api_url)
    return History(api_url)


@pytest.fixture
def trail(settings: Settings, history: History) -> Settings:
    """Settings of an empty trail whose flows run against the module's API, without a model."""
    return replace(settings, embedder="none")


@pytest.fixture
def hot(trail: Settings) -> Iterator[HotStore]:
    assert trail.redis_url is not None
    hot = HotStore.connect(trail.redis_url)
    yield hot
    hot.close()


def keep(hot: HotStore, *entries: AuditEntry) -> None:
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


def test_the_archive_brings_every_real_day_and_tells_its_history(
    trail: Settings, hot: HotStore, realdata: Path, history: History
) -> None:
    days = real_days(realdata, "gastown_town_2026-02")
    small = {day: entries for day, entries in days.items() if len(entries) < 100}
    for entries in small.values():
        keep(hot, *entries)
    told: list[str] = []

    report = run_flow("daily-archive", trail, on_line=told.append)
    again = run_flow("daily-archive", trail)

    counts = {day: len(entries) for day, entries in small.items()}
    assert Lake(trail).days() == counts
    assert {day.day: day.archived for day in report.days} == counts
    assert again.archived == 0
    assert len(told) == len(small)
    assert EntryIndex.open(trail).count() == sum(counts.values())

    table = history.artifact("daily-archive")
    assert table[0]["note"] == "found: nothing to archive"
    assert [row["day"] for row in table[1:]] == [str(day) for day in reversed(list(small))]
    assert [row["entries"] for row in table[1:]] == list(reversed(counts.values()))
    assert all(len(row["root"]) == 12 for row in table[1:])
    assert all(len(str(value)) <= 120 for row in table for value in row.values())
    first, last = min(counts), max(counts)
    name = f"{first} to {last}: {sum(counts.values()):,} entries"
    assert [run["name"] for run in history.runs("flow", f"{first} to")] == [name]


def test_one_day_is_archived_when_asked_for(
    trail: Settings, hot: HotStore, make_entry: MakeEntry
) -> None:
    early, late = make_entry(), make_entry(timestamp=datetime(2025, 12, 2, tzinfo=UTC))
    keep(hot, early, late)

    run_flow("daily-archive", trail, day="2025-12-02")

    assert Lake(trail).days() == {late.day: 1}


def test_the_newest_days_may_be_left_in_redis(
    trail: Settings, hot: HotStore, make_entry: MakeEntry
) -> None:
    now = datetime.now(UTC)
    entries = [make_entry(timestamp=now - timedelta(days=days)) for days in (2, 10)]
    keep(hot, *entries)

    run_flow("daily-archive", trail, older_than_days=5)

    assert list(Lake(trail).days()) == [entries[1].day]


def test_a_day_that_is_not_over_is_refused(trail: Settings, history: History) -> None:
    today = datetime.now(UTC).date()

    with pytest.raises(ValueError, match=f"{today} is not over yet"):
        run_flow("daily-archive", trail, day=today)

    assert not JobTable(trail).history()


@pytest.mark.parametrize(
    ("job", "parameters", "told"),
    [
        ("daily-archive", {"older_than_days": -1}, "^older_than_days: .* or equal to 0"),
        ("daily-archive", {"day": "yesterday"}, "^day: "),
        ("daily-archive", {"dya": "2025-12-02"}, "'dya'"),
        ("retention-purge", {"older_than_days": 182}, "^older_than_days: .* to 183"),
        ("export", {"format": "xml"}, "^format: "),
        ("export", {"swarm_id": ""}, "^swarm_id: "),
        ("export", {"start_date": "soon"}, "^start_date: 'soon' is not a time; the forms are"),
        ("export", {"end_date": 20251202}, "^end_date: a time is text such as"),
        ("export", {"query": {"agent": "x"}}, "^query: unknown query key 'agent'; known are"),
        ("export", {"query": {"agent_id": 3}}, r"^query: query\['agent_id'\] must be text"),
        ("export", {"query": {"text_query": "x"}}, "^query: an export is exact"),
        ("reindex", {"month": "2025-13"}, "^month: "),
        ("verify", {"day": "2025-11-31"}, "^day: "),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_a_run_exists(
    trail: Settings, history: History, job: str, parameters: dict[str, Any], told: str
) -> None:
    before = len(history.runs("flow", ""))

    with pytest.raises(ValueError, match=told):
        run_flow(job, trail, **parameters)

    assert len(history.runs("flow", "")) == before


def test_an_archive_takes_what_a_killed_process_left_in_its_spool(
    trail: Settings, history: History, tmp_path: Path
) -> None:
    away = replace(trail, redis_url=f"unix://{tmp_path}/gone.sock")
    program = (
        "import os, signal\n"
        "from datetime import UTC, datetime\n"
        "from claude_max_audit import get_auditor\n"
        "log = get_auditor().sync.log_message\n"
        "day = datetime(2025, 11, 30, tzinfo=UTC)\n"
        "ids = [log('a', 'b', 'inform', str(number), timestamp=day) for number in range(700)]\n"
        "print(*ids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **audit_environment(away)},
        stdout=subprocess.PIPE,
        text=True,
    )
    told: list[str] = []

    run_flow("daily-archive", trail, on_line=told.append)
    again = run_flow("daily-archive", trail)

    ids = killed.stdout.split()
    assert len(ids) == 700
    assert set(Lake(trail).find(ids)) == set(ids)
    assert Lake(trail).count() == 700
    assert told[0] == "700 entries of processes that ended came from the spool"
    assert not again.days


def test_a_run_is_named_when_it_begins_and_anew_when_it_ends(
    trail: Settings, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_flows import verify_job

    begun: list[str] = []

    def looking(*stores: Any, **days: Any) -> Any:
        begun.append(history.runs("flow", "begun")[0]["name"])
        raise OSError("the disk is gone")

    monkeypatch.setattr(verify_job, "verify", looking)
    with pytest.raises(OSError, match="the disk is gone"):
        run_flow("verify", trail)

    assert re.fullmatch(r"begun \d{4}-\d\d-\d\d \d\d:\d\d", begun[0])
    assert history.runs("flow", "failed: OSError")[0]["state_type"] == "FAILED"
    assert history.artifact("verify")[0]["note"] == "OSError: the disk is gone"


def test_a_store_that_is_away_is_tried_again_and_then_recorded(
    trail: Settings, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_flows.daily_archive import archive_days

    monkeypatch.setattr(archive_days, "retry_delay_seconds", [0, 0, 0])
    gone = replace(trail, redis_url=f"unix://{tmp_path}/gone.sock")

    with pytest.raises(RedisUnavailableError):
        run_flow("daily-archive", gone, patient=True)

    newest = history.artifact("daily-archive")[0]
    assert newest["result"] == "failed"
    assert newest["note"].startswith("RedisUnavailableError: Redis at unix:")
    assert [record.result for record in JobTable(trail).history()] == ["failed"]
    assert history.runs("task", "archive_days")[0]["run_count"] == 4


def test_a_run_that_somebody_waits_for_fails_at_once(
    trail: Settings, history: History, tmp_path: Path
) -> None:
    with pytest.raises(RedisUnavailableError):
        run_flow("daily-archive", replace(trail, redis_url=f"unix://{tmp_path}/gone.sock"))

    assert history.runs("task", "archive_days")[0]["run_count"] == 1


def archive_all(trail: Settings, hot: HotStore, *entries: AuditEntry) -> None:
    keep(hot, *entries)
    run_flow("daily-archive", trail)


def test_quality_checks_each_day_once_and_again_when_it_grew(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    other = datetime(2025, 12, 2, tzinfo=UTC)
    archive_all(trail, hot, make_entry(), make_entry(timestamp=other))

    first = run_flow("data-quality", trail)
    second = run_flow("data-quality", trail)
    archive_all(trail, hot, make_entry(timestamp=other))
    third = run_flow("data-quality", trail)

    assert [report.day for report in first] == [date(2025, 11, 30), date(2025, 12, 2)]
    assert second == ()
    assert [(report.day, report.rows) for report in third] == [(date(2025, 12, 2), 2)]
    table = history.artifact("data-quality")
    assert not any("stores differ" in row["note"] for row in table)
    assert [(row["day"], row["entries"]) for row in table if row["day"]] == [
        ("2025-12-02", 2),
        ("2025-12-02", 1),
        ("2025-11-30", 1),
    ]


def spoil(lake: Lake, day: date) -> None:
    """Change one field of every row of a day, as a hand in the lake's files would."""
    with lake.begin("test/spoil") as transaction:
        for file in transaction.view.files:
            if not file.touches(span_of_day(day)):
                continue
            for rows in transaction.read_rows(file):
                frame = pl.from_arrow(rows)
                assert isinstance(frame, pl.DataFrame)
                changed = frame.with_columns(to_agent=pl.lit("somebody else"))
                table = changed.select(FILE_SCHEMA.names).to_arrow().cast(FILE_SCHEMA)
                transaction.add_rows(file.month, table)
            transaction.remove_file(file)
        transaction.commit()


def test_a_spoiled_day_fails_the_run_names_its_rows_and_is_checked_again(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    entry = make_entry()
    archive_all(trail, hot, entry)
    spoil(Lake(trail), entry.day)

    for _ in range(2):
        with pytest.raises(QualityFailedError, match=entry.entry_id):
            run_flow("data-quality", trail)

    table = history.artifact("data-quality")
    assert [row["result"] for row in table] == ["failed", "failed"]
    assert "entry_hash_fits: 1 rows fail" in table[0]["note"]
    run = history.runs("flow", "2025-11-30: 1 entry, 1 day FAILED")[0]
    assert run["state_type"] == "FAILED"


def test_stores_that_differ_are_told_and_fail_nothing(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    entry = make_entry()
    archive_all(trail, hot, entry)
    EntryIndex.open(trail).drop_month("2025-11")
    late = [make_entry(), make_entry()]
    keep(hot, *late)
    told: list[str] = []

    run_flow("data-quality", trail, on_line=told.append)

    waiting = ", ".join(one.entry_id for one in late)
    assert told[1:] == [
        f"2025-11-30: 2 entries wait in Redis for the archive: {waiting}",
        "2025-11-30: the index lacks 1 entries, `claude-audit reindex` adds them: "
        f"{entry.entry_id}",
    ]
    assert history.artifact("data-quality")[0]["note"].startswith("stores differ: 2025-11-30")


def test_quality_does_not_need_redis(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    archive_all(trail, hot, make_entry())
    told: list[str] = []

    gone = replace(trail, redis_url=f"unix://{tmp_path}/gone.sock")
    (report,) = run_flow("data-quality", gone, on_line=told.append)

    assert report.passed
    assert told[-1].startswith("Redis was not compared")


def test_a_dry_purge_changes_nothing_and_a_purge_leaves_a_receipt(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    old = datetime(2016, 2, 29, 12, tzinfo=UTC)
    kept = [make_entry(), make_entry(timestamp=old, retention="permanent")]
    archive_all(trail, hot, *kept, make_entry(timestamp=old))

    dry = run_flow("retention-purge", trail, dry_run=True)
    held = Lake(trail).count()
    report = run_flow("retention-purge", trail)
    again = run_flow("retention-purge", trail)

    assert (dry.plan.rows, dry.receipt, held) == (1, None, 3)
    assert (report.receipt.rows, again.receipt) == (1, None)
    assert set(Lake(trail).find([entry.entry_id for entry in kept])) == {
        entry.entry_id for entry in kept
    }
    assert Lake(trail).count() == 2
    table = history.artifact("retention-purge")
    assert [row["entries"] for row in table] == [0, 1, 0]
    assert table[1]["root"] == report.receipt.root[:12]
    assert table[2]["note"].startswith("dry run: True, due: 1")
    assert history.runs("flow", "2016-02-29: 1 entry removed")


def test_a_purge_goes_by_the_policy_the_holds_and_its_cap(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    old = datetime(2016, 2, 29, 12, tzinfo=UTC)
    by_rule = make_entry(timestamp=old, swarm_id="kept")
    by_hold = make_entry(timestamp=old, swarm_id="held")
    archive_all(trail, hot, by_rule, by_hold, *(make_entry(timestamp=old) for _ in range(2)))
    trail.home.mkdir(exist_ok=True)
    (trail.home / "retention.toml").write_text(
        'default_years = 7\n[[rule]]\nswarm_id = "kept"\npermanent = true\n'
    )
    hold = HoldBook(trail).place(
        parse_query({"swarm_id": "held"}), by="counsel", reason="case 17", now=datetime.now(UTC)
    )
    told: list[str] = []

    with pytest.raises(PurgeTooLargeError, match="would remove 2 of 4 entries"):
        run_flow("retention-purge", trail, at_most=1, on_line=told.append)
    refused = Lake(trail).count()
    report = run_flow("retention-purge", trail)

    assert refused == 4
    assert told == [
        "2016-02-29: due are 2 entries",
        f"hold {hold.hold_id} of counsel (case 17) keeps 1 entry that would be due",
        "that is more than the 1 entry that one run may remove",
    ]
    assert report.receipt.rows == 2
    kept = [by_rule.entry_id, by_hold.entry_id]
    assert (Lake(trail).count(), set(Lake(trail).find(kept))) == (2, set(kept))
    done, failed = JobTable(trail).history("retention-purge")
    assert (done.details["held_kept"], done.details["holds"]) == (1, [hold.hold_id])
    assert failed.error is not None
    assert failed.error.startswith("PurgeTooLargeError")


def test_a_policy_with_a_mistake_stops_the_purge(trail: Settings, history: History) -> None:
    trail.home.mkdir(exist_ok=True)
    (trail.home / "retention.toml").write_text("[[rule]]\ndays = 30\n")

    with pytest.raises(PolicyFileError, match=r"retention\.toml:2: rule 1\.days"):
        run_flow("retention-purge", trail)

    assert history.artifact("retention-purge")[0]["result"] == "failed"


def test_an_export_takes_hot_and_cold_of_its_swarm_and_span(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    last_day = datetime(2025, 12, 2, 23, 59, 59, tzinfo=UTC)
    chosen = make_entry(swarm_id="one")
    archive_all(trail, hot, chosen, make_entry(swarm_id="two"))
    late = make_entry(swarm_id="one", timestamp=last_day)
    keep(hot, late, make_entry(swarm_id="one", timestamp=last_day + timedelta(seconds=1)))

    # The end is a date, as a person types it: the whole of that day is meant.
    report = run_flow("export", trail, swarm_id="one", end_date="2025-12-02")

    lines = report.path.read_text().splitlines()
    assert [json.loads(line)["entry_id"] for line in lines] == [chosen.entry_id, late.entry_id]
    row = history.artifact("export")[0]
    assert (row["result"], row["entries"]) == ("succeeded", 2)
    assert report.path.name in row["note"]


def test_an_export_s_midnight_is_an_instant_and_no_day(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    midnight = datetime(2025, 12, 2, tzinfo=UTC)
    keep(hot, make_entry(timestamp=midnight), make_entry(timestamp=midnight + timedelta(hours=1)))

    until_then = run_flow("export", trail, end_date="2025-12-02T00:00:00Z")
    all_day = run_flow("export", trail, start_date="2025-12-02", end_date="2025-12-02")

    assert (until_then.rows, all_day.rows) == (1, 2)


def test_an_export_of_two_swarms_at_once_is_refused_and_recorded(
    trail: Settings, history: History
) -> None:
    with pytest.raises(ValueError, match="name different swarms"):
        run_flow("export", trail, swarm_id="one", query={"swarm_id": "two"})

    assert history.artifact("export")[0]["note"].startswith("ValueError: swarm_id and query")


def test_an_export_to_a_file_that_is_there_is_recorded_as_failed(
    trail: Settings, history: History, tmp_path: Path
) -> None:
    place = tmp_path / "trail.csv"
    place.write_text("mine")

    with pytest.raises(FileExistsError):
        run_flow("export", trail, format="csv", output_path=place)

    assert place.read_text() == "mine"
    assert history.artifact("export")[0]["result"] == "failed"


def test_reindex_brings_what_a_lost_index_lacks(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    other = datetime(2025, 12, 2, tzinfo=UTC)
    archive_all(trail, hot, make_entry(), make_entry(timestamp=other), make_entry(timestamp=other))
    EntryIndex.open(trail).drop_month("2025-12")

    added = run_flow("reindex", trail)
    rebuilt = run_flow("reindex", trail, month="2025-11", rebuild=True)

    assert (added, rebuilt) == ({"2025-11": 0, "2025-12": 2}, {"2025-11": 1})
    assert EntryIndex.open(trail).counts() == {"2025-11": 1, "2025-12": 2}
    assert history.artifact("reindex")[1]["note"] == "2025-12: 2"


def test_verify_finds_an_archived_lake_whole_and_a_spoiled_one_not(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    from audit_flows.lake_not_whole import LakeNotWholeError

    entry = make_entry()
    archive_all(trail, hot, entry)

    report = run_flow("verify", trail)
    spoil(Lake(trail), entry.day)
    with pytest.raises(LakeNotWholeError, match=entry.entry_id):
        run_flow("verify", trail)

    assert (report.whole, report.entries) == (True, 1)
    assert [row["result"] for row in history.artifact("verify")] == ["failed", "succeeded"]
    run = history.runs("flow", "all days: 1 entry,")[0]
    assert run["state_type"] == "FAILED"


def test_rows_that_failed_are_copied_to_quarantine_once_and_stay_in_the_lake(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    entry = make_entry()
    archive_all(trail, hot, entry)
    spoil(Lake(trail), entry.day)

    for _ in range(2):
        with pytest.raises(QualityFailedError):
            run_flow("data-quality", trail)

    [kept] = Quarantine(trail).list()
    assert (kept.entry_id, kept.of_lake) == (entry.entry_id, True)
    assert kept.reason == f"{OF_LAKE}entry_hash_fits"
    assert b"somebody else" in kept.text
    assert Quarantine(trail).counts() == {}, "nothing in Redis waits for it"
    assert set(Lake(trail).find([entry.entry_id])) == {entry.entry_id}
    page = path_of(trail.quality_docs, "2025-11-30").read_text()
    assert entry.entry_id in page
    assert "FAILED" in history.document("data-quality-report")


def test_a_month_and_all_years_are_checked_on_demand_and_linked(
    trail: Settings, hot: HotStore, make_entry: MakeEntry, history: History
) -> None:
    archive_all(trail, hot, make_entry(), make_entry())

    month, years = run_flow("data-quality", trail, month="2025-11", all_years=True)

    assert (month.subject, years.subject) == ("2025-11", "all years")
    assert (month.rows, years.rows, month.passed, years.passed) == (2, 2, True, True)
    told = history.document("data-quality-report")
    for subject in (None, "2025-11", "all years"):
        assert address_of(trail.quality_docs, subject) in told
        assert path_of(trail.quality_docs, subject).exists()
    with pytest.raises(ValueError, match="no entries of 2024-01"):
        run_flow("data-quality", trail, month="2024-01")
