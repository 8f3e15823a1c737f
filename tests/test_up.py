"""`claude-audit up` as its user has it: a real process in an empty home, until nothing is left.

The tests of this file share one house and run in the order in which they stand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from audit_flows.overview_grid import COLUMNS
from audit_storage.archive.quarantine import Quarantine
from audit_storage.jobs import JobTable
from audit_storage.lake.lake import Lake
from audit_storage.layout import span_of_day
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.verify import verify
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import load_settings
from test_flow_jobs import spoil
from up_house import DEAD_AFTER, Mailbox, UpHouse, chromium, until

MakeEntry = Callable[..., AuditEntry]

pytestmark = pytest.mark.timeout(600)  # the first test has the set-up of all

SCHEDULED = (
    "daily-archive/nightly",
    "retention-purge/nightly",
    "data-quality/nightly",
    "verify/weekly",
    "health/regular",
)
FIRST_DAYS = [date(2025, 11, 3), date(2025, 11, 4), date(2025, 11, 6)]
OUTAGE = [date(2025, 11, 7) + timedelta(days=number) for number in range(20)]
PARAMETERS = {
    "alarm/adhoc": {"event_type": "anomalous_pattern", "told": "a test"},
    "data-quality/monthly": {"month": "2025-11"},
    "export/adhoc": {"swarm_id": "builders"},
}
"""What an ad hoc run must be told; the other deployments need nothing."""
CHROMIUM = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "no-first-run",
    "disable-sync",
    "disable-background-networking",
    "disable-component-update",
)
A_DAY = 100
"""Entries of each day of the outage: enough that its archive is still at work when it is killed."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpHouse]:
    home = tmp_path_factory.mktemp("up") / "home"
    house = UpHouse(load_settings(environ={}, home=home, embedder="none"))
    try:
        house.start_detached()
        yield house
    finally:
        house.run("down")
        if house.process is not None:
            house.process.wait(60)


@pytest.fixture
def hot(house: UpHouse) -> Iterator[HotStore]:
    hot = HotStore.connect(f"unix://{house.settings.redis_dir}/redis.sock")
    yield hot
    hot.close()


def keep(hot: HotStore, entries: list[AuditEntry]) -> None:
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


def entries_of(make_entry: MakeEntry, day: date, number: int) -> list[AuditEntry]:
    start = span_of_day(day).start
    moments = [start + timedelta(seconds=second) for second in range(number)]
    return [make_entry(timestamp=moment, swarm_id="builders") for moment in moments]


def test_it_is_up_once_and_its_schedules_have_runs(house: UpHouse) -> None:
    again = house.run("up")
    assert again.returncode == 1
    assert f"already up in {house.settings.home}: {house.up.ui_url}" in again.stderr

    assert house.up.ui_url in house.told
    assert house.up.api_url in house.told
    assert httpx.get(house.up.ui_url).text.startswith("<!DOCTYPE html>")
    for name in SCHEDULED:
        until(partial(house.scheduled_runs, name), f"scheduled runs of {name}")
    deployed = json.loads(house.run("deploy", "--json", "--dead-after", str(DEAD_AFTER)).stdout)
    assert deployed["deployments"] == sorted(house.deployments())
    assert deployed["notify"] is None


def test_every_deployment_runs_and_the_artifacts_hold_the_numbers_of_the_lake(
    house: UpHouse, hot: HotStore, make_entry: MakeEntry
) -> None:
    for day in FIRST_DAYS:
        keep(hot, entries_of(make_entry, day, day.day))

    archived = house.ended(house.begin("daily-archive/nightly"))
    names = set(house.deployments()) - {"daily-archive/nightly", "health/regular"}
    of_quality = sorted(name for name in names if name.startswith("data-quality/"))
    others = [house.begin(name, **PARAMETERS.get(name, {})) for name in names - {*of_quality}]
    # One after the other, so that the last of them publishes the rows of all.
    checks = [house.ended(house.begin(name, **PARAMETERS.get(name, {}))) for name in of_quality]

    ended = [archived, *checks, *map(house.ended, others), house.looked()]
    assert {one["state_type"] for one in ended} == {"COMPLETED"}, ended
    assert archived["name"] == "2025-11-03 to 2025-11-06: 13 entries"
    assert len(house.deployments()) == len(ended)

    lake = Lake(house.settings)
    assert lake.days() == {day: day.day for day in FIRST_DAYS}
    assert house.security_events()["anomalous_pattern"] == "a test"
    records = JobTable(house.settings).history(limit=1000)
    for job in ("daily-archive", "data-quality", "export", "verify", "alarm"):
        rows = house.artifact(job)
        mine = [one for one in records if one.job == job]
        assert [row["entries"] for row in rows] == [one.rows for one in mine]
        assert all(f"/runs/flow-run/{one.details['flow_run']}" in row["run"]
                   for row, one in zip(rows, mine, strict=True))  # fmt: skip
    assert {row["verdict"] for row in house.artifact("health")} <= {"well", "LOOK"}
    assert house.artifact("overview").startswith("Nothing of the last 30 days")


