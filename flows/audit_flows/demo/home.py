"""The folder of a demonstration: its own Redis, lake, index and Prefect, and nobody else's.

It is made anew for each run, so it bears a mark, and a folder without the mark is never touched.
Whatever `AUDIT_` and Prefect variables say, a demonstration uses this folder alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.ephemeral_api import EphemeralApi
from audit_flows.prefect_home import API_URL_VARIABLE, environment, prefect_environment
from audit_flows.terminal import Terminal
from audit_flows.workplace import Workplace
from claude_max_audit.settings import ENVIRONMENT, Settings, load_settings

MARK = ".made-by-claude-audit-demo"

_KEPT = ("embedder", "model_dir")
"""Settings of the machine, not of a trail: which model there is."""


def make_home(home: Path) -> Settings:
    """Return the settings of an empty demonstration in `home`.

    Raises `FileExistsError` for a folder that no demonstration made.
    """
    settings = _settings_of(home)
    if home.exists() and any(home.iterdir()):
        if not (home / MARK).exists():
            raise FileExistsError(
                f"{home} is not a demo's folder and is left alone; name another one with --home"
            )
        EmbeddedRedis(settings.redis_dir).stop()
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARK).touch()
    return settings


@contextmanager
def open_home(settings: Settings, terminal: Terminal) -> Iterator[Workplace]:
    """Start Redis and Prefect's API; when the context closes, nothing of it runs any more."""
    named = {name: os.environ.get(name) for name in (API_URL_VARIABLE, *ENVIRONMENT.values())}
    for name in named:
        os.environ.pop(name, None)
    try:
        with (
            _prefect(settings),
            EmbeddedRedis(settings.redis_dir) as redis,
            Workplace(replace(settings, redis_url=redis.url), terminal) as place,
        ):
            yield place
    finally:
        for name in named:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in named.items() if value is not None})


@contextmanager
def _prefect(settings: Settings) -> Iterator[None]:
    """One API for all jobs of the demonstration; each alone would start its own."""
    settings.prefect_dir.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **prefect_environment(settings)}
    with (
        EphemeralApi(settings.prefect_dir, variables) as api,
        environment({API_URL_VARIABLE: api.url()}),
    ):
        yield


def _settings_of(home: Path) -> Settings:
    variables = {
        ENVIRONMENT[name]: value
        for name in _KEPT
        if (value := os.environ.get(ENVIRONMENT[name])) is not None
    }
    return load_settings(environ=variables, home=home.absolute())
