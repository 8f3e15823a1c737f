"""Prefect, kept at home: its database, settings and logs live under `Settings.prefect_dir`.

`prefect_environment` is for every Prefect process of this trail: the server, the worker, the
one that runs a flow by itself. Nothing is sent anywhere: analytics, telemetry and the
promotional parts of the UI are off. Imports no Prefect, so that it can be called before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from claude_max_audit.settings import Settings

API_URL_VARIABLE = "PREFECT_API_URL"
"""Prefect's own variable: set, it names the server that takes the runs instead of ours."""

_SILENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def prefect_environment(settings: Settings) -> dict[str, str]:
    """Return the variables under which a Prefect process works for this trail."""
    return {**_SILENT, "PREFECT_HOME": str(settings.prefect_dir)}


def audit_environment(settings: Settings) -> dict[str, str]:
    """Return the `AUDIT_` variables from which `load_settings` makes the same settings."""
    return settings.as_environment()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let this process have the variables while the context is open, and put them back."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
