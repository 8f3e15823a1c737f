"""Every figure of the trail that Prometheus is offered: name, kind, help and labels.

The one list that the endpoint, the documentation, the dashboard and the alert rules are held to.
Names follow Prometheus' conventions: base units, `_total` for what only grows. Labels have a
few fixed values; no agent, swarm, session or writer ever becomes one. Touches nothing.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["gauge", "counter", "summary"]

PREFIX: Final = "claude_audit_"


class Figure(NamedTuple):
    """What a figure is. A counter starts anew with the endpoint's process."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One value of a figure, by its name without the prefix. A summary's is (count, sum)."""

    name: str
    value: float | tuple[float, float]
    labels: tuple[str, ...] = ()


_IN_REDIS = {
    "hot_entries": Figure("gauge", "Entries in Redis."),
    "hot_days": Figure("gauge", "UTC days of which Redis has entries."),
    "active_agents": Figure("gauge", "Agents that sent something in the hot days."),
    "cross_swarm_messages": Figure("gauge", "Messages between two swarms, in Redis."),
    "entries_per_second": Figure("gauge", "Entries of the last minute, per second."),
    "critical_alerts": Figure("gauge", "Critical security events of the last hour."),
    "redis_memory_bytes": Figure("gauge", "Memory that the Redis server uses."),
    "redis_memory_max_bytes": Figure(
        "gauge", "Most memory that the Redis server may use; 0: no limit of its own."
    ),
}

_IN_THE_LAKE = {
    "cold_entries": Figure("gauge", "Entries in the lake."),
    "lake_bytes": Figure("gauge", "Bytes of the lake's Parquet files."),
    "lake_files": Figure("gauge", "Parquet files of the lake."),
    "quarantined_entries": Figure("gauge", "Entries in quarantine because they did not fit."),
}

_IN_THE_ARCHIVE_S_WAY = {
    "days_not_archived": Figure("gauge", "Closed UTC days that the lake lacks in part."),
    "oldest_day_not_archived_seconds": Figure(
        "gauge", "Time since the oldest of these days ended; 0 where there is none."
    ),
}

_OF_JOBS = {
    "job_last_run_timestamp_seconds": Figure(
        "gauge", "When the flow's newest run ended (Unix time).", ("flow",)
    ),
    "job_last_run_succeeded": Figure(
        "gauge", "Whether the flow's newest run succeeded: 1 or 0.", ("flow",)
    ),
    "job_last_success_timestamp_seconds": Figure(
        "gauge", "When the flow's last successful run ended (Unix time).", ("flow",)
    ),
    "job_last_success_age_seconds": Figure(
        "gauge", "Time since the flow's last successful run ended.", ("flow",)
    ),
}

_IN_THE_SPOOL = {
    "accepted_entries_total": Figure("counter", "Calls of this machine that were accepted."),
    "written_entries_total": Figure("counter", "Of these, entries that are in the store."),
    "dropped_entries_total": Figure(
        "counter", 'Of these, entries dropped because a spool was full and overflow="drop".'
    ),
    "log_call_seconds": Figure("summary", "How long log calls took, of a sample of all calls."),
    "spooled_entries": Figure("gauge", "Entries in the spool that the store has not confirmed."),
    "spool_bytes": Figure("gauge", "Bytes of the spool's segments, reserved ones included."),
    "spool_writers": Figure("gauge", "Writers that have a folder in the spool."),
    "spool_rejected_segments": Figure(
        "gauge", "Spool segments that could not be read and were set aside."
    ),
}

_OF_THE_MACHINE = {
    "disk_free_bytes": Figure("gauge", "Free bytes of the disk that holds it.", ("place",)),
    "disk_size_bytes": Figure("gauge", "Size of the disk that holds it.", ("place",)),
}

_OF_THE_SCRAPE = {
    "up": Figure("gauge", "Whether the store answered this scrape: 1 or 0.", ("store",)),
    "scrape_seconds": Figure("gauge", "How long it took to ask every store."),
    "build_info": Figure("gauge", "Always 1; the version stands in the label.", ("version",)),
}

FIGURES: Final[dict[str, Figure]] = (
    _OF_THE_SCRAPE
    | _IN_REDIS
    | _IN_THE_LAKE
    | _IN_THE_ARCHIVE_S_WAY
    | _OF_JOBS
    | _IN_THE_SPOOL
    | _OF_THE_MACHINE
)
"""Figure by its name without the prefix."""
