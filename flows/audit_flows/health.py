"""The job `health`: looks at what the trail lives on, and says what somebody should look at.

Every quarter of an hour. It emits an event for each concern, on which the automations act; its
artifact is the newest figures beside their limits. It changes no store, and a Redis that is away
does not fail it: that is what it is there to tell. Disks and the spool are those of the machine
on which it runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import Artifact, create_table_artifact
from prefect.events import emit_event
from pydantic import Field

from audit_flows.amounts import count, size
from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.health_figures import (
    disks_of,
    first_run,
    last_success,
    redis_memory,
    spooled_entries,
)
from audit_flows.job_run import JobRun, begun, name_run, publish_overview
from audit_storage.jobs import JobTable
from claude_max_audit.settings import Settings, load_settings

JOB = "health"

EVERY_MINUTES = 15
"""How often it runs, as its schedule says; the overview is made anew by the first of an hour."""

ARCHIVE_LATE_HOURS = 26.0
"""A night's archive may take two hours longer than the last one before it counts as late."""

DISK_FREE_PERCENT = 10.0
"""Below this a disk counts as nearly full: compaction and a day's archive still fit."""

REDIS_MEMORY_PERCENT = 85.0
"""Above this Redis counts as nearly full; at its end it refuses every write."""

SPOOL_ENTRIES = 10_000
"""Fewer that wait are an ordinary moment: ten seconds at a thousand a second."""

Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, slots=True)
class Concern:
    """What somebody should look at. `alarm` names the automation that acts on it."""

    alarm: str
    what: str
    told: str


@dataclass(frozen=True, slots=True)
class Look:
    """One figure beside its limit, as the artifact shows it; `number` is for the next look."""

    what: str
    found: str
    limit: str
    number: float
    concern: Concern | None

    def row(self) -> dict[str, str | float]:
        """Return the row of the artifact."""
        verdict = "LOOK" if self.concern else "well"
        return {
            "what": self.what,
            "found": self.found,
            "limit": self.limit,
            "verdict": verdict,
            "number": self.number,
        }


@flow(name=JOB, flow_run_name=begun, log_prints=True)
def health(
    archive_late_hours: Annotated[float, Field(ge=0)] = ARCHIVE_LATE_HOURS,
    disk_free_percent: Percent = DISK_FREE_PERCENT,
    redis_memory_percent: Percent = REDIS_MEMORY_PERCENT,
    spool_entries: Annotated[int, Field(ge=1)] = SPOOL_ENTRIES,
) -> tuple[Concern, ...]:
    """Measure, publish the figures, and emit an event for each concern; returns these."""
    settings, now = load_settings(), datetime.now(UTC)
    looks = [
        _archive(settings, archive_late_hours, now),
        *_disks(settings, disk_free_percent),
        _redis(settings, redis_memory_percent),
        _spool(settings, spool_entries),
    ]
    create_table_artifact(
        key=JOB,
        table=[look.row() for look in looks],
        description=f"The trail's machine at {now:%Y-%m-%d %H:%M} UTC.",
    )
    if now.minute < EVERY_MINUTES:
        # A night without its archive must be seen though no job has run since.
        publish_overview(settings)
    concerns = tuple(look.concern for look in looks if look.concern is not None)
    for concern in concerns:
        _emit(concern)
    name_run("; ".join(sorted({one.alarm.replace("_", " ") for one in concerns})) or "all well")
    return concerns


def _archive(settings: Settings, late_hours: float, now: datetime) -> Look:
    """A trail that was never archived is late when so long has gone by since its first run."""
    jobs = JobTable(settings)
    archived = last_success(jobs, "daily-archive")
    since = archived or first_run(jobs)
    if since is None:
        # So that the time runs from somewhere: the next look finds this row.
        JobRun(JOB, jobs).record(details={"found": "the trail is looked after from now on"})
        since = now
    age = now - since
    limit = timedelta(hours=late_hours)
    last = f"the last one ended {archived:%Y-%m-%d %H:%M} UTC" if archived else "there was none yet"
    told = f"no archive for {age / timedelta(hours=1):.1f} hours: {last}"
    late = Concern("archive_late", "audit.archive", told) if age > limit else None
    return Look("last archive", last, f"{late_hours:g} h ago", age.total_seconds(), late)


def _disks(settings: Settings, least_percent: float) -> list[Look]:
    looks = []
    for disk in disks_of(settings):
        told = f"{size(disk.free)} of {size(disk.total)} are free on the disk of {disk.folder}"
        full = disk.free_percent < least_percent
        concern = Concern("disk_nearly_full", f"audit.disk.{disk.folder}", told) if full else None
        found = f"{size(disk.free)} free ({disk.free_percent:.1f} %)"
        limit = f"{least_percent:g} % free"
        looks.append(Look(f"disk of {disk.folder}", found, limit, disk.free, concern))
    return looks


def _redis(settings: Settings, most_percent: float) -> Look:
    url = settings.redis_url or EmbeddedRedis(settings.redis_dir).url
    memory = redis_memory(url)
    limit = f"{most_percent:g} %"
    if memory is None:
        return Look("Redis' memory", "does not answer", limit, 0, None)
    found = f"{size(memory.used)} of {size(memory.limit)} ({memory.percent:.1f} %)"
    full = memory.percent > most_percent
    concern = Concern("redis_nearly_full", "audit.redis", f"Redis uses {found}") if full else None
    return Look("Redis' memory", found, limit, memory.used, concern)


def _spool(settings: Settings, most: int) -> Look:
    """A spool grows when more wait than at the last look, and more than an ordinary moment's."""
    waiting, before = spooled_entries(settings.spool_dir), _number_before("spool")
    told = f"{count(waiting)} entries wait in the spool, {count(int(before))} at the last look"
    grows = waiting >= most and waiting > before
    concern = Concern("spool_growing", "audit.spool", told) if grows else None
    return Look("spool", f"{count(waiting)} entries wait", f"{count(most)}", waiting, concern)


def _number_before(what: str) -> float:
    """Return a figure of the last look, from its artifact; 0 where there was none."""
    last: Any = Artifact.get(JOB)
    rows: list[dict[str, Any]] = json.loads(str(last.data)) if last is not None else []
    return next((float(row["number"]) for row in rows if row["what"] == what), 0.0)


def _emit(concern: Concern) -> None:
    print(f"{concern.alarm}: {concern.told}")
    emit_event(
        event=f"audit.health.{concern.alarm}",
        resource={"prefect.resource.id": concern.what, "prefect.resource.name": concern.what},
        payload={"told": concern.told},
    )
