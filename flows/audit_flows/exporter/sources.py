"""Where the figures are read: each store as a source that is asked at every scrape.

Nothing here writes, starts a server or creates a table, and no source reads entries: counts come
from Redis' sorted sets, from the lake's log and from the writers' own tallies, so that a
scrape costs the same whatever the trail's size. A source raises when its store is away.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Protocol

from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.exporter.figures import Sample
from audit_flows.exporter.tally_book import TallyBook
from audit_storage.archive.archive import pending_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.jobs import JobState, JobTable
from audit_storage.lake.lake import Lake
from audit_storage.layout import local_folder, span_of_day
from claude_max_audit.dashboard import ALERT_WINDOW
from claude_max_audit.errors import RedisRefusedError, RedisUnavailableError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import parse_query
from claude_max_audit.settings import Settings
from claude_max_audit.spool.survey import rejected_segments, survey_tallies
from claude_max_audit.vocabulary import SecuritySeverity


class Source(Protocol):
    """One thing that is asked."""

    @property
    def store(self) -> str | None:
        """The label of its `up`; None: it has none."""

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Read and give the samples; raises when the store is away."""


def sources_of(settings: Settings) -> list[Source]:
    """Return every source of the trail; nothing is opened yet."""
    redis, lake, quarantine = RedisSource(settings), Lake(settings), Quarantine(settings)
    return [
        redis,
        LakeSource(lake),
        QuarantineSource(quarantine),
        BacklogSource(redis, lake, quarantine),
        JobsSource(JobTable(settings)),
        SpoolSource(settings.spool_dir),
        DiskSource(settings),
    ]


class RedisSource:
    """What Redis holds, and how the server stands. Never starts an embedded one."""

    store = "redis"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def answering(self) -> HotStore:
        """Return the store; raises when an embedded server should answer and does not run."""
        if self._settings.redis_url is None:
            embedded = EmbeddedRedis(self._settings.redis_dir)
            if not embedded.running():
                raise RedisUnavailableError(embedded.url, "the embedded server is not running")
        return self._hot

    @cached_property
    def _hot(self) -> HotStore:
        url = self._settings.redis_url or EmbeddedRedis(self._settings.redis_dir).url
        # A reader whose clock stands still finds nothing due, so it never takes expired ids
        # out of the indexes, which would be writing: others do, at the latest the archive.
        return HotStore.connect(
            url, hot_days=self._settings.hot_storage_days, clock=lambda: 0.0
        )

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give the counts, the rate, the alerts and the server's memory."""
        hot = self.answering()
        figures = hot.figures(now)
        yield Sample("hot_entries", figures.entries)
        yield Sample("hot_days", figures.days)
        yield Sample("active_agents", figures.active_agents)
        yield Sample("cross_swarm_messages", figures.cross_swarm_messages)
        yield Sample("entries_per_second", figures.entries_last_minute / 60)
        critical = parse_query({"severity": SecuritySeverity.CRITICAL}, (now - ALERT_WINDOW, now))
        yield Sample("critical_alerts", hot.count(critical))
        try:
            server = hot.server()
        except RedisRefusedError:
            return  # A user without INFO still sees everything above.
        yield Sample("redis_memory_bytes", server.memory_bytes)
        yield Sample("redis_memory_max_bytes", server.max_memory_bytes)


class LakeSource:
    """The lake by its log."""

    store = "lake"

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give entries, bytes and files of the newest version."""
        view = self._lake.view()
        yield Sample("cold_entries", view.count())
        yield Sample("lake_bytes", sum(file.bytes for file in view.files))
        yield Sample("lake_files", len(view.files))


class QuarantineSource:
    """The table of what did not fit."""

    store = "quarantine"

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give the number of entries in it."""
        yield Sample("quarantined_entries", self._quarantine.count())


class BacklogSource:
    """Closed days that wait for the archive; needs Redis, lake and quarantine together."""

    store = None

    def __init__(self, redis: RedisSource, lake: Lake, quarantine: Quarantine) -> None:
        self._redis = redis
        self._lake = lake
        self._quarantine = quarantine

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give their number and how long the oldest has waited."""
        waiting = pending_days(self._lake, self._redis.answering(), self._quarantine, now)
        waited = now - span_of_day(waiting[0]).end if waiting else timedelta()
        yield Sample("days_not_archived", len(waiting))
        yield Sample("oldest_day_not_archived_seconds", waited.total_seconds())


class JobsSource:
    """The lake's table of jobs, read again only when a run has added to it."""

    store = "jobs"

    def __init__(self, jobs: JobTable) -> None:
        self._jobs = jobs
        self._version = -1
        self._states: Sequence[JobState] = ()

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give how each job's newest run ended, and when it last succeeded."""
        version = self._jobs.version()
        if version != self._version:
            self._states, self._version = self._jobs.states(), version
        for state in self._states:
            flow = (state.job,)
            ended = state.ended_at.timestamp()
            yield Sample("job_last_run_timestamp_seconds", ended, flow)
            yield Sample("job_last_run_succeeded", float(state.succeeded), flow)
            if state.succeeded_at is not None:
                at = state.succeeded_at.timestamp()
                yield Sample("job_last_success_timestamp_seconds", at, flow)
                yield Sample("job_last_success_age_seconds", now.timestamp() - at, flow)


class SpoolSource:
    """The spool folder of this machine, by its writers' tallies."""

    store = "spool"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._book = TallyBook()

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give what became of the calls, and what lies there."""
        folders = survey_tallies(self._directory)
        total = self._book.total({writer: one.tally for writer, one in folders.items()})
        yield Sample("accepted_entries_total", total.accepted)
        yield Sample("written_entries_total", total.written)
        yield Sample("dropped_entries_total", total.dropped)
        yield Sample("log_call_seconds", (total.timed, total.timed_ns / 1e9))
        yield Sample("spooled_entries", sum(one.tally.spooled for one in folders.values()))
        yield Sample("spool_bytes", sum(one.bytes for one in folders.values()))
        yield Sample("spool_writers", len(folders))
        yield Sample("spool_rejected_segments", len(rejected_segments(self._directory)))


class DiskSource:
    """The disks under the home, the spool and, where it is on this machine, the lake."""

    store = None

    def __init__(self, settings: Settings) -> None:
        self._places = {"home": settings.home, "spool": settings.spool_dir}
        if (lake := local_folder(settings.lake_uri)) is not None:
            self._places["lake"] = Path(lake)

    def samples(self, now: datetime) -> Iterator[Sample]:
        """Give the size and the free bytes of each."""
        for place, folder in self._places.items():
            there = next(path for path in (folder, *folder.parents) if path.exists())
            disk = shutil.disk_usage(there)
            yield Sample("disk_free_bytes", disk.free, (place,))
            yield Sample("disk_size_bytes", disk.total, (place,))