def test_history_prints_the_job_table_and_a_grid_of_every_day(house: UpHouse) -> None:
    lake = Lake(house.settings).days()
    span = (house.up.since.date() - FIRST_DAYS[0]).days + 1

    told = json.loads(house.run("history", "--days", str(span), "--json").stdout)

    archived = {day["day"]: day["entries"] for day in told["days"] if day["state"] == "archived"}
    assert archived == {str(day): entries for day, entries in lake.items()}
    assert {day["checked"] for day in told["days"] if day["entries"]} == {"succeeded"}
    assert all(len(day["root"]) == 64 for day in told["days"] if day["entries"])
    runs = [run for run in told["runs"] if run["job"] == "daily-archive" and run["day"]]
    assert [run["rows"] for run in runs] == list(reversed(lake.values()))
    shown = house.run("history", "daily-archive", "--days", "3").stdout
    assert all(f"{day}   succeeded" in shown for day in FIRST_DAYS)


def test_the_pages_show_the_history_in_a_browser_without_the_world_outside(
    house: UpHouse,
) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("no Chromium on this machine to open the pages with")
    from playwright.sync_api import Page, sync_playwright

    asked: set[str] = set()

    def newest_version(page: Page, key: str) -> str:
        """Open an artifact's newest version as a reader does, and return what stands there."""
        page.goto(f"{house.up.ui_url}/artifacts/key/{key}")
        page.locator("a[href^='/artifacts/artifact/']").first.click()
        page.wait_for_selector("table", timeout=60_000)
        return page.locator("main, #app").first.inner_text()

    with sync_playwright() as play:
        chrome = play.chromium.launch(
            executable_path=browser,
            args=[f"--{option}" for option in CHROMIUM],
        )
        page = chrome.new_page()
        page.on("request", lambda request: asked.add(request.url.split("/")[2].split(":")[0]))
        overview = newest_version(page, "overview")
        assert all(column in overview for column in COLUMNS)
        assert "Nothing of the last 30 days" in overview

        history = newest_version(page, "daily-archive")
        assert all(str(day) in history for day in FIRST_DAYS)
        page.locator("a[href^='/runs/flow-run/']").first.click()
        page.wait_for_selector("text=2025-11-03 to 2025-11-06: 13 entries", timeout=60_000)

        newest_version(page, "data-quality")
        of_day = f"table a[href*='/quality/'][href*='{FIRST_DAYS[-1]}']"
        report = page.locator(of_day).first.get_attribute("href")
        assert report is not None
        page.goto(report)
        assert str(FIRST_DAYS[-1]) in page.locator("body").inner_text()
        rules = page.evaluate("[...document.styleSheets].map(sheet => sheet.cssRules.length)")
        assert sum(rules) > 10, "the page has its style"

        newest_version(page, "export")
        link = page.locator("table a[href$='.jsonl']").first.get_attribute("href")
        chrome.close()
    assert link is not None
    [exported] = house.settings.exports.glob("*.jsonl")
    assert httpx.get(link).content == exported.read_bytes()
    assert asked == {"127.0.0.1"}


