"""The grid of days: every state from rows of the real job table and entries of a real lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from audit_flows.job_note import NOTE_CHARACTERS, note
from audit_flows.links import Links, plain
from audit_flows.overview_grid import markdown, summary
from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.lake import Lake
from audit_storage.overview import NARROWED, DayOverview, DayState, overview
from audit_storage.purge.holds import HoldBook
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import parse_query
from claude_max_audit.settings import Settings

NOW = datetime(2025, 12, 1, 12, 0, tzinfo=UTC)
TODAY = NOW.date()


def ran(
    job: str, at: datetime, *, day: date | None = None, error: str | None = None, **given: Any
) -> JobRecord:
    result = "failed" if error else "succeeded"
    return JobRecord(
        job=job, started_at=at, ended_at=at, result=result, day=day, error=error, **given
    )


def at(day: int, hour: int = 2) -> datetime:
    return datetime(2025, 11, day, hour, tzinfo=UTC)


def states(settings: Settings, now: datetime = NOW, days: int = 6) -> dict[int, str]:
    seen = overview(Lake(settings), JobTable(settings), now, days)
    return {one.day.day: one.state.value for one in seen}


def archive(settings: Settings, *entries: AuditEntry) -> None:
    assert settings.redis_url is not None
    hot = HotStore.connect(settings.redis_url)
    try:
        hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])
        archive_closed_days(Lake(settings), hot, Quarantine(settings), NOW)
    finally:
        hot.close()


def test_a_trail_that_has_not_begun_has_only_blank_days(settings: Settings) -> None:
    seen = states(settings)
    assert seen.pop(TODAY.day) == DayState.OPEN
    assert set(seen.values()) == {DayState.BEFORE}


def test_a_day_is_empty_once_an_archive_has_looked_and_missed_26_hours_after_its_end(
    settings: Settings,
) -> None:
    JobTable(settings).record(
        ran("daily-archive", at(27)), ran("daily-archive", at(28)), ran("data-quality", at(30))
    )

    seen = states(settings)

    assert seen == {1: "open", 30: "waiting", 29: "missed", 28: "missed", 27: "empty", 26: "before"}
    late = datetime(2025, 12, 2, 2, 0, tzinfo=UTC)
    assert states(settings, late - timedelta(seconds=1))[30] == DayState.WAITING
    assert states(settings, late)[30] == DayState.MISSED


def test_an_archive_of_one_day_has_not_looked_at_the_others(settings: Settings) -> None:
    jobs = JobTable(settings)
    jobs.record(ran("daily-archive", at(27)))
    jobs.record(ran("daily-archive", at(30), day=date(2025, 11, 29), details={NARROWED: True}))
    assert states(settings)[28] == DayState.MISSED


def test_a_failed_archive_is_told_until_one_succeeds(settings: Settings) -> None:
    jobs = JobTable(settings)
    jobs.record(ran("daily-archive", at(28)), ran("daily-archive", at(30), error="OSError: gone"))
    assert states(settings)[29] == DayState.FAILED

    jobs.record(ran("daily-archive", at(30, 9)))
    assert states(settings)[29] == DayState.EMPTY


def test_cells_hold_what_the_lake_its_holds_and_its_jobs_say(
    settings: Settings, make_entry: Callable[..., AuditEntry]
) -> None:
    held, free = make_entry(swarm_id="held"), make_entry()
    archive(settings, held, free)
    HoldBook(settings).place(
        parse_query({"swarm_id": "held"}, None), by="counsel", reason="case 1", now=NOW
    )
    day = held.day
    jobs = JobTable(settings)
    jobs.record(
        ran("daily-archive", at(30, 1), day=day, rows=2, merkle_root="ab" * 32,
            details={"flow_run": "r1"}),
        ran("daily-archive", at(30, 2), day=day),
        ran("data-quality", at(30, 3), day=day, error="content_hash: 1 row"),
        ran("retention-purge", at(30, 4), rows=7),
        ran("retention-purge", at(29, 4), rows=7, details={"dry_run": True}),
    )  # fmt: skip

    seen = {one.day: one for one in overview(Lake(settings), jobs, NOW, 3)}

    of_day = seen[day]
    assert (of_day.entries, of_day.held, of_day.checked) == (2, 1, "failed")
    assert of_day.root == "ab" * 32
    assert of_day.purged == 7
    assert seen[day - timedelta(days=1)].purged is None
    assert of_day.stands_out
    text = markdown(list(seen.values()), Links(settings))
    assert text.startswith(f"LOOK AT {day}\n")
    assert f"| **{day}** | **2** | **FAILED** | **{'ab' * 6}** | **1** | **7** |" in text


def test_a_run_that_prefect_knows_is_linked(settings: Settings) -> None:
    record = ran("daily-archive", at(30), details={"flow_run": "r1"})
    day = DayOverview(
        day=TODAY, state=DayState.ARCHIVED, entries=5, runs={"daily-archive": record}
    )
    assert "| [5](/runs/flow-run/r1) |" in markdown([day], Links(settings))
    assert summary([day]) == "Nothing of the last 1 days asks for attention."


@pytest.mark.parametrize(
    ("text", "shown"),
    [("[x](http://evil)", r"\[x](http://evil)"), ("<b>", r"\<b>"), ("a|b", r"a\|b")],
)
def test_what_an_agent_wrote_stays_text_in_the_ui(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_note_is_the_error_or_the_details_that_say_something() -> None:
    details = {"flow_run": "r1", "files": 3, "released": 2, "index_lacks": ["2025-11-30"]}
    assert note(ran("x", NOW, details=details)) == "released: 2, index lacks: 2025-11-30"
    assert note(ran("x", NOW, error="OSError: a\nb")) == "OSError: a"
    assert len(note(ran("x", NOW, error="e" * 500))) == NOTE_CHARACTERS
