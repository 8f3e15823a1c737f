"""What Prefect watches by itself, and does then: end dead runs, tell people, write to the trail.

Each automation sends a message through the notification block, if there is one, and runs the job
`alarm`, which logs a security event. Nothing here measures anything: the job `health` does, and
emits an event for what somebody should look at. Only runs of our own jobs are ever touched.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification

from audit_flows.run_in_process import JOBS

DEAD_AFTER_SECONDS = 150
"""Silence after which a run counts as dead: five of its signs of life. A process that computes
still gives them, since they come from a thread of their own."""

LEAST_DEAD_AFTER_SECONDS = 40
"""Less would end healthy runs: a sign of life comes every 30 s."""

SILENT_MINUTES = 45
"""Time in which at least one health check must end: three are due in it."""

REMIND_HOURS = 6
"""What stays wrong is told again after so long, and not with every health check."""

_COMPLETED = "prefect.flow-run.Completed"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_SIGNS_OF_LIFE_OR_END = {
    _HEARTBEAT,
    *(f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")),
    # A step that waits for its next try, or a run that a person paused, is not dead.
    *(f"prefect.flow-run.{state}" for state in ("Paused", "Suspended", "AwaitingRetry")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When an automation fires. Those of disk, memory and spool are the job `health`'s."""

    dead_after_seconds: int = DEAD_AFTER_SECONDS
    silent_seconds: int = SILENT_MINUTES * 60
    remind_seconds: int = REMIND_HOURS * 3600


@dataclass(frozen=True, slots=True)
class _Alarm:
    """What is told when it fires. `told` and `run` are templates of Prefect's (Jinja)."""

    event_type: str
    severity: str
    why: str
    told: str
    run: str = ""


def automations(
    thresholds: Thresholds, alarm_deployment: UUID, block: str | None
) -> list[AutomationCore]:
    """Return all of them, for a server where `alarm_deployment` is the job `alarm`.

    `block` is the id of the notification block, or None: then nothing is sent anywhere.
    """

    def made(alarm: _Alarm, trigger: EventTrigger) -> AutomationCore:
        actions: list[Any] = [_log(alarm, alarm_deployment)]
        if block is not None:
            actions.append(_notification(alarm, block))
        return _marked(alarm.event_type.replace("_", " "), alarm.why, trigger, actions)

    return [
        made(_ARCHIVE_LATE, _told_by_health("archive_late", thresholds)),
        made(_QUALITY_FAILED, _ended("Failed", "data-quality")),
        made(_JOB_FAILED, _ended("Failed", *sorted(set(JOBS) - {"data-quality", "alarm"}))),
        # Two, because a short run's sign of life may be heard after its end: then there is
        # nothing to end, and nobody must be told.
        _marked(_RUN_SILENT, _WHY_SILENT, _silent_run(thresholds), [_CRASH]),
        made(_RUN_DEAD, _ended("Crashed", *sorted(set(JOBS) - {"alarm"}))),
        made(_HEALTH_SILENT, _silent(thresholds)),
        made(_DISK, _told_by_health("disk_nearly_full", thresholds)),
        made(_REDIS, _told_by_health("redis_nearly_full", thresholds)),
        made(_SPOOL, _told_by_health("spool_growing", thresholds)),
    ]


_PAYLOAD = "{{ event.payload.told }}"
_RUN_NAME = "{{ flow.name }}: {{ flow_run.name }}"
_RUN_ID = "{{ event.resource.id }}"

