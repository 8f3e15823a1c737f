"""The trail of one process: recorder, spool, writer and stores, put together.

Both faces of the auditor (asyncio and plain threads) stand on this one. Building a trail
never fails because a store is away; the spool and its thread begin with the first entry. A
forked child starts a new writer of its own and leaves its parent's entries to the parent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import perf_counter_ns, sleep
from typing import TypeVarTuple

from claude_max_audit.cold_tier import ColdTier, load_cold_tier
from claude_max_audit.entry import AuditEntry
from claude_max_audit.entry_id import EntryId
from claude_max_audit.errors import (
    AuditError,
    AuditorClosingError,
    FlushIncompleteError,
    RedisRefusedError,
    SpoolFullError,
)
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.hot.store import HotStore
from claude_max_audit.process_life import finish_with_multiprocessing, watch_over
from claude_max_audit.recorder import Made, Recorder, encode_canonical, new_writer_id
from claude_max_audit.settings import (
    EXIT_FLUSH_SECONDS,
    LAKE_BATCH,
    LAKE_LINGER_SECONDS,
    LINGER_SECONDS,
    MAX_BATCH,
    Settings,
)
from claude_max_audit.sink import HotSink, LakeSink, Sink
from claude_max_audit.spool.group_commit import GroupCommit
from claude_max_audit.spool.kept import LOSS_SECONDS
from claude_max_audit.spool.spool import Spool
from claude_max_audit.vocabulary import AuditEntryType, SecuritySeverity
from claude_max_audit.writer import Writer

Given = TypeVarTuple("Given")

_log = logging.getLogger("claude_max_audit")

STORAGE_BACKENDS = ("redis", "chromadb", "redis+chromadb")
DURABILITIES = ("process", "disk", "memory")
OVERFLOWS = ("block", "raise", "drop")
_STEP_BACK_SECONDS = 20e-6
"""A lock goes to whoever asks first when it is free. A caller that logs without a pause would
always be that one, and the writer's thread never."""

_LATENCY_SAMPLE = 16
"""One call in this many is timed for `avg_log_latency_ms`, so that timing costs nothing."""


