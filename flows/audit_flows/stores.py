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
from claude_max_audit.settings import Settings, load_settings

if TYPE_CHECKING:
    from audit_storage.index.index import EntryIndex


class Stores:
    """The stores of some settings. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lake = Lake(settings)
        self.jobs = JobTable(settings)
        self.quarantine = Quarantine(settings)
        self.receipts = ReceiptBook(settings)
        self._open = ExitStack()

    @cached_property
    def hot(self) -> HotStore:
        """Redis: the named one, else the embedded one of the home."""
        url = self.settings.redis_url
        if url is None:
            url = EmbeddedRedis(self.settings.redis_dir).start().url
        hot = HotStore.connect(
            url, hot_days=self.settings.hot_storage_days, keeps_until_archived=True
        )
        self._open.callback(hot.close)
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
