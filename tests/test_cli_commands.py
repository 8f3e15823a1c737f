"""The commands that look after the trail, run for real: Redis, lake, Prefect, job table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from audit_flows.cli import main
from audit_flows.ephemeral_api import EphemeralApi
from audit_flows.prefect_home import API_URL_VARIABLE, prefect_environment
from audit_storage.jobs import JobTable
from audit_storage.lake.lake import Lake
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import Settings, load_settings

if TYPE_CHECKING:
    from s3_server import S3Server

MakeEntry = Callable[..., AuditEntry]
LONG_AGO = datetime(2016, 3, 1, 12, tzinfo=UTC)
DAY = datetime(2025, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = load_settings(environ={}, home=tmp_path_factory.mktemp("prefect"))
    with EphemeralApi(home.prefect_dir, {**os.environ, **prefect_environment(home)}) as api:
        yield api.url()


class Shell:
    """A shell whose environment names one trail."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings = settings
        self._capsys = capsys
        self.err = ""

    def run(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        assert main(arguments) == code, self._capsys.readouterr()
        told = self._capsys.readouterr()
        self.err = told.err
        return told.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture
def shell(
    settings: Settings,
    api_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    assert settings.redis_url is not None
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    monkeypatch.setenv("AUDIT_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("AUDIT_EMBEDDER", "none")
    monkeypatch.setenv(API_URL_VARIABLE, api_url)
    return Shell(replace(settings, embedder="none"), capsys)


@pytest.fixture
def hot(settings: Settings) -> Iterator[HotStore]:
    assert settings.redis_url is not None
    hot = HotStore.connect(settings.redis_url)
    yield hot
    hot.close()


def keep(hot: HotStore, *entries: AuditEntry) -> None:
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


@pytest.fixture
def archived(shell: Shell, hot: HotStore, make_entry: MakeEntry) -> list[AuditEntry]:
    """Three entries of one closed day in the lake, and one of today in Redis."""
    entries = [make_entry(timestamp=DAY + timedelta(minutes=n)) for n in range(3)]
    keep(hot, *entries, make_entry(timestamp=datetime.now(UTC)))
    shell.run("archive")
    return entries


def damage(lake: Lake) -> None:
    """Change a content in place, as whoever can write to the folder could."""
    [file] = Path(lake.view().uri).rglob("*.parquet")
    rows = pl.read_parquet(file)
    rows.with_columns(content=pl.lit("something else")).write_parquet(file)


def test_archive_brings_closed_days_and_again_finds_nothing(
    shell: Shell, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, make_entry(timestamp=DAY), make_entry(timestamp=datetime.now(UTC)))

    told = shell.run("archive")

    assert "2025-11-30" in told
    assert "1 entry of 1 day went to the lake and were read back from it" in told
    assert "nothing to archive" in shell.run("archive")
    assert Lake(shell.settings).days() == {DAY.date(): 1}


def test_archive_tells_which_numbers_of_a_writer_are_missing(
    shell: Shell, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, *(make_entry(timestamp=DAY, writer_id="w", writer_seq=n) for n in (1, 4, 6)))
    shell.run("archive")
    assert "the lake lacks numbers 2 to 3 of writer w, 5 of writer w" in shell.err


def test_archive_as_json_tells_each_day(
    shell: Shell, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, make_entry(timestamp=DAY), make_entry(timestamp=DAY - timedelta(days=1)))

    days = shell.json("archive", "--day", "2025-11-30")

    assert [(day["day"], day["archived"]) for day in days] == [("2025-11-30", 1)]
    assert len(days[0]["merkle_root"]) == 64


def test_archive_carries_what_a_process_that_ended_left_in_the_spool(shell: Shell) -> None:
    away = ClaudeMaxAuditor(home=shell.settings.home, redis_url="redis://127.0.0.1:1")
    away.sync.log_message("a", "b", content="left behind", timestamp=DAY)
    away.sync.close()

    status = shell.json("status", code=1)
    shell.run("archive")

    assert status["spool"]["waiting"] == 1
    assert "1 entry in the spool of processes that ended" in status["concerns"][0]
    assert Lake(shell.settings).days() == {DAY.date(): 1}


@pytest.mark.parametrize("lives", [True, False])
def test_status_tells_what_became_of_every_call(shell: Shell, redis_url: str, lives: bool) -> None:
    made = ClaudeMaxAuditor(
        home=shell.settings.home,
        redis_url=redis_url,
        storage_backend="redis",
        overflow="drop",
        spool_bytes=300_000,
    )
    for number in range(100):
        if number == 5:
            made.sync.flush_all()
            made._trail.hot.close()  # type: ignore[union-attr]
            made._trail._writer.stop(10)  # type: ignore[union-attr]
        made.sync.log_message("a", "b", content="x" * 10_000)
    accepted, written, spooled, dropped = made._trail.counts
    made._trail._spool.note_tally()  # type: ignore[union-attr]
    if not lives:
        made.sync.close()

    spool = shell.json("status", code=1)["spool"]

    assert (spool["accepted"], spool["dropped"]) == (accepted, dropped)
    assert (spool["written"], spool["spooled"]) == (written, spooled)
    assert dropped > 0
    assert spooled > 0
    told = shell.run("status", code=1)
    assert f"{accepted} accepted = {written} written + {spooled} spooled + {dropped} drop" in told
    assert f"{dropped} entries dropped" in told
    made.sync.close()


@pytest.mark.parametrize("command", ["archive", "quality", "verify"])
def test_a_day_that_is_none_is_wrong_use(shell: Shell, command: str) -> None:
    shell.run(command, "--day", "yesterday", code=2)
    assert "--day: 'yesterday' is not a day; the form is 2025-11-30" in shell.err


def test_archive_refuses_a_day_that_is_not_over(shell: Shell) -> None:
    shell.run("archive", "--day", str(datetime.now(UTC).date()), code=1)
    assert "is not over yet" in shell.err


@pytest.mark.usefixtures("archived")
def test_verify_and_quality_find_a_whole_lake_whole(shell: Shell) -> None:
    assert "the lake is whole" in shell.run("verify")
    assert "1 day checked: all passed" in shell.run("quality")
    assert "nothing to check" in shell.run("quality")
    assert shell.json("verify")["entries"] == 3


def test_every_command_works_on_a_lake_in_a_bucket(
    shell: Shell,
    hot: HotStore,
    make_entry: MakeEntry,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    lake = f"s3://{s3_server.new_bucket()}/trail"
    named = ("--lake", lake)
    keep(hot, make_entry(timestamp=LONG_AGO), make_entry(timestamp=DAY))
    keep(hot, make_entry(timestamp=datetime.now(UTC)))

    assert "2 entries of 2 days went to the lake" in shell.run("archive", *named)
    assert shell.json("status", *named)["lake"]["uri"] == lake
    assert shell.json("search", *named)["total_count"] == 3
    assert "the lake is whole" in shell.run("verify", *named)
    assert "2 days checked: all passed" in shell.run("quality", *named)
    assert "3 days compared: nothing differs" in shell.run("reconcile", *named)
    assert "the index holds every month" in shell.run("reindex", *named)
    assert shell.json("purge", "--execute", *named)["receipt"]["rows"] == 1
    assert shell.json("export", *named)["rows"] == 2
    assert shell.json("verify", *named)["purged"] == 1
    assert not any("s3:" in str(path) for path in tmp_path.rglob("*"))
    assert not (shell.settings.home / "lake").exists()


@pytest.mark.usefixtures("archived")
def test_verify_and_quality_name_what_was_changed(
    shell: Shell, archived: list[AuditEntry]
) -> None:
    damage(Lake(shell.settings))

    told = shell.run("verify", code=1)
    report = shell.json("quality", "--day", "2025-11-30", code=1)

    assert "in the lake do not fit" in told
    failed = [check for check in report[0]["checks"] if not check["passed"]]
    assert {"content_hash_fits", "entry_hash_fits"} <= {check["name"] for check in failed}
    assert set(failed[0]["entry_ids"]) == {entry.entry_id for entry in archived}
    assert "! verify failed" in shell.run("status", code=1)


@pytest.mark.usefixtures("archived")
def test_export_writes_one_file_in_the_format_of_its_name(shell: Shell, tmp_path: Path) -> None:
    output = tmp_path / "all.csv"

    report = shell.json("export", "-o", str(output))

    assert (report["rows"], report["format"]) == (4, "csv")
    assert pl.read_csv(output).height == 4
    shell.run("export", "-o", str(output), code=1)
    assert "all.csv" in shell.err
    assert "exists" in shell.err


@pytest.mark.usefixtures("archived")
def test_export_takes_the_filters_of_search(shell: Shell) -> None:
    told = shell.run("export", "--until", "2025-11-30", "--format", "parquet")
    [file] = shell.settings.exports.glob("*.parquet")
    assert file.name in told
    assert pl.read_parquet(file).height == 3


def test_export_to_an_unknown_ending_asks_for_the_format(shell: Shell, tmp_path: Path) -> None:
    shell.run("export", "-o", str(tmp_path / "all.xls"), code=2)
    assert "say which with --format" in shell.err


@pytest.mark.usefixtures("archived")
def test_purge_removes_nothing_until_it_is_told_to(
    shell: Shell, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(
        hot,
        make_entry(timestamp=LONG_AGO),
        make_entry(timestamp=LONG_AGO, retention="permanent"),
    )
    shell.run("archive")

    looked = shell.run("purge")
    assert "1 entry" in looked
    assert "nothing was removed" in looked
    assert Lake(shell.settings).count() == 5

    receipt = shell.json("purge", "--execute")["receipt"]
    assert (receipt["rows"], receipt["permanent_kept"]) == (1, 1)
    assert Lake(shell.settings).count() == 4
    assert "the lake is whole" in shell.run("verify")


def test_purge_says_how_to_go_above_its_cap(
    shell: Shell, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, make_entry(timestamp=LONG_AGO), make_entry(timestamp=LONG_AGO))
    shell.run("archive")

    shell.run("purge", "--at-most", "1")
    assert "claude-audit purge --execute --at-most 2" in shell.err
    plan = shell.json("purge", "--at-most", "1")["plan"]
    assert (plan["rows"], plan["at_most"], plan["held_kept"]) == (2, 1, 0)
    shell.run("purge", "--execute", "--at-most", "1", code=1)
    assert "may remove 1 unless it is told; nothing was removed" in shell.err
    shell.run("purge", "--execute", "--at-most", "2")
    assert Lake(shell.settings).count() == 0


def test_purge_refuses_less_than_the_floor(shell: Shell) -> None:
    shell.run("purge", "--older-than-days", "182", code=1)
    assert "183" in shell.err


@pytest.mark.usefixtures("archived")
def test_reindex_brings_back_a_lost_index(shell: Shell) -> None:
    assert shell.json("reindex") == {"2025-11": 0}
    for file in shell.settings.chroma.rglob("2025-11*"):
        if file.is_file():
            file.unlink()

    differs = shell.run("reconcile", code=1)

    assert "the index lacks 3 entries" in differs
    assert shell.json("reindex", "--month", "2025-11", "--rebuild") == {"2025-11": 3}
    assert "nothing differs" in shell.run("reconcile")


def test_reindex_of_a_month_that_is_none_is_refused(shell: Shell) -> None:
    shell.run("reindex", "--month", "2025-13", code=1)
    assert "month" in shell.err


@pytest.mark.usefixtures("archived")
def test_status_tells_of_every_store_and_job(shell: Shell) -> None:
    status = shell.json("status")
    assert status["redis"]["entries"] == 1  # the others are past their 30 days there
    assert status["lake"]["entries"] == 3
    assert status["lake"]["not_archived"] == []
    assert status["jobs"]["daily-archive"]["result"] == "succeeded"
    assert "nothing asks for attention" in shell.run("status")


def test_status_of_a_redis_that_is_away_says_so(shell: Shell) -> None:
    status = shell.json("--redis-url", "redis://127.0.0.1:1", "status", code=1)
    assert status["redis"]["answers"] is False
    assert "127.0.0.1:1" in status["concerns"][0]


def test_status_of_an_empty_home_starts_nothing(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_REDIS_URL")
    told = shell.run("--home", str(tmp_path / "new"), "status")
    assert "embedded, not started" in told
    assert not (tmp_path / "new" / "redis" / "redis.sock").exists()


def test_reconcile_names_a_closed_day_that_waits(
    shell: Shell, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, make_entry(timestamp=DAY))
    told = shell.run("reconcile", code=1)
    assert "1 entries wait in Redis for the archive" in told


def test_a_lake_that_may_not_be_read_is_named(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    shell.run("--lake", str(tmp_path / "file"), "verify", code=1)
    assert str(tmp_path / "file") in shell.err


@pytest.mark.usefixtures("archived")
def test_every_run_stands_in_the_job_table(shell: Shell) -> None:
    for command in ("quality", "verify", "purge", "export", "reindex"):
        shell.run(command)
    jobs = {record.job for record in JobTable(shell.settings).history()}
    assert jobs == {
        "daily-archive", "data-quality", "verify", "retention-purge", "export", "reindex"
    }  # fmt: skip
