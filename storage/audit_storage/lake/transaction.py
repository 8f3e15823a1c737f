"""One commit to the lake: rows staged as files that nobody sees, then published all at once.

The order is read, stage, commit, read back. Everything that decides what is written is read from
`view`, the version that the commit builds on; if another writer with the same application id
came first, the commit is refused and nothing is published. What was staged is deleted when there
is surely no commit of it; after a crash or in doubt, files that no log names wait for a vacuum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from audit_storage.lake.delta_log import (
    DeltaLog,
    DeltaTable,
    OvertakenError,
    answering,
    remove_action,
)
from audit_storage.lake.part import (
    COMPRESSION_LEVEL,
    PACKED_LEVEL,
    ROW_GROUP_ROWS,
    LakePart,
    sorted_run,
)
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.schema import FILE_SCHEMA, as_frame, to_table
from audit_storage.lake.view import LakeView
from audit_storage.layout import month_of, snapshot_name
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import LakeUnavailableError

RUN_ROWS = 65_536
"""Rows sorted together, four row groups: a day of that size is one fully sorted run. Some three
times that many are in memory: those that wait, those being sorted and written."""

RUN_BYTES = 128 * 1024 * 1024
"""Bytes after which a run ends early, so that long contents do not fill the memory."""

PART_ROWS = 1_000_000
"""Rows after which a new file begins: some 150 MB, small enough to rewrite for a purge."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one commit brought to the lake: rows, files and bytes added, and its version."""

    name: str
    version: int
    rows: int
    files: int
    bytes: int
    paths: tuple[str, ...]