def test_the_file_server_serves_nothing_else(house: UpHouse) -> None:
    for path in ("/", "/exports/", "/exports/../up.json", "/exports/%2e%2e/up.json", "/up.json"):
        assert httpx.get(house.up.files_url + path).status_code == 404, path
    [exported] = house.settings.exports.glob("*.jsonl")
    address = f"{house.up.files_url}/exports/{exported.name}"
    assert httpx.get(address, headers={"Host": "evil.example:80"}).status_code == 403


def test_each_automation_fires_tells_people_and_writes_to_the_trail(
    house: UpHouse, tmp_path: Path
) -> None:
    mailbox = Mailbox()
    try:
        _tell(house, mailbox)
        # A look with nothing in the spool, then one with entries that no Redis has taken.
        house.looked()
        _leave_in_spool(house, tmp_path, 3)
        house.looked(
            archive_late_hours=0, disk_free_percent=100, redis_memory_percent=0, spool_entries=1
        )
        spoil(Lake(house.settings), FIRST_DAYS[0])
        quality = house.ended(house.begin("data-quality/nightly", day=str(FIRST_DAYS[0])))
        assert quality["state_type"] == "FAILED"
        failing = house.ended(
            house.begin("export/adhoc", output_path=str(house.settings.home / "no" / "x.jsonl"))
        )
        assert failing["state_type"] == "FAILED", failing

        fired = {
            "archive_late",
            "disk_nearly_full",
            "redis_nearly_full",
            "spool_growing",
            "quality_failed",
            "job_failed",
        }
        until(lambda: fired <= set(house.security_events()), f"{fired} in the trail")
        until(lambda: fired <= _subjects(mailbox), f"{fired} told")
        events = house.security_events()
    finally:
        mailbox.close()
    assert events["archive_late"].startswith("no archive for 0.")
    assert events["spool_growing"] == "3 entries wait in the spool, 0 at the last look"
    assert "FAILED" in events["quality_failed"]
    assert events["job_failed"] == "export: failed: FileNotFoundError"


def _tell(house: UpHouse, mailbox: Mailbox) -> None:
    """Save the block that alarms are sent through, as somebody does in the UI, and deploy.

    From then on a minute without a health check counts as silence.
    """
    told = house.python(
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook\n"
        "from audit_flows.automations import Thresholds\n"
        "from audit_flows.deployed import deploy\n"
        f"block = Webhook(name='tests', url={mailbox.url!r},\n"
        "    json_data={'subject': '{{subject}}', 'body': '{{body}}'})\n"
        "block.save('audit-alarms')\n"
        f"thresholds = Thresholds(dead_after_seconds={DEAD_AFTER}, silent_seconds=60)\n"
        "print(deploy(thresholds).notify)\n"
    )
    assert told == "custom-webhook/audit-alarms\n"


def _subjects(mailbox: Mailbox) -> set[str]:
    """Return the types of the alarms that were told."""
    return {
        one.removeprefix("audit trail: ").rpartition(" (")[0].replace(" ", "_")
        for one in mailbox.subjects
    }


