"""prefect.yaml against a real Prefect server and a real worker, by Prefect's own commands."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from audit_flows.prefect_home import audit_environment, prefect_environment
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import load_settings
from conftest import RedisServer

ROOT = Path(__file__).resolve().parents[1]
PREFECT = str(Path(sys.executable).parent / "prefect")
PATIENCE_SECONDS = 120.0


class Server:
    """A Prefect server of the tests' own, with its environment and what its API answers."""

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        self.url = url
        self.environment = environment

    def run(self, *arguments: str, cwd: Path = ROOT) -> str:
        """Run one of Prefect's commands; its output is in the failure, too."""
        done = subprocess.run(
            [PREFECT, *arguments],
            cwd=cwd,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=body or {}, timeout=30)
        return answer.raise_for_status().json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        flows = {flow["id"]: flow["name"] for flow in self.ask("/flows/filter")}
        found = self.ask("/deployments/filter")
        return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}

    def scheduled(self, deployment: dict[str, Any]) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self.ask(
            "/flow_runs/filter",
            {
                "deployments": {"id": {"any_": [deployment["id"]]}},
                "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            },
        )
        return runs


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for what `condition` returns to be true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    settings = load_settings(
        environ={}, home=home, redis_url=redis_server.url, embedder="none"
    )
    settings.prefect_dir.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        **prefect_environment(settings),
        **audit_environment(settings),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    }
    with (settings.prefect_dir / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: answers(url), "the server's health")
            yield Server(url, environment)
        finally:
            process.terminate()
            process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def deployed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server after the two commands of docs/flows.md, from a folder that is no checkout."""
    folder = tmp_path_factory.mktemp("deploy")
    shutil.copy(ROOT / "prefect.yaml", folder)
    server.run("work-pool", "create", "audit", "--type", "process")
    server.run("--no-prompt", "deploy", "--all", cwd=folder)
    return server


SCHEDULES = {
    "daily-archive/nightly": "0 2 * * *",
    "retention-purge/nightly": "0 3 * * *",
    "data-quality/nightly": "0 4 * * *",
    "data-quality/weekly": "0 6 * * 0",
    "data-quality/monthly": "0 7 2 * *",
    "verify/weekly": "0 5 * * 0",
    "health/regular": "*/15 * * * *",
}
ONE_AT_A_TIME = sorted({*SCHEDULES, "reindex/adhoc"} - {"health/regular"})


def test_every_job_is_deployed_to_the_pool(deployed: Server) -> None:
    there = deployed.deployments()
    assert set(there) == {*SCHEDULES, "export/adhoc", "reindex/adhoc", "alarm/adhoc"}
    assert {one["work_pool_name"] for one in there.values()} == {"audit"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduled_job_has_its_runs(deployed: Server, name: str) -> None:
    """With the wrong SQLAlchemy, everything looks right and no run is ever scheduled."""
    deployment = deployed.deployments()[name]
    [schedule] = [one["schedule"] for one in deployment["schedules"] if one["active"]]
    assert (schedule["cron"], schedule["timezone"]) == (SCHEDULES[name], "UTC")
    runs = until(lambda: deployed.scheduled(deployment), f"scheduled runs of {name}")
    minute, hour, *_ = SCHEDULES[name].split()
    if hour == "*":
        assert {int(run["expected_start_time"][14:16]) % 15 for run in runs} == {0}
    else:
        assert {run["expected_start_time"][11:16] for run in runs} == {f"0{hour}:0{minute}"}


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_one_run_of_a_job_at_a_time_and_the_next_waits(deployed: Server, name: str) -> None:
    deployment = deployed.deployments()[name]
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_a_health_check_that_finds_another_is_cancelled(deployed: Server) -> None:
    deployment = deployed.deployments()["health/regular"]
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("daily-archive/nightly", {"older_than_days": -1}),
        ("daily-archive/nightly", {"day": "yesterday"}),
        ("retention-purge/nightly", {"older_than_days": 30}),
        ("export/adhoc", {"format": "xml"}),
        ("export/adhoc", {"start_date": "soon"}),
        ("export/adhoc", {"query": {"agent": "x"}}),
        ("export/adhoc", {"query": {"text_query": "x"}}),
        ("verify/weekly", {"day": "2025-13-01"}),
        ("data-quality/monthly", {"month": "2025-13"}),
        ("reindex/adhoc", {"month": "2025-13"}),
        ("health/regular", {"disk_free_percent": 101}),
        ("alarm/adhoc", {"event_type": "Not One", "told": "x"}),
    ],
)
def test_the_server_refuses_parameters_before_a_run_exists(
    deployed: Server, name: str, parameters: dict[str, Any]
) -> None:
    deployment = deployed.deployments()[name]
    answer = httpx.post(
        f"{deployed.url}/deployments/{deployment['id']}/create_flow_run",
        json={"parameters": parameters, "enforce_parameter_schema": True},
    )
    assert answer.status_code in (409, 422), answer.text


def test_a_worker_exports_a_swarm_when_asked_to(
    deployed: Server,
    make_entry: Callable[..., AuditEntry],
    tmp_path: Path,
) -> None:
    hot = HotStore.connect(deployed.environment["AUDIT_REDIS_URL"])
    wanted, other = make_entry(swarm_id="wanted"), make_entry(swarm_id="other")
    hot.append_batch([Stamped(one, one.canonical_bytes()) for one in (wanted, other)])
    hot.close()
    output = tmp_path / "wanted.jsonl"
    parameters = {"swarm_id": "wanted", "output_path": str(output)}

    given = [part for name, value in parameters.items() for part in ("-p", f"{name}={value}")]
    deployed.run("deployment", "run", "export/adhoc", *given)
    told = deployed.run(
        "worker", "start", "--pool", "audit", "--run-once", "--name", "tests", cwd=tmp_path
    )

    assert output.exists(), told
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["entry_id"] for line in lines] == [wanted.entry_id]
    artifact = httpx.get(f"{deployed.url}/artifacts/export/latest").raise_for_status().json()
    assert json.loads(artifact["data"])[0]["entries"] == 1