class Trail:
    """Everything that one auditor owns in this process. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        hot: HotStore | None,
        *,
        storage_backend: str,
        batch_size: int,
        durability: str,
        overflow: str,
    ) -> None:
        self.settings = settings
        self.hot = hot
        self.storage_backend = storage_backend
        self.batch_size = batch_size
        self.durability = durability
        self.overflow = overflow
        self.degraded_by: AuditError | None = None
        self._opening = threading.Lock()
        self._cold: ColdTier | None = None
        self._spool: Spool | None = None
        self._writer: Writer | None = None
        self._group: GroupCommit | None = None
        self._recorder = Recorder("", settings.max_content_bytes)
        self._gap_first = 0
        self._latency_ns = 0
        self._latency_calls = 0
        self._begin_anew()
        if hot is not None:
            try:
                hot.ping()
            except AuditError as away:
                self._note_degraded(away)
        watch_over(self)

    @property
    def uses_cold_tier(self) -> bool:
        """Whether entries go on to the lake."""
        return "chromadb" in self.storage_backend

    @property
    def pending(self) -> int:
        """Entries accepted here that the store has not confirmed."""
        return self._spool.pending if self._spool is not None else 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """(accepted, written, spooled, dropped) of this process; the first is their sum."""
        spool = self._spool
        if spool is None:
            return 0, 0, 0, 0
        with spool.lock:
            tally = spool.tally()
        return tally.accepted, tally.written, tally.spooled, tally.dropped

    @property
    def mean_latency_ms(self) -> float:
        """Mean milliseconds of a `record` call, over a sample of all calls."""
        return self._latency_ns / self._latency_calls / 1e6 if self._latency_calls else 0.0

    def record(self, make: Callable[[Recorder, *Given], Made], *given: *Given) -> EntryId:
        """Check, number and keep one entry that `make` makes; in the spool on return.

        Raises `TypeError` or `ValueError` for what does not fit, and `SpoolFullError` when
        nothing more can be kept; nothing half-logged remains. With `overflow="drop"` a full
        spool counts the entry as dropped, and the next one that fits tells of the gap.
        """
        spool = self._spool or self._open()
        recorder = self._recorder
        started = 0 if recorder.last_seq % _LATENCY_SAMPLE else perf_counter_ns()
        with spool.lock:
            if spool is not self._spool:
                raise AuditorClosingError()
            recorder, writer = self._recorder, self._writer
            if self._gap_first:
                self._tell_gap(spool)
            entry_id, canonical = make(recorder, *given)
            try:
                spool.append(canonical)
            except SpoolFullError:
                if self.overflow != "drop":
                    recorder.take_back()
                    raise
                spool.dropped += 1
                self._gap_first = self._gap_first or recorder.last_seq
        if writer is not None and spool.appended >= writer.wake_at:
            writer.wake()
        if spool.waits_for_lock:
            sleep(_STEP_BACK_SECONDS)
        if started:
            self._latency_ns += perf_counter_ns() - started
            self._latency_calls += 1
            spool.timed = (self._latency_calls, self._latency_ns)
        return entry_id

    def commit_point(self) -> tuple[GroupCommit, int] | None:
        """Return what to wait for until the newest entry is on disk; None if nobody asked."""
        if self._group is None or self._spool is None:
            return None
        return self._group, self._spool.appended

    def flush(self, timeout: float | None = None) -> None:
        """Return when everything accepted so far is in the store.

        Raises `RedisRefusedError` or `FlushIncompleteError`, naming how many entries are safe
        in the spool, when a try fails or the timeout (seconds) passes.
        """
        spool, writer = self._spool, self._writer
        if spool is None or writer is None:
            return
        try:
            done = writer.wait_until_confirmed(spool.appended, timeout)
        except RedisRefusedError as refused:
            raise RedisRefusedError(refused.address, refused.reason, spool.pending) from refused
        except Exception as failed:
            raise FlushIncompleteError(spool.pending, str(failed)) from failed
        if not done:
            raise FlushIncompleteError(spool.pending, f"no answer within {timeout} seconds")

    def cold_tier(self, need: str) -> ColdTier:
        """Return the platform's side, opened once; raises `PlatformMissingError`."""
        with self._opening:
            if self._cold is None:
                self._cold = load_cold_tier(self.settings, need)
            return self._cold

    def close(self, timeout: float = EXIT_FLUSH_SECONDS) -> None:
        """Write what is accepted within `timeout` seconds, then stop; the rest stays spooled."""
        spool, writer, group = self._spool, self._writer, self._group
        if spool is None or writer is None:
            return
        try:
            writer.wait_until_confirmed(spool.appended, timeout)
        except Exception as failed:
            _log.warning("%d entries stay in the spool: %s", spool.pending, failed)
        writer.stop(timeout)
        if group is not None:
            group.stop()
        with spool.lock:
            self._spool = self._writer = self._group = None
        spool.close()

    @property
    def spool_lock(self) -> threading.Lock | None:
        """The lock that is held while an entry is appended; None before the first."""
        return self._spool.lock if self._spool is not None else None

    def start_over_in_child(self) -> None:
        """Let go of the parent's spool and begin a new writer (called after `fork`)."""
        if self._spool is not None:
            self._spool.abandon()
            self._spool.let_go_of_lock()
        self._opening = threading.Lock()
        self._cold = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._spool = self._writer = self._group = None
        fresh = FreshMessages() if self.hot is not None else None
        self._recorder = Recorder(new_writer_id(), self.settings.max_content_bytes, fresh)
        self._gap_first = 0
        self._latency_ns = 0
        self._latency_calls = 0

    def _open(self) -> Spool:
        """Make the spool and start the writer, once; raises `OSError` naming the folder."""
        with self._opening:
            if self._spool is not None:
                return self._spool
            if self._recorder.last_seq:
                self._begin_anew()  # Used again after `close`: a new writer, numbered from 1.
            try:
                spool = self._new_spool()
            except OSError:
                self._begin_anew()  # A folder half made keeps its name: the next try has its own.
                raise
            self._writer = Writer(
                spool, self._sink(), self.batch_size, self._note_degraded, self._tell_loss
            )
            self._group = GroupCommit(spool) if self.durability == "disk" else None
            self._writer.start()
            self._spool = spool
            finish_with_multiprocessing()
            return spool

    def _new_spool(self) -> Spool:
        settings, in_memory = self.settings, self.durability == "memory"
        # The lake keeps what it answered for; memory is too dear for a second copy.
        keep_seconds = 0.0 if self.hot is None else float(settings.keep_seconds)
        return Spool(
            settings.spool_dir,
            self._recorder.writer_id,
            durable=not in_memory,
            synced=self.durability == "disk",
            max_bytes=settings.queue_bytes if in_memory else settings.spool_bytes,
            keep_seconds=min(keep_seconds, LOSS_SECONDS) if in_memory else keep_seconds,
            keep_bytes=settings.keep_bytes,
        )

    def _sink(self) -> Sink:
        if self.hot is not None:
            batch = max(self.batch_size, MAX_BATCH)
            recorder = self._recorder
            return HotSink(
                self.hot, recorder.writer_id, batch, LINGER_SECONDS, fresh=recorder.fresh
            )
        return LakeSink(
            lambda: self.cold_tier("writing without Redis"), LAKE_BATCH, LAKE_LINGER_SECONDS
        )

    def _tell_gap(self, spool: Spool) -> None:
        """Put an entry into the trail that names the sequence numbers that were dropped."""
        gap = self._gap_entry(self._gap_first, self._recorder.last_seq, "the spool was full")
        try:
            spool.append(encode_canonical(gap))
        except SpoolFullError:
            self._recorder.take_back()
            return
        self._gap_first = 0

    def _tell_loss(self, first: int, last: int) -> None:
        """Say that Redis lost entries which are no longer here; the lake may have them."""
        spool = self._spool
        if spool is None:
            return
        _log.error(
            "Redis has lost entries %d to %d of writer %s, which are no longer in the spool",
            first,
            last,
            self._recorder.writer_id,
        )
        with spool.lock:
            try:
                spool.append(encode_canonical(self._gap_entry(first, last, "Redis lost them")))
            except SpoolFullError:
                self._recorder.take_back()

    def _gap_entry(self, first: int, last: int, reason: str) -> AuditEntry:
        details = {
            "writer_id": self._recorder.writer_id,
            "first_seq": first,
            "last_seq": last,
            "reason": reason,
        }
        return self._recorder.make(
            AuditEntryType.SECURITY_EVENT,
            "claude_max_audit",
            severity=SecuritySeverity.HIGH,
            metadata={"event_type": "audit_gap", "details": details},
        )

    def _note_degraded(self, failure: AuditError | None) -> None:
        """Remember whether the store answers, and say so once at each change."""
        before, self.degraded_by = self.degraded_by, failure
        if failure is not None and before is None:
            _log.warning("degraded: %s Entries are kept in the spool meanwhile.", failure)
        elif failure is None and before is not None:
            _log.warning("recovered: the store answers again")
