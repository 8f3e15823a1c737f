"""Everything of ours that a Prefect server knows: the pool, the deployments, the automations.

`deploy` brings a server to it and may be run again: what is there is brought up to date, what
somebody added is left alone. The deployments are those of `prefect.yaml`, registered by Prefect's
own command, so that `prefect deploy --all` in a checkout does the very same. Called by
`claude-audit deploy`, which `up` runs; imports Prefect.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.variables import Variable

from audit_flows.automations import Thresholds, automations
from audit_flows.run_in_process import JOBS
from audit_flows.supervisor.parts_of_prefect import POOL
from claude_max_audit.errors import TerminalError

BLOCK_NAME = "audit-alarms"
"""The notification block, of whatever type, through which alarms are sent, if there is one."""

MARK_VARIABLE = "claude_audit_deployed"
"""Prefect variable that says which definition was registered last."""

_DEFINITION = Path(__file__).with_name("prefect.yaml")
_PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
_IN_CHECKOUT = Path(__file__).parents[2] / "prefect.yaml"


class DeployFailedError(TerminalError):
    """Prefect refused a deployment; the message is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What stands on the server now; `notify` is the block that alarms are sent through."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]
    notify: str | None


def prefect_file() -> Path:
    """Return the file that defines the deployments: the package's, or the checkout's own.

    The wheel carries the checkout's file, so there is one.
    """
    return _DEFINITION if _DEFINITION.exists() else _IN_CHECKOUT


def deploy(thresholds: Thresholds) -> Deployed:
    """Bring the server of `PREFECT_API_URL` up to date.

    Raises `DeployFailedError` with what the server said, or that it did not answer.
    """
    try:
        return _deploy(thresholds)
    except httpx.HTTPError as failed:
        raise DeployFailedError(f"the server did not take it: {failed}") from failed


def _deploy(thresholds: Thresholds) -> Deployed:
    with get_client(sync_client=True) as client:
        _make_pool(client)
        if not _is_deployed(client):
            _deploy_all()
            Variable.set(MARK_VARIABLE, _mark(), overwrite=True)
        block = _block(client)
        names = _automate(client, thresholds, block)
        flows = {flow.id: flow.name for flow in client.read_flows()}
        there = sorted(f"{flows[one.flow_id]}/{one.name}" for one in client.read_deployments())
    return Deployed(
        deployments=tuple(there), automations=names, notify=None if block is None else block[1]
    )


def _make_pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return  # Perhaps of another type, for Docker or Kubernetes: that is for its owner to say.


def _is_deployed(client: SyncPrefectClient) -> bool:
    """Say whether this very definition was registered, and none of it was deleted since.

    So what somebody paused in the UI stays paused until the definition changes.
    """
    deployed = {one.flow_id for one in client.read_deployments()}
    jobs = {flow.name for flow in client.read_flows() if flow.id in deployed}
    return set(JOBS) <= jobs and Variable.get(MARK_VARIABLE) == _mark()


def _mark() -> str:
    """Return what changes with the definition, and with the flows whose parameters it offers."""
    told = hashlib.sha256(prefect_file().read_bytes())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        told.update(source.read_bytes())
    return told.hexdigest()


def _deploy_all() -> None:
    # In an empty folder: the command looks for a checkout's files in the one where it runs.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*_PREFECT, "deploy", "--all", "--prefect-file", str(prefect_file())],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode:
        raise DeployFailedError(done.stdout.strip())


def _block(client: SyncPrefectClient) -> tuple[str, str] | None:
    """Return the id of the alarms' block and how people call it; None without one."""
    for one in client.read_block_documents():
        if one.name == BLOCK_NAME and one.block_type is not None:
            return str(one.id), f"{one.block_type.slug}/{one.name}"
    return None


def _automate(
    client: SyncPrefectClient, thresholds: Thresholds, block: tuple[str, str] | None
) -> tuple[str, ...]:
    """Make each automation, or bring one of its name up to date where its definition differs."""
    try:
        alarm = client.read_deployment_by_name("alarm/adhoc").id
    except ObjectNotFound as missing:
        raise DeployFailedError(f"the deployment alarm/adhoc is missing: {missing}") from None
    there = {one.name: one for one in client.read_automations()}
    wanted = automations(thresholds, alarm, None if block is None else block[0])
    for one in wanted:
        old = there.get(one.name)
        if old is None:
            client.create_automation(one)
        elif old.description != one.description:
            # The description ends with the definition's mark; what is the same keeps its count.
            client.update_automation(old.id, one)
    return tuple(one.name for one in wanted)
