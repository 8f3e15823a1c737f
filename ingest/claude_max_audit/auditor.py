"""The auditor: what an agent's process talks to.

`log_*` checks its arguments, keeps the entry in the spool and returns its id; a background
thread carries it to Redis. Whatever waits for a network or a disk runs aside, never on the
caller's event loop. `ClaudeMaxAuditor` is the face for asyncio, `auditor.sync` the same
calls for plain threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple, cast

from claude_max_audit.entry_id import EntryId
from claude_max_audit.errors import SpoolFullError
from claude_max_audit.hot.address import open_hot_store
from claude_max_audit.recorder import Recorder
from claude_max_audit.settings import (
    BATCH_SIZE,
    COLD_STORAGE_YEARS,
    HOT_STORAGE_DAYS,
    load_settings,
)
from claude_max_audit.sync_auditor import FULL_PAUSE_SECONDS, SyncAuditor
from claude_max_audit.trail import DURABILITIES, OVERFLOWS, STORAGE_BACKENDS, Trail
from claude_max_audit.vocabulary import MessageType, Retention

P = ParamSpec("P")
T = TypeVar("T")
Given = TypeVarTuple("Given")

_ASIDE_THREADS = 4
"""Threads for calls that wait for a store: enough for a dashboard beside an export."""


def _logs(
    call: Callable[Concatenate[SyncAuditor, P], EntryId],
) -> Callable[Concatenate[ClaudeMaxAuditor, P], Coroutine[Any, Any, EntryId]]:
    """Make the asyncio form of a `log_*`: no thread, no lock held across an await."""

    @wraps(call)
    async def log(self: ClaudeMaxAuditor, *args: P.args, **kwargs: P.kwargs) -> EntryId:
        while True:
            try:
                entry_id = call(self._at_once, *args, **kwargs)
                break
            except SpoolFullError:
                if self._trail.overflow != "block":
                    raise
                await asyncio.sleep(FULL_PAUSE_SECONDS)
        if not self._returns_at_once:
            await self._on_disk()
        return entry_id

    return cast("Callable[Concatenate[ClaudeMaxAuditor, P], Coroutine[Any, Any, EntryId]]", log)


def _asks(
    call: Callable[Concatenate[SyncAuditor, P], T],
) -> Callable[Concatenate[ClaudeMaxAuditor, P], Coroutine[Any, Any, T]]:
    """Make the asyncio form of a call that waits for a store: it runs in a thread aside."""

    @wraps(call)
    async def ask(self: ClaudeMaxAuditor, *args: P.args, **kwargs: P.kwargs) -> T:
        work = partial(call, self.sync, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    return cast("Callable[Concatenate[ClaudeMaxAuditor, P], Coroutine[Any, Any, T]]", ask)


class _AtOnce(SyncAuditor):
    """The same `log_*` without any waiting: the event loop does that its own way."""

    def __init__(self, trail: Trail) -> None:
        super().__init__(trail)
        self._keep = trail.record  # type: ignore[method-assign]


class BatchQueue:
    """What `auditor.batch_queue` is: the entries accepted but not yet in the store, counted."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def __len__(self) -> int:
        """Return how many accepted entries the store has not confirmed."""
        return self._trail.pending


