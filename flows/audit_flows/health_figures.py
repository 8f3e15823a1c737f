"""What the job `health` measures of one machine: disks, Redis' memory, the spool, the last archive.

Reads only. A figure that cannot be had is None, and the reason is told: Redis that is away is
seen by the spool that grows.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import redis

from audit_flows.job_run import SUCCEEDED
from audit_storage.jobs import JobTable
from audit_storage.layout import local_folder
from claude_max_audit.settings import CONNECT_TIMEOUT_SECONDS, Settings
from claude_max_audit.spool.folder import writer_folders
from claude_max_audit.spool.tally import tally_of

ALL_RECORDS = 1_000_000
"""Rows of the job table that are looked through: all of them."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that holds a part of the trail. Sizes are bytes."""

    folder: Path
    free: int
    total: int

    @property
    def free_percent(self) -> float:
        """Free space that this user may fill, as a part of the whole."""
        return 100 * self.free / self.total


@dataclass(frozen=True, slots=True)
class RedisMemory:
    """Bytes that Redis uses, and the most that it may; without `maxmemory` the machine's."""

    used: int
    limit: int

    @property
    def percent(self) -> float:
        """Part of the limit that is used; 0 where there is none to know."""
        return 100 * self.used / self.limit if self.limit else 0.0


def disks_of(settings: Settings) -> list[Disk]:
    """Return each disk that a part of the trail lies on, once."""
    lake = local_folder(settings.lake_uri)
    folders = [settings.home, settings.spool_dir, settings.chroma, settings.exports]
    folders += [Path(lake)] if lake else []
    by_device: dict[int, Path] = {}
    for folder in folders:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        by_device.setdefault(there.stat().st_dev, there)
    usages = [(folder, shutil.disk_usage(folder)) for folder in by_device.values()]
    # `free` is what is left for this user: file systems keep a part back for root.
    return [Disk(folder, usage.free, usage.used + usage.free) for folder, usage in usages]


def redis_memory(url: str) -> RedisMemory | None:
    """Ask Redis; None when it does not answer."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_SECONDS) as client:
            told = client.info("memory")
    except (redis.RedisError, OSError):
        return None
    limit = int(told.get("maxmemory") or 0) or int(told.get("total_system_memory") or 0)
    return RedisMemory(int(told["used_memory"]), limit)


def spooled_entries(spool: Path) -> int:
    """Return how many entries of this machine Redis has not answered for, as writers noted it."""
    total = 0
    for folder in writer_folders(spool):
        try:
            total += max(tally_of(folder).spooled, 0)
        except FileNotFoundError:  # released meanwhile: Redis has them
            continue
    return total


def last_success(jobs: JobTable, job: str) -> datetime | None:
    """Return when the newest run of a job that succeeded had ended."""
    ended = [
        one.ended_at for one in jobs.history(job, ALL_RECORDS) if one.result == SUCCEEDED
    ]
    return max(ended, default=None)


def first_run(jobs: JobTable) -> datetime | None:
    """Return when the first run of any job began: since then the trail is looked after."""
    began = [one.started_at for one in jobs.history(limit=ALL_RECORDS)]
    return min(began, default=None)
