"""The job `alarm`: writes what an automation found into the trail itself, as a security event.

Run by the automations of `automations.py`, never by the clock. The event is in the spool when the
run ends, so it is not lost when Redis is what is wrong. It sends nothing: that is the
notification block's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.job_run import begun, job_run, name_run
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.errors import AuditError
from claude_max_audit.settings import Settings, load_settings

JOB = "alarm"

AGENT = "claude-audit"
"""Under this name the trail logs of itself."""

NAME_CHARACTERS = 80
"""Longest name of a run of this job."""


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def alarm(
    event_type: Annotated[str, Field(pattern="^[a-z_]{3,40}$")],
    told: str,
    severity: Literal["low", "medium", "high", "critical"] = "high",
    run: str = "",
) -> str:
    """Log a security event of this type; returns its citation.

    `told` says what was found, `run` is Prefect's resource id of the run that it is about.
    """
    settings = load_settings()
    with job_run(JOB, settings) as job:
        citation = _log(settings, event_type, told, severity, run)
        job.record(rows=1, details={"event": event_type, "told": told, "citation": citation})
        name_run(f"{event_type}: {told}"[:NAME_CHARACTERS])
        print(f"{event_type} ({severity}): {told} ({citation})")
    return citation


def _log(settings: Settings, event_type: str, told: str, severity: str, run: str) -> str:
    details = {"told": told, **({"run": run} if run else {})}
    auditor = ClaudeMaxAuditor(redis_url=_redis_url(settings))
    try:
        entry = auditor.sync.log_security_event(AGENT, event_type, severity, details)
    finally:
        # Killed here, or without Redis: the event is in the spool, for the next process.
        auditor.sync.close()
    return entry.citation


def _redis_url(settings: Settings) -> str:
    if settings.redis_url is not None:
        return settings.redis_url
    embedded = EmbeddedRedis(settings.redis_dir)
    try:
        embedded.start()
    except AuditError as failed:
        print(f"the event waits in the spool: {failed}")
    return embedded.url