_ARCHIVE_LATE = _Alarm(
    "archive_late", "high", "No archive has succeeded for 26 hours.", _PAYLOAD
)
_QUALITY_FAILED = _Alarm(
    "quality_failed",
    "high",
    "A day of the lake did not pass its checks.",
    "{{ flow_run.name }}: {{ flow_run.state.message }}",
    _RUN_ID,
)
_JOB_FAILED = _Alarm(
    "job_failed", "high", "A job of the trail failed.", _RUN_NAME, _RUN_ID
)
_RUN_SILENT = "run silent"
_WHY_SILENT = (
    "A run gives no sign of life: its process is gone, or its machine. It is ended as Crashed, so "
    "that the next one need not wait for it. One that has ended already is left as it is."
)
_RUN_DEAD = _Alarm(
    "run_dead",
    "medium",
    "A run's process is gone, or its machine. The next run takes up what it left.",
    "{{ flow.name }}: {{ flow_run.name }}: {{ flow_run.state.message }}",
    _RUN_ID,
)
_HEALTH_SILENT = _Alarm(
    "health_silent",
    "high",
    "No health check has ended for 45 minutes: no worker runs, or nothing did while the machine "
    "was off.",
    "no health check has ended in time; is there a worker?",
)
_DISK = _Alarm("disk_nearly_full", "critical", "A disk of the trail is nearly full.", _PAYLOAD)
_REDIS = _Alarm("redis_nearly_full", "critical", "Redis is near its memory's end.", _PAYLOAD)
_SPOOL = _Alarm(
    "spool_growing", "high", "More and more entries wait for Redis in the spool.", _PAYLOAD
)

_CRASH = ChangeFlowRunState(
    name=None,
    state=StateType.CRASHED,
    message="No sign of life: the run's process or its machine is gone.",
    force=False,
)


def _told_by_health(alarm: str, thresholds: Thresholds) -> EventTrigger:
    """Fire when the health check says so, and again only after a while."""
    return EventTrigger(
        expect={f"audit.health.{alarm}"},
        match={"prefect.resource.id": "audit.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(seconds=thresholds.remind_seconds),
    )


def _ended(state: str, *jobs: str) -> EventTrigger:
    """Fire for a run of a deployment. Of a command, somebody waits and sees it end."""
    return EventTrigger(
        expect={f"prefect.flow-run.{state}"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=[_of_flows(*jobs), {"prefect.resource.role": "deployment"}],
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _silent_run(thresholds: Thresholds) -> EventTrigger:
    """Fire for a run whose last sign of life is too long ago. Each one starts the wait anew."""
    return EventTrigger(
        after={_HEARTBEAT},
        expect=_SIGNS_OF_LIFE_OR_END,
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=_of_flows(*sorted(JOBS)),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=thresholds.dead_after_seconds),
    )


def _silent(thresholds: Thresholds) -> EventTrigger:
    return EventTrigger(
        expect={_COMPLETED},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=_of_flows("health"),
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=thresholds.silent_seconds),
    )


def _of_flows(*names: str) -> dict[str, Any]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": list(names)}


def _log(alarm: _Alarm, deployment: UUID) -> RunDeployment:
    parameters = {
        "event_type": alarm.event_type,
        "severity": alarm.severity,
        "told": alarm.told,
        "run": alarm.run,
    }
    return RunDeployment(
        source="selected", deployment_id=deployment, parameters=parameters, job_variables=None
    )


def _notification(alarm: _Alarm, block: str) -> SendNotification:
    return SendNotification(
        block_document_id=UUID(block),
        subject=f"audit trail: {alarm.event_type.replace('_', ' ')} ({alarm.severity})",
        body=f"{alarm.told}\n\n{alarm.why}",
    )


def _marked(
    name: str, why: str, trigger: EventTrigger, actions: list[Any]
) -> AutomationCore:
    """Return the automation; the mark at its description's end changes with its definition."""
    drawn = AutomationCore(
        name=f"audit: {name}",
        description=why,
        trigger=trigger,
        actions=actions,
    )
    # Validated anew from all its values: Prefect's update sends only what was set by hand. It
    # refuses an owner, which is not ours to name.
    values = drawn.model_dump(mode="json", exclude={"owner_resource"})
    values["description"] = f"{why} [{_mark(values)}]"
    return AutomationCore.model_validate(values)


def _mark(values: dict[str, Any]) -> str:
    """Return a short hash of a definition, the same in every process: its sets have no order."""
    sets = {name: sorted(values["trigger"][name]) for name in ("after", "expect", "for_each")}
    trigger = {**values["trigger"], **sets}
    text = json.dumps({**values, "trigger": trigger}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
