"""A Redis of the bench's own, holding made-up traffic, with every index.

Called by the benches of queries and of memory. Loading goes through the hot store itself, as the
writer's batches do; the server and its data are gone when the context ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit.hot.members import chunks_of
from claude_max_audit.hot.store import HotStore, Stamped

BATCH = 512
"""Entries of one batch: what the writer sends when it is busy."""


@contextmanager
def own_redis(folder: Path, executable: Path | None = None) -> Iterator[EmbeddedRedis]:
    """An empty server in `folder`, which is removed before and after."""
    shutil.rmtree(folder, ignore_errors=True)
    server = EmbeddedRedis(folder, executable=executable).start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def load(url: str, entries: Iterable[Stamped]) -> None:
    """Write the entries in batches; all are in Redis on return."""
    hot = HotStore.connect(url)
    for batch in chunks_of(entries, BATCH):
        hot.append_batch(batch)
    hot.close()
