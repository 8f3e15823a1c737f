"""One Delta table's log: opened, created once, listed, committed to. With its errors
(`storage_failure`) and its trial (`commit_probe`) the owner of the deltalake library.

Every failure of the storage is raised as `LakeUnavailableError` naming the place; a commit that
another writer overtook is `OvertakenError`, and nothing of it is in the table then. A table that
does not exist yet reads as None: only writing creates it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pyarrow as pa
import pyarrow.fs as pa_fs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

from audit_storage.lake.commit_probe import prove_store
from audit_storage.lake.parquet_scan import scan_files
from audit_storage.lake.schema import as_frame
from audit_storage.lake.storage_failure import OvertakenError, answering
from audit_storage.layout import local_folder
from claude_max_audit.errors import LakeUnsafeError

__all__ = [
    "AddAction",
    "DeltaLog",
    "DeltaTable",
    "OvertakenError",
    "RemoveAction",
    "answering",
    "file_system",
    "remove_action",
]


MANY_FILES = 200
"""Files of a small table at which they are joined: reading so many takes a tenth of a second."""


_CONDITIONAL = {"aws_conditional_put": "etag"}
"""Makes a commit to S3 fail where its version exists. It is the library's own default, which the
environment could change; the other kinds of store always do it."""

_OF_OBJECT_STORES = {"delta.checkpointInterval": "10"}
"""Commits after which the log of a table in an object store is written anew as one file. Opening
a table asks for each commit since then twice; the library's own 100 would be 200 requests."""

_TOKEN = "commit"
"""Key of a random word in each commit's metadata, by which we know our own again."""


