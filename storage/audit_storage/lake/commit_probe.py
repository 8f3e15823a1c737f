"""Tries an object store before it gets its first table: are two commits of one version refused?

A commit is a file that may be created only once. Stores that do not know this condition ignore it
and let the second writer replace the first one's commit, which nobody would notice. So several
writers create one small table at once, beside the lake's own; only one may become its version 0.
`DeltaLog.create_once` asks; a table that exists was asked for by whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow as pa
import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.fs import DeltaStorageHandler

from audit_storage.layout import probe_table
from claude_max_audit.errors import LakeUnavailableError, LakeUnsafeError

WRITERS = 4
"""Writers at once: enough for two of them to be past their look at the log before the first
one's commit, few enough to be a matter of some sixty requests."""

ROUNDS = 8
"""Times to try again when everybody saw the first one's commit before trying to make theirs."""

_PROVEN: set[tuple[str, frozenset[tuple[str, str]]]] = set()
"""Lakes, with the options by which they were reached, that this process has tried."""

_SCHEMA = pa.schema([pa.field("nothing", pa.int64())])


def prove_store(table_uri: str, options: Mapping[str, str]) -> None:
    """Return when the store was seen to refuse a second commit of one version.

    Raises `LakeUnsafeError` when it took two, `LakeUnavailableError` when neither was seen, and
    what the store itself raises. Leaves nothing behind unless it is killed.
    """
    lake = (table_uri.rpartition("/")[0], frozenset(options.items()))
    if lake in _PROVEN:
        return
    for _ in range(ROUNDS):
        uri = probe_table(table_uri)
        try:
            made = _race(uri, options)
        finally:
            _remove(uri, options)
        if made.count(0) > 1:
            raise LakeUnsafeError(
                table_uri, f"{made.count(0)} writers at once made the same version of a table"
            )
        if any(version != 0 for version in made):
            _PROVEN.add(lake)
            return
    raise LakeUnavailableError(
        table_uri, f"in {ROUNDS} tries it was not seen whether it refuses a second commit"
    )


def _race(uri: str, options: Mapping[str, str]) -> list[int]:
    """Let writers create one table; return the version that each made, -1 for who was refused."""
    start = Barrier(WRITERS)

    def create(_: int) -> int | None:
        start.wait()
        try:
            table = DeltaTable.create(uri, _SCHEMA, storage_options=dict(options))
        except CommitFailedError:
            return -1  # The store itself refused, and the log then had a version 0.
        except DeltaError as failed:
            if "already exists" not in str(failed):
                raise
            return None  # Came so late that the log had a version 0 already: tells nothing.
        return int(table.version())

    with ThreadPoolExecutor(WRITERS) as writers:
        return [one for one in writers.map(create, range(WRITERS)) if one is not None]


def _remove(uri: str, options: Mapping[str, str]) -> None:
    folder = pa_fs.PyFileSystem(DeltaStorageHandler(uri, dict(options)))
    for info in folder.get_file_info(pa_fs.FileSelector("_delta_log", allow_not_found=True)):
        folder.delete_file(info.path)