def _leave_in_spool(house: UpHouse, tmp_path: Path, number: int) -> None:
    """Log entries in a process whose Redis is away, and kill it."""
    program = (
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "from audit_flows.health_figures import spooled_entries\n"
        "from claude_max_audit import get_auditor\n"
        "auditor = get_auditor()\n"
        f"for number in range({number}):\n"
        "    auditor.sync.log_message('a', 'b', 'inform', str(number))\n"
        # A writer notes its figures twice a second, for those who look from outside.
        f"while spooled_entries(Path(os.environ['AUDIT_SPOOL_DIR'])) < {number}:\n"
        "    time.sleep(0.05)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    away = {**house.environment, "AUDIT_REDIS_URL": f"unix://{tmp_path}/gone.sock"}
    done = subprocess.run([sys.executable, "-c", program], env=away, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_run_is_ended_by_its_automation_and_the_outage_is_caught_up_in_order_once(
    house: UpHouse, hot: HotStore, make_entry: MakeEntry
) -> None:
    for day in OUTAGE:
        keep(hot, entries_of(make_entry, day, A_DAY))
    before = Lake(house.settings).days()
    healthy = house.begin_program(_LONG_RUN)

    killed = house.begin("daily-archive/nightly")
    until(lambda: len(Lake(house.settings).days()) > len(before), "the first day of the outage")
    heartbeat = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]},
                            "resource": {"id": [f"prefect.flow-run.{killed}"]}}}  # fmt: skip
    for process in house.of_the_worker():
        process.kill()
    assert house.flow_run(killed)["state_type"] == "RUNNING"
    assert len(Lake(house.settings).days()) < len(before) + len(OUTAGE)
    until(lambda: house.ask("/events/filter", heartbeat)["events"], "its sign of life")

    ended = house.ended(killed)
    assert ended["state_type"] == "CRASHED"
    assert ended["state"]["message"].startswith("No sign of life")
    until(lambda: "No sign of life" in house.security_events().get("run_dead", ""), "the event")
    assert "the worker was killed by signal 9" in house.log.read_text()

    told, complaints = healthy.communicate(timeout=240)
    assert healthy.returncode == 0, complaints
    states = house.get(f"/flow_run_states/?flow_run_id={told.strip()}")
    in_order = sorted(states, key=lambda one: str(one["timestamp"]))
    assert [one["type"] for one in in_order][-2:] == ["RUNNING", "COMPLETED"], "it was left alone"

    follower = house.ended(house.begin("daily-archive/nightly"))
    assert follower["state_type"] == "COMPLETED"
    assert Lake(house.settings).days() == {**before, **dict.fromkeys(OUTAGE, A_DAY)}
    rows = JobTable(house.settings).history("daily-archive", 1000)
    taken = [one for one in rows if one.day in OUTAGE and one.rows]
    times_taken = Counter(one.day for one in taken)
    # A day that was committed by the killed run, but not recorded, has no row with entries.
    assert set(times_taken.values()) == {1}
    assert len(OUTAGE) - len(times_taken) <= 1
    order = [one.day for one in reversed(taken) if one.day is not None]
    assert order == sorted(order)
    _assert_whole(house, but=FIRST_DAYS[0])


_LONG_RUN = f"""
import time
from prefect import flow, runtime

@flow(name="verify")
def long_and_healthy():
    time.sleep({DEAD_AFTER} * 2)
    print(runtime.flow_run.id)

long_and_healthy()
"""
"""A run of one of our jobs that works for longer than the silence after which one is ended."""


def _assert_whole(house: UpHouse, but: date) -> None:
    """Ask the verifier; the day that these tests spoiled is the only one that does not fit."""
    settings = house.settings
    days = [day for day in Lake(settings).days() if day != but]
    report = verify(Lake(settings), CommitRecords(settings), ReceiptBook(settings), days=days)
    assert report.whole, report.findings
    assert not Quarantine(settings).counts()


def test_what_dies_is_started_again(house: UpHouse) -> None:
    servers = [one for one in house.marked() if "server" in one.cmdline()]
    assert servers
    for process in servers:
        process.kill()
    until(
        lambda: "the Prefect server was started again" in house.log.read_text(),
        "the server's new start",
    )
    until(lambda: _healthy(house), "the server's health")
    assert house.run("status").stdout


def _healthy(house: UpHouse) -> bool:
    try:
        return httpx.get(f"{house.up.api_url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def test_a_minute_without_a_health_check_was_told(house: UpHouse) -> None:
    until(lambda: "health_silent" in house.security_events(), "the event in the trail")


def test_a_killed_up_is_cleaned_up_by_the_next_and_ctrl_c_leaves_nothing(house: UpHouse) -> None:
    left = {one.pid for one in house.processes()}
    os.kill(house.up.pid, signal.SIGKILL)
    assert {one.pid for one in house.processes()} & left, "what a killed `up` leaves behind"

    up = house.start()
    house.wait_until_ready()
    assert "that a killed `up` had left behind" in house.log.read_text()
    up.send_signal(signal.SIGINT)
    assert up.wait(100) == 0
    assert house.processes() == []
    assert house.run("down").stdout == "nothing was up\n"


def test_down_ends_what_a_killed_up_left_behind(house: UpHouse) -> None:
    up = house.start()
    until(lambda: any("server" in one.cmdline() for one in house.marked()), "its server")
    up.kill()
    up.wait()

    told = house.run("down").stdout

    assert "that a killed `up` had left behind" in told
    assert house.processes() == []