class DeltaLog:
    """The log of the table at `uri`, with the schema that the table has or will be given."""

    def __init__(
        self,
        uri: str,
        schema: pa.Schema,
        *,
        partition_by: Sequence[str] = (),
        configuration: Mapping[str, str] | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = uri
        self.schema = schema
        self.is_local = local_folder(uri) is not None
        self.options = dict(storage_options or {})
        if uri.startswith(("s3://", "s3a://")):
            self.options = _with_safe_commits(self.options)
        self._partition_by = list(partition_by)
        self._configuration = dict(configuration or {})
        if not self.is_local:
            self._configuration |= _OF_OBJECT_STORES

    def open(self) -> DeltaTable | None:
        """Read the newest version; None when there is no table yet."""
        self._refuse_locked_folder()
        with answering(self.uri):
            try:
                return DeltaTable(self.uri, storage_options=self.options or None)
            except TableNotFoundError:
                return None

    def create_once(self) -> DeltaTable:
        """Read the newest version, after creating the table when there is none.

        Raises `LakeUnsafeError` for an object store in which two commits could both win.
        """
        table = self.open()
        if table is not None:
            return table
        with answering(self.uri):
            if not self.is_local:
                prove_store(self.uri, self.options)
            try:
                return DeltaTable.create(
                    self.uri,
                    self.schema,
                    mode="ignore",
                    partition_by=self._partition_by or None,
                    configuration=self._configuration,
                    storage_options=self.options or None,
                )
            except DeltaError:
                # Two writers that create at once: version 0 of one of them stands.
                return DeltaTable(self.uri, storage_options=self.options or None)

    def refresh(self, table: DeltaTable) -> None:
        """Read the commits made since `table` was read: milliseconds when there are none."""
        with answering(self.uri):
            table.update_incremental()

    def commit(
        self,
        table: DeltaTable,
        actions: Sequence[AddAction | RemoveAction],
        *,
        app: str | None = None,
        app_version: int = 0,
        fences: Collection[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Apply all actions as one new version on top of the one `table` was read at.

        Returns the version; durable on return. Raises `OvertakenError` when since then `app` or
        one of the applications in `fences` committed, or a file to be removed was removed.
        """
        token, read_at = uuid4().hex, table.version()
        with self._committing(table, token, read_at):
            apps = {name: table.transaction_version(name) or 0 for name in fences}
            if app:
                apps[app] = app_version
            table.create_write_transaction(
                list(actions),
                "append",
                self.schema,
                self._partition_by,
                commit_properties=_properties(apps, {**(metadata or {}), _TOKEN: token}),
            )
        return self._settle(table, token, read_at)

    def append(self, table: DeltaTable, rows: pa.Table, *, app: str | None = None) -> int:
        """Append a few rows in one commit of their own; returns the version. Durable on return.

        With `app`, raises `OvertakenError` when that application committed since `table` was
        read; what was decided by reading `table` is decided afresh then. Columns that the table
        lacks, because an older version of the project made it, are added to it.
        """
        token, read_at = uuid4().hex, table.version()
        with self._committing(table, token, read_at):
            apps = {app: (table.transaction_version(app) or 0) + 1} if app else {}
            properties = _properties(apps, {_TOKEN: token})
            write_deltalake(
                table, rows, mode="append", schema_mode="merge", commit_properties=properties
            )
        return self._settle(table, token, read_at)

    def read(self, table: DeltaTable, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns of a small table whole."""
        with answering(self.uri):
            places = table.file_uris()
            if not places:
                return as_frame(self.schema.empty_table()).select(columns)
            schema = as_frame(self.schema.empty_table()).schema
            rows = scan_files(places, self.options, schema)
            return rows.select(columns).collect()

    def count(self, table: DeltaTable) -> int:
        """Return the number of rows, from the log: no file is opened."""
        with answering(self.uri):
            files = as_frame(pa.table(table.get_add_actions(flatten=True)))
        return int(files.get_column("num_records").sum()) if files.height else 0

    def tidy(self, table: DeltaTable) -> None:
        """Join the small files of a small table once there are many; not urgent, so one that
        is overtaken leaves it to the next."""
        with suppress(OvertakenError), answering(self.uri):
            if len(table.file_uris()) >= MANY_FILES:
                table.optimize.compact()
                table.vacuum(dry_run=False)

    def delete(self, table: DeltaTable, condition: str) -> None:
        """Take rows out of a small table, in one commit; the bytes stay until a vacuum."""
        with answering(self.uri):
            table.update_incremental()
            table.delete(condition)

    def vacuum(self, table: DeltaTable) -> None:
        """Delete the files that commits took out of a small table."""
        with answering(self.uri):
            table.vacuum(0, dry_run=False, enforce_retention_duration=False)

    def filesystem(self) -> pa_fs.FileSystem:
        """Return the table's folder as a file system, for writing and reading its files."""
        return file_system(self.uri, self.options)

    def sync_file(self, path: str) -> None:
        """Force one file of a local table, and its folder, to disk."""
        folder = local_folder(self.uri)
        if folder is not None:
            with answering(self.uri):
                _sync(Path(folder, path))
                _sync(Path(folder, path).parent)

    @contextmanager
    def _committing(self, table: DeltaTable, token: str, read_at: int) -> Iterator[None]:
        """Raise `OvertakenError` only for a commit that surely is not in the log.

        An object store whose answer was lost is asked again, and refuses what it has already
        taken; so whoever is refused looks for its own word in the log first.
        """
        try:
            with answering(self.uri):
                yield
        except OvertakenError:
            if self._version_of(table, token, read_at) is None:
                raise

    def _settle(self, table: DeltaTable, token: str, read_at: int) -> int:
        """Find the version that our commit became, others may follow it, and force it to disk."""
        version = self._version_of(table, token, read_at)
        if version is None:
            raise LakeUnsafeError(self.uri, "a commit that it has taken is not in the log")
        self.sync_file(f"_delta_log/{version:020d}.json")
        return version

    def _version_of(self, table: DeltaTable, token: str, read_at: int) -> int | None:
        """Return the version, past the one read at, that bears our word; None where none does."""
        with answering(self.uri):
            table.update_incremental()
            since = table.history(table.version() - read_at)
        return next((int(line["version"]) for line in since if line.get(_TOKEN) == token), None)

    def _refuse_locked_folder(self) -> None:
        """A folder that may not be read must not look like an empty lake."""
        folder = local_folder(self.uri)
        if folder is None:
            return
        with answering(self.uri):
            for place in (Path(folder), Path(folder, "_delta_log")):
                if _exists(place):
                    with os.scandir(place) as names:  # thousands, of which one is enough
                        next(names, None)


def _with_safe_commits(options: Mapping[str, str]) -> dict[str, str]:
    names = {*_CONDITIONAL, *(name.removeprefix("aws_") for name in _CONDITIONAL)}
    return {k: v for k, v in options.items() if k.lower() not in names} | _CONDITIONAL


def file_system(uri: str, options: Mapping[str, str]) -> pa_fs.FileSystem:
    """Return a place of the lake as a file system, on this machine or in an object store."""
    with answering(uri):
        return pa_fs.PyFileSystem(DeltaStorageHandler(uri, dict(options) or None))


def remove_action(path: str, month: str, *, data_change: bool) -> RemoveAction:
    """Return the action that takes a file out of the table; its bytes stay until a vacuum."""
    return RemoveAction(path, data_change, int(time.time() * 1000), None, {"month": month})


def _exists(place: Path) -> bool:
    """Say whether there is something; raises `PermissionError` when one may not know."""
    try:
        place.stat()
    except FileNotFoundError:
        return False
    return True


def _properties(apps: Mapping[str, int], metadata: Mapping[str, Any]) -> CommitProperties:
    return CommitProperties(
        custom_metadata=dict(metadata),
        app_transactions=[Transaction(app, version) for app, version in apps.items()] or None,
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