class ClaudeMaxAuditor:
    """The audit trail of this process, for asyncio. Safe under any loop, thread and fork.

    Building one never fails because Redis is away: it warns, `degraded` is true, entries are
    kept in the spool, and it recovers by itself.
    """

    def __init__(
        self,
        redis_client: Any = None,
        redis_host: str = "localhost",
        redis_port: int = 6379,
        redis_db: int = 0,
        storage_backend: str = "redis+chromadb",
        chromadb_path: str | Path | None = None,
        batch_size: int = BATCH_SIZE,
        hot_storage_days: int = HOT_STORAGE_DAYS,
        cold_storage_years: int = COLD_STORAGE_YEARS,
        *,
        redis_url: str | None = None,
        home: str | Path | None = None,
        lake_uri: str | None = None,
        lake_options: Mapping[str, str] | None = None,
        spool_dir: str | Path | None = None,
        durability: str = "process",
        overflow: str = "block",
        spool_bytes: int | None = None,
        queue_bytes: int | None = None,
        max_content_bytes: int | None = None,
    ) -> None:
        """Set the trail up; nothing is written before the first entry.

        `durability`: `process` survives `kill -9`, `disk` returns after fdatasync, `memory`
        may lose the queue in a crash. `overflow` rules a full spool: `block`, `raise` or
        `drop`. What is not given comes from the environment (`AUDIT_*`), then from the
        defaults. Raises `ValueError` or `TypeError` for a value that cannot be.
        """
        _one_of("storage_backend", storage_backend, STORAGE_BACKENDS)
        _one_of("durability", durability, DURABILITIES)
        _one_of("overflow", overflow, OVERFLOWS)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number above 0, got {batch_size!r}")
        settings = load_settings(
            home=home,
            redis_url=redis_url,
            lake_uri=lake_uri,
            lake_options=lake_options,
            chroma=chromadb_path,
            spool_dir=spool_dir,
            spool_bytes=spool_bytes,
            queue_bytes=queue_bytes,
            max_content_bytes=max_content_bytes,
            hot_storage_days=None if hot_storage_days == HOT_STORAGE_DAYS else hot_storage_days,
            cold_storage_years=None
            if cold_storage_years == COLD_STORAGE_YEARS
            else cold_storage_years,
        )
        hot = None
        if "redis" in storage_backend:
            hot = open_hot_store(
                settings,
                redis_client,
                (redis_host, redis_port, redis_db),
                keeps_until_archived="chromadb" in storage_backend,
            )
        self._trail = Trail(
            settings,
            hot,
            storage_backend=storage_backend,
            batch_size=batch_size,
            durability=durability,
            overflow=overflow,
        )
        self._returns_at_once = durability != "disk"
        self._at_once = _AtOnce(self._trail)
        self.sync = SyncAuditor(self._trail)
        self.batch_queue = BatchQueue(self._trail)

    @property
    def degraded(self) -> bool:
        """Whether the store does not answer, so that entries wait in the spool."""
        return self._trail.degraded_by is not None

    async def log_message(
        self,
        from_agent: str,
        to_agent: str | None,
        message_type: MessageType | str = MessageType.INFORM,
        content: str | None = None,
        swarm_id: str | None = None,
        from_swarm: str | None = None,
        to_swarm: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        retention: Retention | str | None = None,
        timestamp: datetime | None = None,
        parent_id: str | None = None,
        session_id: str | None = None,
    ) -> EntryId:
        """Log what one agent told another; `to_agent` None is a message to nobody in particular.

        Between two different swarms the entry gets both and `metadata["cross_swarm"]`.
        """
        if retention is None and timestamp is None and parent_id is None and self._returns_at_once:
            # What `_log_message` does too, without the calls between: this is the most frequent
            # call of all.
            envelope = (
                from_agent, to_agent, message_type, swarm_id, from_swarm, to_swarm, session_id,
            )  # fmt: skip
            try:
                return self._trail.record(Recorder.made_message, envelope, content, metadata)
            except SpoolFullError:
                pass  # It waits for room, or says so, the long way.
        return await self._log_message(
            from_agent, to_agent, message_type, content, swarm_id, from_swarm, to_swarm,
            metadata, retention, timestamp, parent_id, session_id,
        )  # fmt: skip

    _log_message = _logs(SyncAuditor.log_message)
    log_context_access = _logs(SyncAuditor.log_context_access)
    log_decision = _logs(SyncAuditor.log_decision)
    log_security_event = _logs(SyncAuditor.log_security_event)
    log_performance_metric = _logs(SyncAuditor.log_performance_metric)
    record = _logs(SyncAuditor.record)

    search_logs = _asks(SyncAuditor.search_logs)
    export_audit_trail = _asks(SyncAuditor.export_audit_trail)
    get_metrics = _asks(SyncAuditor.get_metrics)
    generate_citation = _asks(SyncAuditor.generate_citation)
    archive_old_entries = _asks(SyncAuditor.archive_old_entries)
    cleanup_expired_entries = _asks(SyncAuditor.cleanup_expired_entries)
    flush_all = _asks(SyncAuditor.flush_all)
    aclose = _asks(SyncAuditor.close)

    async def __aenter__(self) -> ClaudeMaxAuditor:
        """Return the auditor itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Close: what is accepted is written, or safe in the spool."""
        await self.aclose()

    @property
    def _aside(self) -> ThreadPoolExecutor:
        """The threads for waiting calls, made at first use and anew in a forked child."""
        return _threads_aside()

    async def _on_disk(self) -> None:
        """Wait for the group commit that covers the newest entry."""
        commit = self._trail.commit_point()
        if commit is None:
            return
        group, seq = commit
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(failure: BaseException | None) -> None:
            if done.cancelled():
                return
            done.set_exception(failure) if failure else done.set_result(None)

        def tell(failure: BaseException | None) -> None:
            loop.call_soon_threadsafe(settle, failure)

        group.when_on_disk(seq, tell)
        await done


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r} is unknown; known are {', '.join(known)}")


_making = threading.Lock()
_aside_pool: tuple[int, ThreadPoolExecutor] | None = None
_shared: ClaudeMaxAuditor | None = None


def _threads_aside() -> ThreadPoolExecutor:
    global _aside_pool
    with _making:
        if _aside_pool is None or _aside_pool[0] != os.getpid():
            pool = ThreadPoolExecutor(_ASIDE_THREADS, thread_name_prefix="audit-aside")
            _aside_pool = (os.getpid(), pool)
        return _aside_pool[1]


def get_auditor() -> ClaudeMaxAuditor:
    """Return this process's auditor, made from the environment at the first call."""
    global _shared
    with _making:
        if _shared is None:
            _shared = ClaudeMaxAuditor()
        return _shared
