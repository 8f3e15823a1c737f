"""One run by itself: its own API beside it, its own home, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from audit_flows.ephemeral_api import EphemeralApi, PrefectApiError
from audit_flows.prefect_home import (
    API_URL_VARIABLE,
    audit_environment,
    environment,
    prefect_environment,
)
from audit_flows.run_in_process import run_flow
from claude_max_audit.settings import Settings, load_settings


@pytest.fixture
def trail(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv(API_URL_VARIABLE, raising=False)
    return replace(settings, embedder="none")


def api_of(settings: Settings) -> EphemeralApi:
    return EphemeralApi(settings.prefect_dir, {**os.environ, **prefect_environment(settings)})


def test_each_home_keeps_its_own_history_and_a_callback_may_print(
    trail: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = load_settings(
        environ={}, home=tmp_path / "other", redis_url=trail.redis_url, embedder="none"
    )
    for _ in range(2):
        run_flow("daily-archive", trail)
    capsys.readouterr()
    run_flow("daily-archive", other, on_line=print)

    told = capsys.readouterr()
    assert told.out == "nothing to archive: the lake holds every closed day that Redis has\n"
    assert told.err == ""
    for settings, runs in ((trail, 2), (other, 1)):
        with api_of(settings) as api:
            url = api.url()
            found = httpx.post(f"{url}/flow_runs/filter", json={}).json()
            logs = httpx.post(f"{url}/logs/filter", json={}).json()
        assert [run["name"] for run in found] == ["nothing to archive"] * runs
        assert [run["state_type"] for run in found] == ["COMPLETED"] * runs
        lines = [log for log in logs if log["message"].startswith("nothing to archive")]
        assert len(lines) == runs


def test_a_run_leaves_nothing_running_and_speaks_with_this_machine_only(
    trail: Settings, tmp_path: Path
) -> None:
    """Every Python process of the run, the API too, writes down whom it calls."""
    watched = tmp_path / "watched"
    watched.mkdir()
    calls = tmp_path / "calls"
    (watched / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def note(event, args):\n"
        "    if event == 'socket.connect':\n"
        "        to = args[1] if isinstance(args[1], tuple) else ('unix',)\n"
        "    elif event == 'socket.getaddrinfo':\n"
        "        to = args\n"
        "    else:\n"
        "        return\n"
        f"    with open({str(calls)!r}, 'a') as file:\n"
        "        print(os.getpid(), event, to[0], file=file)\n"
        "sys.addaudithook(note)\n"
    )
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from audit_flows.run_in_process import run_flow\n"
        "from claude_max_audit.settings import load_settings\n"
        "run_flow('daily-archive', load_settings())\n"
        "tasks = Path('/proc/self/task').glob('*/children')\n"
        "print(os.getpid(), *[child for task in tasks for child in task.read_text().split()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **audit_environment(trail), "PYTHONPATH": str(watched)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    [runner] = done.stdout.split()  # nothing else was printed, and no child is left
    noted = [line.split(" ", 2) for line in calls.read_text().splitlines()]
    assert runner in {pid for pid, _, _ in noted}, "the hook saw the run"
    assert {to for _, _, to in noted} <= {"127.0.0.1", "unix"}


def test_an_api_that_is_named_and_does_not_answer_is_told(
    trail: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_URL_VARIABLE, "http://127.0.0.1:1/api")

    with pytest.raises(PrefectApiError, match=r"127\.0\.0\.1:1/api does not answer"):
        run_flow("daily-archive", trail)


def test_the_api_ends_when_whoever_started_it_is_killed(trail: Settings) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from audit_flows.ephemeral_api import EphemeralApi\n"
        "with EphemeralApi(Path(sys.argv[1]), dict(os.environ)) as api:\n"
        "    print(api.url(), api._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with environment(prefect_environment(trail)):
        killed = subprocess.run(
            [sys.executable, "-c", script, str(trail.prefect_dir)], stdout=subprocess.PIPE
        )
    url, pid = killed.stdout.decode().split()

    # The API inherits the pipe of nobody: it is gone when its process is no more.
    gone = Path(f"/proc/{pid}")
    if not gone.parent.is_dir():
        pytest.skip("no /proc to see processes in")
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=60)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_an_api_that_cannot_start_says_where_it_tells_why(trail: Settings) -> None:
    broken = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "nosuch://database"}
    with environment(broken), api_of(trail) as api, pytest.raises(PrefectApiError) as failed:
        api.url()

    assert "nosuch" in str(failed.value)
    assert str(api.log) in str(failed.value)


def test_the_settings_of_a_flow_are_those_of_its_caller(trail: Settings) -> None:
    assert load_settings(environ=audit_environment(trail)) == trail


def test_nothing_is_sent_anywhere(trail: Settings) -> None:
    script = (
        "from prefect._internal.analytics.enabled import is_telemetry_enabled as sends\n"
        "from prefect.settings import get_current_settings as get\n"
        "s = get()\n"
        "print(s.home, s.server.analytics_enabled, s.cloud.enable_orchestration_telemetry,\n"
        "      s.telemetry.enable_resource_metrics, sends())\n"
    )
    with environment(prefect_environment(trail)):
        told = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert told.split() == [str(trail.prefect_dir), "False", "False", "False", "False"]
