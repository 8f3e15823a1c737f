"""The background writer: one daemon thread that carries the spool's entries to the store.

Entries go in order, in batches, several of them in flight; a batch is confirmed only when the
store has answered, and is sent again until it has. The thread never blocks a caller and
never drops an entry. Dead processes' spools are adopted and carried too. When the store
shows that it lost what it had answered, all that is still here goes again.
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from claude_max_audit.errors import AuditError, RedisBehindError
from claude_max_audit.settings import BATCH_SIZE
from claude_max_audit.sink import Sink
from claude_max_audit.spool.adoption import adopt_dead_writers
from claude_max_audit.spool.kept import LOSS_SECONDS
from claude_max_audit.spool.spool import Spool

_log = logging.getLogger("claude_max_audit")

BATCH_BYTES = 1024 * 1024
"""Most bytes in one batch, so that a few large contents do not make one huge command."""

BREATH_SECONDS = 0.02
"""How long a batch that is not full waits for more once it may go: under a steady flow, fewer
and fuller batches cost Redis and this process less, and nobody waits for them."""

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 5.0
"""Waits between tries double from the first to the last, with full jitter."""

HOUSEKEEPING_SECONDS = 0.5
"""How often the writer tidies the spool, and while idle asks whether the store lost anything."""

ADOPTION_SECONDS = 30.0
"""How often the writer looks for spools of processes that died meanwhile."""

_STEP_SECONDS = 0.05
"""How often a writer that waits for its store looks after the spool meanwhile."""

_NEVER = 1 << 62


class Writer:
    """Drains one spool into one sink. Start it once; `stop` ends the thread.

    While it sleeps, `wake_at` is the number of appended entries at which it wants to be woken.
    """

    def __init__(
        self,
        spool: Spool,
        sink: Sink,
        batch_size: int = BATCH_SIZE,
        on_degraded: Callable[[AuditError | None], None] | None = None,
        on_lost: Callable[[int, int], None] | None = None,
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._batch_size = batch_size
        self._on_degraded = on_degraded or (lambda _: None)
        self._on_lost = on_lost or (lambda first, last: None)
        self._in_flight: deque[tuple[int, float, Callable[[], None]]] = deque()
        self._wake = threading.Event()
        self.wake_at = _NEVER
        self._stopping = False
        self._progress = threading.Condition()
        self._waiting = 0
        self._step_began = 0.0
        self._failed_try_began = -math.inf
        self._last_failure: BaseException | None = None
        self._tidied_at = 0.0
        self._adopt_at = 0.0
        self.adopted = 0
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)

    def start(self) -> None:
        """Begin to carry entries."""
        self._thread.start()

    def wake(self) -> None:
        """Tell the writer that the spool holds the entry `wake_at`, for which it sleeps."""
        if not self._wake.is_set():
            self._wake.set()

    def wait_until_confirmed(self, target: int, timeout: float | None = None) -> bool:
        """Wait until the store holds the first `target` entries.

        Raises the writer's failure if a try begun after this call fails; False on timeout.
        """
        called = monotonic()
        deadline = None if timeout is None else called + timeout
        with self._progress:
            self._waiting += 1
            try:
                self._wake.set()
                while self._spool.confirmed < target:
                    if self._failed_try_began >= called and self._last_failure is not None:
                        raise self._last_failure
                    left = None if deadline is None else deadline - monotonic()
                    if (left is not None and left <= 0) or not self._thread.is_alive():
                        return False
                    self._progress.wait(HOUSEKEEPING_SECONDS if left is None else left)
            finally:
                self._waiting -= 1
        return True

    def stop(self, timeout: float) -> None:
        """End the thread after the batches in hand; what is not written stays in the spool."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while not self._stopping or self._in_flight:
            self._step_began = monotonic()
            try:
                busy = self._carry()
                self._keep_house(idle=not busy)
            except Exception as failure:
                self._start_again(failure)
                self._pause(random.uniform(0, retry))
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                continue
            retry = FIRST_RETRY_SECONDS
            if not busy:
                self._rest()
        self._sink.give_up()

    def _carry(self) -> bool:
        """Send what is there, as far as it may be in flight; take one answer.

        False when there was nothing to do.
        """
        while self._may_send():
            batch = self._spool.read(self._sink.best_batch, BATCH_BYTES)
            if not batch:
                break
            self._in_flight.append((len(batch), self._step_began, self._sink.begin(batch)))
        if not self._in_flight:
            return False
        count, _, wait_for_answer = self._in_flight[0]
        wait_for_answer()
        self._in_flight.popleft()
        self._spool.confirm(count)
        self._spool.note_tally()
        self._on_degraded(None)
        with self._progress:
            self._progress.notify_all()
        return True

    def _may_send(self) -> bool:
        """Whether to send a batch: behind others only a full one, so that they stay few."""
        if not self._in_flight:
            return True
        if self._stopping or len(self._in_flight) >= self._sink.in_flight:
            return False
        if monotonic() >= self._adopt_at:
            return False  # Adoption speaks to the store in its own turn.
        return self._unread() >= self._sink.best_batch

    def _unread(self) -> int:
        return self._spool.pending - sum(count for count, _, _ in self._in_flight)

    def _keep_house(self, *, idle: bool) -> None:
        """Now and then: tidy the spool, look for losses and for dead writers."""
        now = monotonic()
        self._spool.prepare()
        if now - self._tidied_at >= HOUSEKEEPING_SECONDS:
            self._tidied_at = now
            self._spool.note_tally()
            if idle and self._spool.keeps:
                self._sink.check()
            self._spool.tidy()
        if now >= self._adopt_at and not self._in_flight:
            found = adopt_dead_writers(self._spool.folder.parent, self._sink)
            self.adopted += found.carried
            self._adopt_at = now + (LOSS_SECONDS if found.remains else ADOPTION_SECONDS)

    def _start_again(self, failure: Exception) -> None:
        """Go back to the first entry without an answer, or after a loss to the oldest.

        The store may or may not hold what was in flight: it is sent again, which changes
        nothing.
        """
        began = self._in_flight[0][1] if self._in_flight else self._step_began
        self._in_flight.clear()
        self._sink.give_up()
        if isinstance(failure, RedisBehindError):
            self._send_all_again(failure)
            return
        self._spool.rewind()
        if isinstance(failure, AuditError):
            self._on_degraded(failure)
        else:
            # A fault of ours must not end the thread: entries are in the spool, the next
            # try reads them again, and the traceback is in the log.
            _log.error("the audit writer failed and will try again", exc_info=failure)
        with self._progress:
            self._failed_try_began = began
            self._last_failure = failure
            self._progress.notify_all()

    def _send_all_again(self, loss: RedisBehindError) -> None:
        before = self._spool.confirmed
        oldest = self._spool.oldest_number()
        self._spool.rewind(to_oldest=True)
        _log.warning("%s %d go again.", loss, before - self._spool.confirmed)
        last_missing = loss.answered if oldest is None else oldest - 1
        if last_missing > loss.found:
            self._on_lost(loss.found + 1, last_missing)

    def _pause(self, seconds: float) -> None:
        """Wait before the next try; a flush ends the wait. Full segments leave the memory."""
        until = monotonic() + seconds
        self._wake.clear()
        while not self._stopping and not self._waiting and (left := until - monotonic()) > 0:
            self._wake.wait(min(left, _STEP_SECONDS))
            self._spool.note_tally()
            self._spool.prepare()
            with suppress(OSError):  # It comes again when the store answers, and is told then.
                self._spool.tidy(releasing=False)
            if self._wake.is_set():
                return

    def _rest(self) -> None:
        """Wait for an entry, then a moment for company, then a breath for a full batch."""
        self._sleep_until(1, HOUSEKEEPING_SECONDS)
        if self._spool.pending:
            self._sleep_until(self._batch_size, self._sink.linger_seconds)
            self._sleep_until(self._sink.best_batch, BREATH_SECONDS)

    def _sleep_until(self, pending: int, seconds: float) -> None:
        """Sleep until so many entries wait, somebody waits for them, or the time is over."""
        self._wake.clear()
        self.wake_at = self._spool.confirmed + pending
        if self._spool.pending < pending and not self._waiting and not self._stopping:
            self._wake.wait(seconds)
        self.wake_at = _NEVER