class LakeTransaction:
    """Rows on their way into the lake under one application id. A context: leaving it without
    a commit discards what was staged."""

    def __init__(self, log: DeltaLog, table: DeltaTable, view: LakeView, app: str) -> None:
        self.view = view
        self.app = app
        with answering(log.uri):
            self.app_version = (table.transaction_version(app) or 0) + 1
        self.rows = 0
        self._run_rows, self._run_bytes = RUN_ROWS, RUN_BYTES
        self._content_level = COMPRESSION_LEVEL
        self._log = log
        self._table = table
        self._filesystem = log.filesystem()
        self._waiting: dict[str, list[pa.Table]] = {}
        self._parts: list[LakePart] = []
        self._open: dict[str, LakePart] = {}
        self._removed: list[LakeFile] = []
        self._sums: dict[LakePart, list[bytes]] = {}
        self._fences: list[str] = []
        self._attempted = False
        # Sorting and compressing leave Python's lock, so the next run is made meanwhile.
        self._background = ThreadPoolExecutor(1, thread_name_prefix="lake-part")
        self._writing: Future[None] | None = None

    @property
    def snapshot(self) -> str:
        """The name that each row of this commit carries."""
        return snapshot_name(self.app, self.app_version)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._background.shutdown()
        if not self._attempted:
            self._discard()

    def add(self, entries: Sequence[AuditEntry]) -> None:
        """Stage entries (each with its `entry_hash`); files are written run by run."""
        months: dict[str, list[AuditEntry]] = {}
        for entry in entries:
            months.setdefault(month_of(entry.timestamp), []).append(entry)
        for month, of_month in months.items():
            self.add_rows(month, to_table(of_month, self.snapshot))

    def add_rows(self, month: str, rows: pa.Table) -> None:
        """Stage rows of `FILE_SCHEMA` as they are, all of one month."""
        waiting = self._waiting.setdefault(month, [])
        waiting.append(rows)
        self.rows += rows.num_rows
        if (
            sum(table.num_rows for table in waiting) >= self._run_rows
            or sum(table.nbytes for table in waiting) >= self._run_bytes
        ):
            self._write_run(month)

    def pack(self, rows: int, size: int) -> None:
        """Let runs grow to so many rows or bytes, and compress harder: for a commit that has the
        memory and the time, because its files are kept for years."""
        self._run_rows, self._run_bytes = rows, size
        self._content_level = PACKED_LEVEL

    def end_run(self, month: str, at_least: int) -> None:
        """Write what waits for a month as one sorted run, if it has `at_least` rows."""
        if sum(rows.num_rows for rows in self._waiting.get(month, ())) >= at_least:
            self._write_run(month)

    def end_file(self, month: str) -> None:
        """Finish a month's file, so that what is added next goes into one of its own."""
        if month in self._waiting:
            self._write_run(month)
        self._await_run()
        if month in self._open:
            self._finish_part(month)

    def remove_file(self, file: LakeFile) -> None:
        """Stage a file's removal; its rows leave with the commit, its bytes with a vacuum."""
        self._removed.append(file)

    def refuse_after(self, app: str) -> None:
        """Let the commit be refused if another application commits meanwhile, as if it were our
        own; what that application decides is read after this call."""
        self._fences.append(app)

    def read_rows(self, file: LakeFile) -> Iterable[pa.Table]:
        """Give a file's rows, one row group at a time, for a commit that replaces it."""
        return self._rows_at(file.path)

    def _rows_at(self, path: str) -> Iterator[pa.Table]:
        with answering(self._log.uri), self._filesystem.open_input_file(path) as source:
            parquet = pq.ParquetFile(source)
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group).cast(FILE_SCHEMA)

    def commit(
        self, metadata: Mapping[str, Any] | None = None, *, data_change: bool = True
    ) -> Snapshot:
        """Publish everything staged as one version. Durable on return.

        Raises `OvertakenError` when another commit of this application id, or one that removed
        a file to be removed here, came first; nothing is published then.
        """
        self._end_files()
        # Killed here: the files are on disk, no log names them, the next run starts afresh.
        actions = [part.add_action(data_change=data_change) for part in self._parts]
        removals = [
            remove_action(file.path, file.month, data_change=data_change)
            for file in self._removed
        ]
        # From here on nobody deletes the files: a commit that seems to have failed may stand in
        # the log all the same. If it does not, a vacuum takes them a day later.
        self._attempted = True
        try:
            version = self._log.commit(
                self._table,
                [*actions, *removals],
                app=self.app,
                app_version=self.app_version,
                fences=self._fences,
                metadata={"snapshot": self.snapshot, "rows": self.rows, **(metadata or {})},
            )
        except OvertakenError as overtaken:
            # Refused for a conflict, before anything was written: that one is certain.
            self._attempted = not overtaken.is_conflict
            raise
        # Killed here: the rows are in the lake; the next run finds them and writes nothing.
        return Snapshot(
            name=self.snapshot,
            version=version,
            rows=self.rows,
            files=len(self._parts),
            bytes=sum(part.bytes for part in self._parts),
            paths=tuple(part.path for part in self._parts),
        )

    def prove(self) -> None:
        """Read the staged files back, before a commit that puts them in others' place.

        Raises `LakeUnavailableError` when they are not the rows that were staged, or not as
        many as are to be removed.
        """
        self._end_files()
        replaced = sum(file.rows for file in self._removed)
        if self.rows != replaced:
            reason = f"{self.rows} rows were read of the {replaced} that are to be replaced"
            raise LakeUnavailableError(self._log.uri, reason)
        self._compare()

    def verify(self, committed: LakeView) -> None:
        """Read the published rows back and compare every column of every row.

        `committed` must be a view read from the storage after the commit. Raises
        `LakeUnavailableError` when a file is missing or one row differs from what was staged.
        """
        listed = {file.path: file for file in committed.files}
        for part in self._parts:
            file = listed.get(part.path)
            if file is None or file.rows != part.rows:
                raise LakeUnavailableError(self._log.uri, f"{part.path} is not in the log")
        self._compare()

    def _end_files(self) -> None:
        """Finish every file. A run that is still being written may be the first of its month,
        so it is waited for before the open files are counted."""
        self._await_run()
        for month in [*self._waiting, *self._open]:
            self.end_file(month)
        written = sum(part.rows for part in self._parts)
        if written != self.rows:
            reason = f"{written} rows were written of {self.rows} that were staged"
            raise LakeUnavailableError(self._log.uri, reason)

    def _compare(self) -> None:
        for part in self._parts:
            read = [_sum_of(rows) for rows in self._rows_at(part.path)]
            if read != self._sums[part]:
                raise LakeUnavailableError(
                    self._log.uri,
                    f"the rows of {self.snapshot} read back differ from those written",
                )

    def _write_run(self, month: str) -> None:
        run = pa.concat_tables(self._waiting.pop(month))
        if run.num_rows:
            self._await_run()
            self._writing = self._background.submit(self._write, month, [run])

    def _await_run(self) -> None:
        """Wait for the run being written; raises what went wrong with it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, month: str, runs: list[pa.Table]) -> None:
        """Write the one run of a list, which is emptied: so nothing keeps the unsorted rows."""
        run = sorted_run(runs.pop())
        with answering(self._log.uri):
            part = self._open.get(month)
            if part is None:
                part = self._open[month] = LakePart(
                    self._filesystem,
                    month,
                    local=self._log.is_local,
                    content_level=self._content_level,
                )
                self._parts.append(part)
            self._sums.setdefault(part, []).extend(map(_sum_of, _row_groups(run)))
            part.write_run(run)
        if part.rows >= PART_ROWS:
            self._finish_part(month)

    def _finish_part(self, month: str) -> None:
        part = self._open.pop(month)
        with answering(self._log.uri):
            part.close()
        self._log.sync_file(part.path)

    def _discard(self) -> None:
        for part in self._parts:
            with answering(self._log.uri):
                part.discard()


def _row_groups(run: pa.Table) -> Iterator[pa.Table]:
    """Cut a run as the file does."""
    for start in range(0, run.num_rows, ROW_GROUP_ROWS):
        yield run.slice(start, ROW_GROUP_ROWS)


def _sum_of(rows: pa.Table) -> bytes:
    """Return a digest over a row group: of its rows in their order, each with all its columns,
    ids and entry hashes among them."""
    hashes = as_frame(rows).hash_rows()
    return sha256(hashes.to_numpy().tobytes()).digest()
