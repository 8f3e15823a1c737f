"""The lake: the record of the trail, a Delta table that any Delta reader understands.

Questions are answered from the newest version; writers go through `begin`, which gives a
transaction on one version. Safe to use from several threads. A lake that does not exist yet is
empty and is created by the first commit; one that cannot be read raises `LakeUnavailableError`
and never looks empty. Search, archive, export, purge and verify use it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from threading import Lock
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.fs as pa_fs

from audit_storage.lake.delta_log import DeltaLog, DeltaTable, answering
from audit_storage.lake.log_erasure import erase_log
from audit_storage.lake.lookup import Lookup
from audit_storage.lake.plan import STATISTICS, LakeFile, file_of, files_to_join
from audit_storage.lake.query import span_predicate
from audit_storage.lake.schema import LAKE_SCHEMA, as_frame
from audit_storage.lake.transaction import LakeTransaction, Snapshot
from audit_storage.lake.vacuum import vacuum
from audit_storage.lake.view import SCAN_ROWS, LakeView
from audit_storage.layout import ENTRIES, HOLDS_APP, place
from audit_storage.purge.holds import HoldBook, held_by
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.query import Query, Span
from claude_max_audit.results import Page
from claude_max_audit.settings import Settings

_CONFIGURATION = {"delta.dataSkippingStatsColumns": ",".join(STATISTICS)}

MONTH_ROWS = 200_000
"""Rows that a compaction sorts together: then an agent's month is in one place of the file."""

