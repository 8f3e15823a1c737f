"""Group commit: many callers wait for one fdatasync, as databases do for their logs.

Used with `durability="disk"` only. A caller whose entry is appended asks to be told when it
is on the disk; the thread syncs once for all that asked meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from claude_max_audit.spool.spool import Spool


class GroupCommit:
    """A daemon thread that syncs one spool whenever somebody waits for it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._asked = threading.Condition()
        self._waiting: list[tuple[int, Callable[[BaseException | None], None]]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="audit-sync", daemon=True)
        self._thread.start()

    def when_on_disk(self, seq: int, tell: Callable[[BaseException | None], None]) -> None:
        """Call `tell` (from another thread) once entry `seq` is on the disk, or with why not."""
        with self._asked:
            self._waiting.append((seq, tell))
            self._asked.notify()

    def wait(self, seq: int) -> None:
        """Block until entry `seq` is on the disk; raises `OSError` when the disk fails.

        The entry is in the spool all the same, and goes on to the store.
        """
        done: Future[None] = Future()

        def tell(failure: BaseException | None) -> None:
            done.set_exception(failure) if failure else done.set_result(None)

        self.when_on_disk(seq, tell)
        done.result()

    def stop(self) -> None:
        """Serve whoever waits, then end."""
        with self._asked:
            self._stopping = True
            self._asked.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._asked:
                while not self._waiting and not self._stopping:
                    self._asked.wait()
                if not self._waiting:
                    return
                served, self._waiting = self._waiting, []
            self._spool.sync()
            for seq, tell in served:
                tell(self._spool.failure_of(seq))
