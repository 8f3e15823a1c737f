"""The background writer: one daemon thread that carries the spool's entries to the store.

Entries go in order, in batches; a batch is confirmed only when the store has answered, and
is sent again until it has. The thread never blocks a caller and never drops an entry. Dead
processes' spools are adopted and carried first.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from time import monotonic

from claude_max_audit.errors import AuditError
from claude_max_audit.settings import BATCH_SIZE
from claude_max_audit.sink import Sink
from claude_max_audit.spool.adoption import adopt_dead_writers
from claude_max_audit.spool.spool import Spool

_log = logging.getLogger("claude_max_audit")

BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes in one batch, so that a few large contents do not make one huge command."""

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 5.0
"""Waits between tries double from the first to the last, with full jitter."""

HOUSEKEEPING_SECONDS = 1.0
"""How often an idle writer releases confirmed segments."""

ADOPTION_SECONDS = 30.0
"""How often the writer looks for spools of processes that died meanwhile."""


class Writer:
    """Drains one spool into one sink. Start it once; `stop` ends the thread."""

    def __init__(
        self,
        spool: Spool,
        sink: Sink,
        batch_size: int = BATCH_SIZE,
        on_degraded: Callable[[AuditError | None], None] | None = None,
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._batch_size = batch_size
        self._on_degraded = on_degraded or (lambda _: None)
        self._wake = threading.Event()
        self._full = threading.Event()
        self._asleep = False
        self._stopping = False
        self._progress = threading.Condition()
        self._failures = 0
        self._last_failure: BaseException | None = None
        self._adopted_at = 0.0
        self.adopted = 0
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)

    def start(self) -> None:
        """Begin to carry entries."""
        self._thread.start()

    def notice(self) -> None:
        """Tell the writer that an entry was appended. Costs two attribute reads when busy."""
        if self._asleep:
            self._wake.set()
        elif self._spool.pending >= self._batch_size and not self._full.is_set():
            self._full.set()

    def wait_until_confirmed(self, target: int, timeout: float | None = None) -> bool:
        """Wait until the store holds the first `target` entries.

        Raises the writer's failure if a try begun after this call fails; False on timeout.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self._progress:
            failures = self._failures
            self._wake.set()
            self._full.set()
            while self._spool.confirmed < target:
                if self._failures > failures and self._last_failure is not None:
                    raise self._last_failure
                left = None if deadline is None else deadline - monotonic()
                if (left is not None and left <= 0) or not self._thread.is_alive():
                    return False
                self._progress.wait(left if left is not None else HOUSEKEEPING_SECONDS)
        return True

    def stop(self, timeout: float) -> None:
        """End the thread after the batch in hand; what is not written stays in the spool."""
        self._stopping = True
        self._wake.set()
        self._full.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while not self._stopping:
            try:
                busy = self._carry_batch()
                self._adopt_now_and_then()
            except AuditError as failure:
                self._failed(failure)
                self._pause(random.uniform(0, retry))
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                continue
            except Exception as failure:
                # A fault of ours must not end the thread: entries are in the spool, the
                # next try reads them again, and the traceback is in the log.
                _log.exception("the audit writer failed and will try again")
                self._failed(failure)
                self._pause(LAST_RETRY_SECONDS)
                continue
            retry = FIRST_RETRY_SECONDS
            if not busy:
                self._spool.release()
                self._sleep()

    def _carry_batch(self) -> bool:
        """Send the next batch; False when there was nothing to send."""
        batch = self._spool.read(self._sink.best_batch, BATCH_BYTES)
        if not batch:
            return False
        try:
            self._sink.write(batch)
        except BaseException:
            # The store may or may not hold the batch: it is sent again, which changes nothing.
            self._spool.rewind()
            raise
        self._spool.confirm(len(batch))
        self._on_degraded(None)
        with self._progress:
            self._progress.notify_all()
        return True

    def _adopt_now_and_then(self) -> None:
        if monotonic() - self._adopted_at < ADOPTION_SECONDS and self._adopted_at:
            return
        self.adopted += adopt_dead_writers(self._spool.folder.parent, self._sink)
        self._adopted_at = monotonic()

    def _failed(self, failure: Exception) -> None:
        if isinstance(failure, AuditError):
            self._on_degraded(failure)
        with self._progress:
            self._failures += 1
            self._last_failure = failure
            self._progress.notify_all()

    def _pause(self, seconds: float) -> None:
        """Wait before the next try; a flush ends the wait."""
        self._wake.clear()
        if not self._stopping:
            self._wake.wait(seconds)

    def _sleep(self) -> None:
        """Wait for an entry, then a moment more for a full batch."""
        self._wake.clear()
        self._asleep = True
        if self._spool.pending == 0 and not self._stopping:
            self._wake.wait(HOUSEKEEPING_SECONDS)
        self._full.clear()
        self._asleep = False
        if 0 < self._spool.pending < self._batch_size and not self._stopping:
            self._full.wait(self._sink.linger_seconds)
