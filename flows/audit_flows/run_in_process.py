"""Runs one flow here and now, with the same history as a scheduled run and no server to set up.

`claude-audit archive`, `purge`, `export` and `quality` call `run_flow`, and so do the tests. The
run, its log and its artifact are kept in the Prefect database of the home, where the UI shows
them. Prefect is imported here and not before, under the home's own environment.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from importlib import import_module
from pathlib import Path
from typing import Any

from audit_flows.ephemeral_api import EphemeralApi, PrefectApiError
from audit_flows.prefect_home import (
    API_URL_VARIABLE,
    audit_environment,
    environment,
    prefect_environment,
)
from audit_flows.supervisor.standing import standing
from claude_max_audit.settings import Settings

JOBS: dict[str, str] = {
    "daily-archive": "audit_flows.daily_archive.daily_archive",
    "retention-purge": "audit_flows.retention_purge.retention_purge",
    "data-quality": "audit_flows.data_quality.data_quality",
    "export": "audit_flows.export_job.export_job",
    "reindex": "audit_flows.reindex.reindex",
    "verify": "audit_flows.verify_job.verify_job",
    "health": "audit_flows.health.health",
    "alarm": "audit_flows.alarm.alarm",
}
"""Job to flow. The job's name is the flow's name, its artifact's key and its rows' `job`."""

# The caller prints the result and the error itself; everything else is in the run's log.
_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}

Told = Callable[[str], None]
Counted = Callable[[int, int | None], None]


def run_flow(
    job: str,
    settings: Settings,
    *,
    on_line: Told | None = None,
    on_progress: Counted | None = None,
    patient: bool = False,
    **parameters: Any,
) -> Any:
    """Run a job of `JOBS` to its end and return what its flow returns.

    `on_line` is told each line that the flow prints, `on_progress` how much of how much is done,
    where the flow counts. A `patient` run tries again after what may
    pass by itself, for minutes, as a scheduled one does. Raises `ValueError` for parameters that do
    not fit, before a run exists, `PrefectApiError` when Prefect does not start, and what the
    flow raises.
    """
    module, _, name = JOBS[job].rpartition(".")
    settings.prefect_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(environment(audit_environment(settings)))
        stack.enter_context(environment({**prefect_environment(settings), **_QUIET}))
        waiting = _start_api(settings, stack)
        flow = getattr(import_module(module), name)
        arguments = _checked(flow, parameters)
        stack.enter_context(_prefect_at(waiting()))
        stack.enter_context(_listening(on_line))
        stack.enter_context(_watched(not patient, on_progress))
        return flow(**arguments)


def _start_api(settings: Settings, stack: ExitStack) -> Callable[[], str]:
    """Start the API beside us, if none is named or up here; returns what waits for its URL."""
    up = standing(settings.home)
    named = os.environ.get(API_URL_VARIABLE) or (up.api_url if up and up.ready else None)
    if named:
        return lambda: named
    api = EphemeralApi(settings.prefect_dir, dict(os.environ))
    return stack.enter_context(api).url


def _checked(flow: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters in the flow's types, as the server does for a deployment."""
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError

    try:
        checked: dict[str, Any] = flow.validate_parameters(parameters)
    except SignatureMismatchError as wrong:
        raise ValueError(str(wrong)) from None
    except ParameterTypeError as wrong:
        raise ValueError(_plainly(str(wrong))) from None
    return checked


def _plainly(message: str) -> str:
    """Return the lines of Prefect's message, one a parameter, without its headline."""
    wrong = [line.removeprefix(" - ") for line in message.splitlines() if line.startswith(" - ")]
    return "\n".join(wrong).replace(": Value error, ", ": ") or message


@contextmanager
def _prefect_at(api_url: str) -> Iterator[None]:
    """Give Prefect, in this context only, the environment as it is now and this API."""
    from prefect.context import use_profile
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, Profile

    # A heartbeat tells a server that a run is alive when its worker may not be; nobody waits
    # for that here, and stopping it costs a second.
    chosen = {PREFECT_API_URL: api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    profile = Profile(name="claude-max-audit", settings=chosen)
    with use_profile(profile, override_environment_variables=True, include_current_context=False):
        _ask(api_url)
        try:
            yield
        finally:
            # Logs and events are sent by threads of Prefect's: wait until the API has them.
            APILogWorker.drain_all()
            EventsWorker.drain_all()


def _ask(api_url: str) -> None:
    """Raise `PrefectApiError` if the API does not answer, before a run is tried."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
    if failure is not None:
        raise PrefectApiError(
            f"Prefect's API at {api_url} does not answer ({failure}). Start it, or unset "
            f"{API_URL_VARIABLE}: then each command has one of its own"
        )


@contextmanager
def _watched(watched: bool, counted: Counted | None) -> Iterator[None]:
    from audit_flows.job_run import is_watched, on_progress

    before = is_watched.set(watched), on_progress.set(counted)
    try:
        yield
    finally:
        is_watched.reset(before[0])
        on_progress.reset(before[1])


@contextmanager
def _listening(on_line: Told | None) -> Iterator[None]:
    """Pass on what flows and their tasks print, and keep the rest off the caller's own log."""
    handler = _Lines(on_line or (lambda _: None))
    loggers = [logging.getLogger(f"prefect.{runs}") for runs in ("flow_runs", "task_runs")]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, before in zip(loggers, propagated, strict=True):
            logger.removeHandler(handler)
            logger.propagate = before


class _Lines(logging.Handler):
    """Takes what our flows print, and no line of Prefect's own about states."""

    def __init__(self, on_line: Told) -> None:
        super().__init__(logging.INFO)
        self._on_line = on_line

    def emit(self, record: logging.LogRecord) -> None:
        if Path(record.pathname).parent == _OUR_FLOWS:
            # In an empty context there is no run, so a `print` in `on_line` is no line of it.
            Context().run(self._on_line, record.getMessage())


_OUR_FLOWS = Path(__file__).parent
