"""What a run leaves as evidence can be read back, newest first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from audit_storage.jobs import JobRecord, JobState, JobTable
from audit_storage.lake import delta_log
from claude_max_audit.settings import Settings, load_settings

START = datetime(2025, 1, 2, 2, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({}, home=tmp_path / "home")


def record(number: int, job: str = "daily-archive") -> JobRecord:
    started = START + timedelta(days=number)
    return JobRecord(
        job=job,
        started_at=started,
        ended_at=started + timedelta(seconds=3),
        result="succeeded",
        day=date(2025, 1, 1) + timedelta(days=number),
        rows=1000 + number,
        bytes=123_456,
        merkle_root="ab" * 32,
        details={"quarantined": number, "text": "ünï \x00"},
    )


def test_no_runs_yet(settings: Settings) -> None:
    jobs = JobTable(settings)
    jobs.record()
    assert jobs.history() == []
    assert jobs.states() == []
    assert jobs.version() == -1
    assert not Path(settings.lake_uri).exists()


def test_records_come_back_as_they_were_newest_first(settings: Settings) -> None:
    jobs = JobTable(settings)
    runs = [record(number) for number in range(3)]
    jobs.record(runs[0])
    jobs.record(runs[1], runs[2])
    failed = JobRecord("quality", START, START, "failed", error="TypeError: x")
    jobs.record(failed)
    assert JobTable(settings).history("daily-archive") == runs[::-1]
    assert JobTable(settings).history("daily-archive", limit=1) == [runs[2]]
    assert JobTable(settings).history("quality") == [failed]
    assert len(jobs.history()) == 4
    assert len({run.job_id for run in jobs.history()}) == 4


def test_a_job_stands_as_its_newest_run_ended(settings: Settings) -> None:
    jobs = JobTable(settings)
    jobs.record(record(0), record(1))
    two_days = START + timedelta(days=2)
    ended = two_days + timedelta(seconds=9)
    jobs.record(
        JobRecord("data-quality", START, START, "succeeded", rows=1),
        JobRecord("data-quality", two_days, two_days, "failed", rows=5, error="bad"),
        JobRecord("data-quality", two_days, ended, "succeeded", rows=7),
        JobRecord("verify", START, START, "failed", error="1 finding"),
    )
    archive, quality, verify = jobs.states()
    newest = record(1)
    assert archive == JobState(
        "daily-archive", newest.started_at, newest.ended_at, True, 1001, newest.ended_at
    )
    assert quality == JobState("data-quality", two_days, ended, False, 12, START)
    assert verify == JobState("verify", START, START, False, 0, None)
    assert jobs.version() == JobTable(settings).version() > 0


def test_many_small_files_are_joined_and_no_run_is_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_log, "MANY_FILES", 4)
    jobs = JobTable(settings)
    runs = [record(number) for number in range(6)]
    for run in runs:
        jobs.record(run)
    assert jobs.history() == runs[::-1]
    log = Path(settings.lake_uri, "jobs", "_delta_log")
    assert any(b'"OPTIMIZE"' in file.read_bytes() for file in log.glob("*.json"))
