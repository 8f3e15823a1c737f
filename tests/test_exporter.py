"""The page for Prometheus: against a real Redis and lake, read with Prometheus' own parser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from audit_flows.exporter.endpoint import MetricsEndpoint
from audit_flows.exporter.figures import FIGURES, PREFIX, Sample
from audit_flows.exporter.scrape import Scraper
from audit_flows.exporter.sources import RedisSource, sources_of
from audit_flows.exporter.tally_book import TallyBook
from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.lake import Lake
from claude_max_audit import ClaudeMaxAuditor, SecuritySeverity
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.keys import DAYS
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import Settings, load_settings
from claude_max_audit.spool.tally import Tally
from conftest import RedisServer
from hot_trail import dump

COMMAND = (sys.executable, "-W", "error", "-m", "audit_flows.cli")
MakeEntry = Callable[..., AuditEntry]
PATIENCE_SECONDS = 60.0
"""How long a scrape may take here: a busy machine is no store that is away."""
Page = dict[tuple[str, str], float]
"""Value by sample name and the value of its one label, "" without any."""


@pytest.fixture
def hot(settings: Settings) -> Iterator[HotStore]:
    assert settings.redis_url is not None
    hot = HotStore.connect(settings.redis_url)
    yield hot
    hot.close()


@pytest.fixture
def endpoint(settings: Settings) -> Iterator[MetricsEndpoint]:
    with MetricsEndpoint(settings, port=0, deadline_seconds=PATIENCE_SECONDS) as endpoint:
        yield endpoint


def keep(hot: HotStore, *entries: AuditEntry) -> None:
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


def read(url: str) -> Page:
    with urllib.request.urlopen(url, timeout=2 * PATIENCE_SECONDS) as answer:
        assert answer.status == 200
        text = answer.read().decode()
    page: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            (label,) = sample.labels.values() or ("",)
            page[sample.name.removeprefix(PREFIX), label] = sample.value
    return page


def test_every_figure_is_the_one_that_the_stores_tell(
    settings: Settings, hot: HotStore, endpoint: MetricsEndpoint, make_entry: MakeEntry
) -> None:
    now = datetime.now(UTC)
    lake, quarantine, jobs = Lake(settings), Quarantine(settings), JobTable(settings)
    yesterday, waiting = now - timedelta(days=1), now - timedelta(days=3)
    keep(hot, *(make_entry(timestamp=yesterday, agent_id=f"agent_{n}") for n in range(4)))
    archive_closed_days(lake, hot, quarantine, now)
    keep(hot, make_entry(timestamp=waiting))
    alarm = {"entry_type": "security_event", "severity": "critical"}
    keep(hot, make_entry(timestamp=now, **alarm), make_entry(timestamp=now, severity="high"))
    keep(hot, make_entry(timestamp=now - timedelta(hours=2), **alarm))
    quarantine.add(waiting.date(), [Rejected(waiting.date(), None, "torn", b"{", now)])
    hour_ago = now - timedelta(hours=1)
    jobs.record(
        JobRecord("daily-archive", hour_ago, hour_ago, "succeeded", rows=4),
        JobRecord("data-quality", hour_ago, hour_ago, "succeeded"),
        JobRecord("data-quality", now, now, "succeeded", day=yesterday.date()),
        JobRecord("data-quality", now, now, "failed", day=waiting.date(), error="bad"),
    )

    page = read(endpoint.url)

    stores = ("redis", "lake", "quarantine", "jobs", "spool")
    assert [page["up", store] for store in stores] == [1] * 5
    assert page["hot_entries", ""] == 8
    assert page["hot_days", ""] == len(hot.days())
    assert page["active_agents", ""] == hot.figures(now).active_agents == 5
    assert page["critical_alerts", ""] == 1
    assert page["entries_per_second", ""] == pytest.approx(2 / 60)
    assert page["redis_memory_bytes", ""] > 0
    assert page["cold_entries", ""] == lake.count() == 4
    assert page["lake_files", ""] == 1
    parquet = sum(file.stat().st_size for file in Path(lake.uri).rglob("*.parquet"))
    assert page["lake_bytes", ""] == parquet
    assert page["quarantined_entries", ""] == 1
    assert page["days_not_archived", ""] >= 1
    assert page["oldest_day_not_archived_seconds", ""] > timedelta(days=2).total_seconds()
    assert page["job_last_run_succeeded", "daily-archive"] == 1
    assert page["job_last_run_succeeded", "data-quality"] == 0
    for flow in ("daily-archive", "data-quality"):
        assert page["job_last_success_timestamp_seconds", flow] == hour_ago.timestamp()
        assert page["job_last_success_age_seconds", flow] >= 3600
    assert page["disk_size_bytes", "lake"] > page["disk_free_bytes", "lake"] > 0


def test_what_became_of_this_machine_s_calls_is_counted(
    settings: Settings, endpoint: MetricsEndpoint
) -> None:
    auditor = ClaudeMaxAuditor(home=settings.home, redis_url=settings.redis_url)
    for number in range(300):
        auditor.sync.log_message("a", "b", "inform", f"number {number}")
    auditor.sync.flush_all()
    auditor._trail._spool.note_tally()  # type: ignore[union-attr]
    page = read(endpoint.url)
    auditor.sync.close()
    assert page["accepted_entries_total", ""] == page["written_entries_total", ""] == 300
    assert page["dropped_entries_total", ""] == page["spooled_entries", ""] == 0
    assert page["spool_writers", ""] == 1
    assert page["spool_bytes", ""] > 0
    assert page["log_call_seconds_count", ""] > 0
    assert page["log_call_seconds_sum", ""] > 0
    assert read(endpoint.url)["accepted_entries_total", ""] == 300


def test_entries_that_wait_for_a_redis_that_is_away_are_counted(settings: Settings) -> None:
    away = load_settings(environ={}, home=settings.home, redis_url="redis://127.0.0.1:1")
    auditor = ClaudeMaxAuditor(home=away.home, redis_url=away.redis_url)
    auditor.sync.log_security_event("a", "auth_failure", SecuritySeverity.LOW, {})
    auditor._trail._spool.note_tally()  # type: ignore[union-attr]
    with MetricsEndpoint(away, port=0, deadline_seconds=PATIENCE_SECONDS) as endpoint:
        page = read(endpoint.url)
    auditor._trail.close(timeout=0)
    assert page["up", "redis"] == 0
    assert ("hot_entries", "") not in page
    assert page["spooled_entries", ""] == page["accepted_entries_total", ""] == 1
    assert page["up", "lake"] == page["up", "spool"] == 1


def test_a_lake_that_cannot_be_read_is_away_and_never_empty(
    settings: Settings, hot: HotStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    keep(hot, make_entry(timestamp=datetime.now(UTC) - timedelta(days=2)))
    (tmp_path / "file").write_text("in the way")
    broken = load_settings(
        environ={},
        home=settings.home,
        redis_url=settings.redis_url,
        lake_uri=str(tmp_path / "file"),
    )
    with MetricsEndpoint(broken, port=0, deadline_seconds=PATIENCE_SECONDS) as endpoint:
        page = read(endpoint.url)
    assert page["up", "redis"] == 1
    assert page["up", "lake"] == page["up", "jobs"] == page["up", "quarantine"] == 0
    assert ("cold_entries", "") not in page
    assert ("days_not_archived", "") not in page


def test_an_embedded_redis_is_not_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = load_settings(environ={}, home=home)
    with MetricsEndpoint(settings, port=0, deadline_seconds=PATIENCE_SECONDS) as endpoint:
        page = read(endpoint.url)
    assert page["up", "redis"] == 0
    assert page["up", "lake"] == 1
    assert page["cold_entries", ""] == 0
    assert not home.exists()


def test_a_scrape_writes_nothing(
    settings: Settings,
    hot: HotStore,
    redis_server: RedisServer,
    endpoint: MetricsEndpoint,
    make_entry: MakeEntry,
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    keep(hot, make_entry(timestamp=yesterday), make_entry(timestamp=yesterday))
    archive_closed_days(Lake(settings), hot, Quarantine(settings), datetime.now(UTC))
    client = redis_server.client()
    client.zadd(DAYS, {str(yesterday.date()): 1.0}, xx=True)  # Somebody should prune it: not we.
    before, files = dump(client), everything_in(settings.home)
    read(endpoint.url)
    assert dump(client) == before
    assert everything_in(settings.home) == files


def everything_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_scrape_asks_the_same_however_much_there_is(
    hot: HotStore, redis_server: RedisServer, endpoint: MetricsEndpoint, make_entry: MakeEntry
) -> None:
    client = redis_server.client()
    moment = datetime.now(UTC) - timedelta(minutes=10)

    def commands() -> dict[str, int]:
        client.config_resetstat()
        read(endpoint.url)
        stats: dict[str, Any] = client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
        of_connecting = ("hello", "client", "client|setinfo", "config", "config|resetstat")
        return {name: count for name, count in calls.items() if name not in of_connecting}

    keep(hot, make_entry(timestamp=moment))
    of_one = commands()
    assert of_one["zcount"] > 0
    keep(hot, *(make_entry(timestamp=moment) for _ in range(2_000)))
    assert commands() == of_one


class Stuck:
    """A store that answers when it is let."""

    store = "stuck"

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = Event()

    def samples(self, now: datetime) -> Iterator[Sample]:
        self.asked += 1
        assert self.may_answer.wait(60)
        yield Sample("hot_entries", 1)


class Failing:
    """A store of which nobody knew that it could fail like this."""

    store = "failing"

    def samples(self, now: datetime) -> Iterator[Sample]:
        yield Sample("cold_entries", 1)
        raise RuntimeError("out of order")


def test_a_store_that_does_not_answer_in_time_is_away_and_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck = Stuck()
    scraper = Scraper([stuck], deadline_seconds=0.05)
    first, second = scraper.samples(), scraper.samples()
    assert stuck.asked == 1
    stuck.may_answer.set()
    for samples in (first, second):
        assert Sample("up", 0, ("stuck",)) in samples
        assert "hot_entries" not in {sample.name for sample in samples}
    told = [record.getMessage() for record in caplog.records]
    assert told == ["metrics: stuck is away: it did not answer in time"]


def test_whatever_a_source_raises_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    well = Stuck()
    well.may_answer.set()
    scraper = Scraper([Failing(), well], PATIENCE_SECONDS)
    for samples in (scraper.samples(), scraper.samples()):
        assert Sample("up", 0, ("failing",)) in samples
        assert Sample("up", 1, ("stuck",)) in samples
        assert Sample("hot_entries", 1) in samples
        assert "cold_entries" not in {sample.name for sample in samples}
    told = [record.getMessage() for record in caplog.records]
    assert told == ["metrics: failing is away: out of order"]


def test_counters_only_grow_when_writers_go() -> None:
    book = TallyBook()
    assert book.total({"a": Tally(5, 3, 0), "b": Tally(2, 2, 0)}) == Tally(7, 5, 0)
    assert book.total({"b": Tally(1, 1, 0)}) == Tally(7, 5, 0)
    assert book.total({"c": Tally(1, 0, 1, 1, 900)}) == Tally(8, 5, 1, 1, 900)


def test_every_sample_is_a_figure_with_its_labels(settings: Settings) -> None:
    JobTable(settings).record(
        JobRecord("verify", datetime.now(UTC), datetime.now(UTC), "succeeded")
    )
    samples = Scraper(sources_of(settings), 60).samples()
    assert {sample.name for sample in samples} == set(FIGURES)
    for sample in samples:
        assert len(sample.labels) == len(FIGURES[sample.name].labels)


def test_names_are_as_prometheus_wants_them() -> None:
    for name, figure in FIGURES.items():
        assert name.endswith("_total") == (figure.kind == "counter"), name
        assert not name.endswith(("_ms", "_kb", "_mb", "_days_ago", "_count", "_sum")), name
        assert figure.help.endswith("."), name
        assert set(figure.labels) <= {"store", "flow", "place", "version"}, name


def test_a_redis_user_without_info_still_sees_the_counts(
    settings: Settings, redis_server: RedisServer
) -> None:
    client = redis_server.client()
    client.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "reader", "on", ">secret", "~audit:*", "+@read", "+ping", "+hello"
    )
    path = redis_server.url.removeprefix("unix://")
    asked = load_settings(
        environ={}, home=settings.home, redis_url=f"unix://reader:secret@{path}"
    )
    try:
        found = {sample.name for sample in RedisSource(asked).samples(datetime.now(UTC))}
    finally:
        client.execute_command("ACL", "DELUSER", "reader")  # type: ignore[no-untyped-call]
    assert "hot_entries" in found
    assert "redis_memory_bytes" not in found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(
    settings: Settings, number: signal.Signals
) -> None:
    place = {"AUDIT_HOME": str(settings.home), "AUDIT_REDIS_URL": str(settings.redis_url)}
    served = subprocess.Popen(
        [*COMMAND, "metrics", "--serve", "--port", "0"],
        env={**os.environ, **place},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert served.stdout is not None
    url = served.stdout.readline().strip()
    try:
        assert read(url)["up", "redis"] == 1
    finally:
        served.send_signal(number)
        out, err = served.communicate(timeout=60)
    assert (served.returncode, out, err) == (0, "", "Ctrl-C ends it\n")


def test_an_address_that_is_taken_names_the_way_out(
    settings: Settings, endpoint: MetricsEndpoint
) -> None:
    port = int(endpoint.url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be listened on .* --port"):
        MetricsEndpoint(settings, port=port).__enter__()