MONTH_BYTES = 192 * 1024 * 1024
"""Bytes after which it sorts what it has, so that long contents do not fill the memory."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Removal:
    """What `delete_rows` did; `version` is None when no row matched and nothing was committed."""

    rows: int
    files_removed: int
    files_rewritten: int
    version: int | None


class Lake:
    """The table of all archived entries at `{lake_uri}/entries`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.uri = place(settings.lake_uri, ENTRIES)
        self._log = DeltaLog(
            self.uri,
            LAKE_SCHEMA,
            partition_by=["month"],
            configuration=_CONFIGURATION,
            storage_options=settings.lake_options,
        )
        self._lookup = Lookup(settings.lake_uri, self._log.options)
        self._lock = Lock()
        self._table: DeltaTable | None = None
        self._view = LakeView(self.uri, -1, (), {}, {})
        self._day_counts: dict[str, Mapping[date, int]] = {}

    def view(self) -> LakeView:
        """Return the newest version, for several questions that must agree."""
        with self._lock:
            if self._table is None:
                self._table = self._log.open()
            else:
                self._log.refresh(self._table)
            if self._table is not None and self._table.version() != self._view.version:
                self._view = self._view_of(self._table)
            return self._view

    def refresh(self) -> None:
        """Read the newest commits now. Every question does so by itself."""
        self.view()

    def version(self) -> int:
        """Return the table's newest version, -1 while there is no table."""
        return self.view().version

    def count(self) -> int:
        """Return the number of entries, from the log."""
        return self.view().count()

    def days(self, among: Collection[date] | None = None) -> dict[date, int]:
        """Return the exact number of entries of each UTC day that has any, oldest first.

        `among` narrows it to some days, and what is read to the files that may hold them.
        """
        return self._ask(lambda view: view.days(among))

    def day_ids(self, day: date) -> set[str]:
        """Return the ids of a UTC day's entries."""
        return self._ask(lambda view: view.day_ids(day))

    def day_hashes(self, day: date) -> dict[str, str]:
        """Return the `entry_hash` of a UTC day's entries, by id."""
        return self._ask(lambda view: view.day_hashes(day))

    def existing(self, entry_ids: Collection[str]) -> set[str]:
        """Return those of `entry_ids` that the lake holds."""
        return self._ask(lambda view: view.existing(entry_ids))

    def find(self, entry_ids: Collection[str]) -> dict[str, AuditEntry]:
        """Return the entries of those of `entry_ids` that the lake holds, by id."""
        return self._ask(lambda view: view.find(entry_ids))

    def page(self, query: Query, limit: int, offset: int) -> Page:
        """Return one page, newest first by (timestamp, entry_id), and the exact total.

        Rows match exactly as `Query.matches` says; the query's words are not looked at.
        """
        return self._ask(lambda view: view.page(query, limit, offset))

    def count_matches(self, query: Query) -> int:
        """Return the exact number of entries that match."""
        return self._ask(lambda view: view.count_matches(query))

    def months_by(self, key: str, query: Query) -> dict[tuple[str, str], int]:
        """Return the exact number of matches of each UTC month ("YYYY-MM") and value of a key
        of the query, such as `severity`; what has no value counts nowhere."""
        return self._ask(lambda view: view.months_by(key, query))

    def scan(self, query: Query, chunk: int = SCAN_ROWS) -> Iterator[pl.DataFrame]:
        """Give all matches of one version in frames of about `chunk` rows, oldest first.

        Frames have the columns of `schema.FILE_SCHEMA` in (timestamp, entry_id) order. Raises
        `LakeUnavailableError` when a purge takes the version's files away meanwhile.
        """
        return self.view().scan(query, chunk)

    def begin(self, app: str) -> LakeTransaction:
        """Open a transaction on the newest version under an application id; creates the table.

        The version is read afresh and stays fixed, so that two writers never both commit what
        each found missing.
        """
        table = self._log.create_once()
        return LakeTransaction(self._log, table, self._view_of(table), app)

    def fresh_view(self) -> LakeView:
        """Read the table from the storage anew, past every cache: for reading back."""
        table = self._log.open()
        return self._view if table is None else self._view_of(table)

    def filesystem(self) -> pa_fs.FileSystem:
        """Return the table's folder as a file system, for those who check its bytes."""
        return self._log.filesystem()

    def delete_rows(
        self, span: Span, drop: pl.Expr, *, app: str, metadata: Mapping[str, Any] | None = None
    ) -> Removal:
        """Take every row of the span for which `drop` holds out of the lake, in one commit.

        `drop` is an expression over `schema.FILE_SCHEMA`; where it is null, and where a hold
        protects it, the row stays. Files left without rows are removed, others rewritten row
        group by row group. The bytes stay until `vacuum_now`. Raises `OvertakenError` when
        another commit came in between: plan again.
        """
        within = span_predicate(span)
        gone = (drop if within is None else drop & within).fill_null(False)
        with self.begin(app) as transaction:
            transaction.refuse_after(HOLDS_APP)
            held = held_by(HoldBook(self.settings).active())
            gone = gone if held is None else gone & ~held
            counts = self._drop_from_files(transaction, span, gone)
            if not counts.rows:
                return counts
            snapshot = transaction.commit({"removed": counts.rows, **(metadata or {})})
        return Removal(counts.rows, counts.files_removed, counts.files_rewritten, snapshot.version)

    def compact_month(self, month: str) -> Snapshot | None:
        """Rewrite a month's small files as few large ones, in one commit; None when there are
        none to join.

        Rows and proofs stay the same, which is read back before the commit. What one agent did
        stands together, a whole month of it where the month has no more than `MONTH_ROWS`.
        Raises `OvertakenError` when another commit came between.
        """
        with self.begin(f"compact/{month}") as transaction:
            transaction.pack(MONTH_ROWS, MONTH_BYTES)
            files = files_to_join(transaction.view.files, month)
            for file in files:
                for rows in transaction.read_rows(file):
                    transaction.add_rows(month, rows)
                transaction.end_run(month, MONTH_ROWS)
                transaction.remove_file(file)
            if not files:
                return None
            transaction.prove()
            return transaction.commit(data_change=False)

    def vacuum_now(
        self, *, keep_hours: int = 0, purged_before: datetime | None = None
    ) -> list[str]:
        """Delete the bytes of every file that the newest version does not hold; name them.

        At once for files that a commit took out, or `keep_hours` later, and after `ORPHAN_HOURS`
        for files that never were committed. A file with rows that a hold protects and the lake
        lacks stays. Then log files past the table's log retention go too, and at once those that
        tell of files with rows of before `purged_before`. Readers of an older version fail and
        ask again.
        """
        table = self._log.open()
        if table is None:
            return []
        held = held_by(HoldBook(self.settings).active())
        view = self._view_of(table)
        gone = vacuum(table, view, self._log.filesystem(), held, keep_hours=keep_hours)
        self._lookup.remove_all_but(view.files)
        with answering(self.uri):
            table.create_checkpoint()
            table.cleanup_metadata()
            if purged_before is not None:
                listed = {file.path for file in view.files}
                erase_log(self._log.filesystem(), table.version(), listed, purged_before)
        return gone

    def build_lookup(self) -> int:
        """Make the keys of every file that lacks sound ones; returns for how many files."""
        return self._lookup.build(self.uri, self.view().files)

    def _drop_from_files(
        self, transaction: LakeTransaction, span: Span, gone: pl.Expr
    ) -> Removal:
        dropped = removed = rewritten = 0
        for file in transaction.view.files:
            if not file.touches(span):
                continue
            rows = transaction.view.matching(file, gone)
            if not rows:
                continue
            dropped += rows
            transaction.remove_file(file)
            if rows == file.rows:
                removed += 1
                continue
            rewritten += 1
            for group in transaction.read_rows(file):
                transaction.add_rows(file.month, _without(group, gone))
            transaction.end_file(file.month)
        return Removal(dropped, removed, rewritten, None)

    def _ask(self, question: Callable[[LakeView], _Answer]) -> _Answer:
        """Ask the newest version, and once more when its files were taken away meanwhile."""
        view = self.view()
        try:
            return question(view)
        except LakeUnavailableError:
            newer = self.view()
            if newer.version == view.version:
                raise
            return question(newer)

    def _view_of(self, table: DeltaTable) -> LakeView:
        with answering(self.uri):
            files = _files_of(table)
        known = {file.path for file in files}
        for path in [path for path in self._day_counts if path not in known]:
            self._day_counts.pop(path, None)
        return LakeView(
            self.uri,
            table.version(),
            files,
            self._log.options,
            self._day_counts,
            self._lookup,
        )


def _without(rows: pa.Table, gone: pl.Expr) -> pa.Table:
    kept = as_frame(rows).select(~gone).to_series()
    return rows.filter(kept.to_arrow())


def _files_of(table: DeltaTable) -> list[LakeFile]:
    lines = as_frame(pa.table(table.get_add_actions(flatten=True))).to_dicts()
    return [file_of(line, table.table_uri) for line in lines]
