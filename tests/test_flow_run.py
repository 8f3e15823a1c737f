"""One run by itself: its own API beside it, its own home, nothing left behind."""

from __future__ import annotations

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
    import os

    return EphemeralApi(settings.prefect_dir, {**os.environ, **prefect_environment(settings)})


def test_each_home_keeps_its_own_history(trail: Settings, tmp_path: Path) -> None:
    other = load_settings(
        environ={}, home=tmp_path / "other", redis_url=trail.redis_url, embedder="none"
    )
    for _ in range(2):
        run_flow("daily-archive", trail)
    run_flow("daily-archive", other, on_line=print)

    for settings, runs in ((trail, 2), (other, 1)):
        with api_of(settings) as api:
            url = api.url()
            found = httpx.post(f"{url}/flow_runs/filter", json={}).json()
            logs = httpx.post(f"{url}/logs/filter", json={}).json()
        assert [run["name"] for run in found] == ["nothing to archive"] * runs
        assert [run["state_type"] for run in found] == ["COMPLETED"] * runs
        told = [log for log in logs if log["message"].startswith("nothing to archive")]
        assert len(told) == runs


def test_a_callback_may_print(trail: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run_flow("daily-archive", trail, on_line=print)

    assert capsys.readouterr().out.startswith("nothing to archive")


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
