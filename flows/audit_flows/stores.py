"""Every store of the trail, as one job uses them: opened at first use, closed at the end.

Each flow opens its own from the settings of its process, so that a run in a worker and a run
from the command line see the same trail. Without a named Redis, the embedded one of the home
is found or started; it stays up for the next job.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from audit_flows.embedded_redis import EmbeddedRedis
from audit_storage.archive.quarantine import Quarantine
from audit_storage.jobs import JobTable
from audit_storage.lake.lake import Lake
from audit_storage.purge.receipts import ReceiptBook
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import LINGER_SECONDS, MAX_BATCH, Settings, load_settings
from claude_max_audit.sink import HotSink
from claude_max_audit.spool.adoption import adopt_dead_writers

if TYPE_CHECKING:
    from audit_storage.index.index import EntryIndex


NO_WRITER = ""
"""A job writes no entries of its own; it only carries those of others."""


class Stores:
    """The stores of some settings. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lake = Lake(settings)
        self.jobs = JobTable(settings)
        self.quarantine = Quarantine(settings)
        self.receipts = ReceiptBook(settings)
        self.carried = 0
        """Entries of processes that ended which opening `hot` brought to Redis."""
        self._open = ExitStack()

    @cached_property
    def hot(self) -> HotStore:
        """Redis: the named one, else the embedded one of the home.

        What processes that ended left in the spool of this machine is carried to it first.
        Raises `RedisUnavailableError` or `RedisRefusedError` when that could not be asked.
        """
        url = self.settings.redis_url
        if url is None:
            url = EmbeddedRedis(self.settings.redis_dir).start().url
        hot = HotStore.connect(
            url, hot_days=self.settings.hot_storage_days, keeps_until_archived=True
        )
        self._open.callback(hot.close)
        # Killed here, or cut off: what was not carried stays in the spool for the next process.
        sink = HotSink(hot, NO_WRITER, MAX_BATCH, LINGER_SECONDS)
        self.carried = adopt_dead_writers(self.settings.spool_dir, sink).carried
        return hot

    @cached_property
    def index(self) -> EntryIndex:
        """The index of words and meaning. It brings a model along, so most jobs never open it."""
        from audit_storage.index.index import EntryIndex

        index = EntryIndex.open(self.settings)
        self._open.callback(index.close)
        return index

    def close(self) -> None:
        """Close what was opened."""
        self._open.close()


@contextmanager
def open_stores(settings: Settings | None = None) -> Iterator[Stores]:
    """Open the stores of `settings`, or of this process's environment."""
    stores = Stores(settings or load_settings())
    try:
        yield stores
    finally:
        stores.close()
