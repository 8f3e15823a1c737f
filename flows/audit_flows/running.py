"""What runs for a home now, and how much room it takes: for `claude-audit status`. Reads only."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from audit_flows.supervisor.answers import answers, ask
from audit_flows.supervisor.parts_of_prefect import worker_is_online
from audit_flows.supervisor.standing import Standing, standing
from claude_max_audit.settings import Settings


def what_runs(settings: Settings) -> dict[str, Any]:
    """Return what `up` keeps running here, and which runs wait, work or are late; empty: nothing.

    A server that does not answer is told as such, never raised.
    """
    up = standing(settings.home)
    return {} if up is None else {**_told(up), **_runs(up)}


def concerns_about(running: dict[str, Any]) -> list[str]:
    """Return what of it asks somebody to look."""
    if not running:
        return []
    concerns = []
    if not running["server"]:
        concerns.append("the Prefect server does not answer; `up` starts it again by itself")
    elif not running["worker"]:
        concerns.append("no worker is online: runs wait")
    if late := running.get("late", 0):
        concerns.append(f"{late} runs of jobs are late")
    return concerns


def sizes(settings: Settings) -> dict[str, int]:
    """Return the bytes of each folder of the home; the lake's are told by its own log."""
    folders = {
        "redis": settings.redis_dir,
        "index": settings.chroma,
        "exports": settings.exports,
        "prefect": settings.prefect_dir,
    }
    return {name: _bytes_of(folder) for name, folder in folders.items() if folder.is_dir()}


def _told(up: Standing) -> dict[str, Any]:
    told = asdict(up)
    told["since"] = up.since.isoformat(timespec="seconds")
    return {**told, "server": answers(f"{up.api_url}/health")}


def _runs(up: Standing) -> dict[str, Any]:
    def count(state: str) -> int:
        asked = {"flow_runs": {"state": {"name": {"any_": [state]}}}}
        return int(ask(f"{up.api_url}/flow_runs/count", asked) or 0)

    return {
        "worker": worker_is_online(up.api_url),
        "running": count("Running"),
        "late": count("Late"),
    }


def _bytes_of(folder: Path) -> int:
    """Return what the files of a folder take, but for those that vanish while we look."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
