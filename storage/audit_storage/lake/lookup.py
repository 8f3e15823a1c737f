"""Finds the files that may hold a hash, an id or an agent among seven years, without reading them.

Beside the table, `{lake_uri}/lookup` has one small key file for each Parquet file, made by the
compaction. It is a view: a file without keys, or with damaged ones, is simply read, and whatever
a key file says, the rows themselves are compared. Parquet files never change and bear the hash of
their bytes in their name, so keys are never stale; the vacuum removes those of files that are gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pyarrow.fs as pa_fs

from audit_storage.lake.delta_log import answering, file_system
from audit_storage.lake.key_file import (
    KEY_COLUMNS,
    DamagedKeysError,
    KeyFile,
    encode_keys,
    key_of,
)
from audit_storage.lake.key_source import open_source
from audit_storage.lake.parquet_scan import scan_files
from audit_storage.lake.plan import LakeFile
from audit_storage.lake.staged_file import store
from audit_storage.layout import KEYS_SUFFIX, LOOKUP, keys_file, local_folder, new_keys_file

MOST_VALUES = 256
"""Values asked for at once up to which looking each up beats reading the files."""

ASKED_AT_ONCE = 32
"""Key files of an object store that are asked at the same time: each waits for the network."""


class Lookup:
    """The key files of one lake. Safe to use from several threads and processes."""

    def __init__(self, lake_uri: str, storage_options: Mapping[str, str]) -> None:
        self.uri = lake_uri
        self._local = local_folder(lake_uri)
        self._options = dict(storage_options)
        self._open: dict[str, KeyFile] = {}
        self._folder: pa_fs.FileSystem | None = None

    def narrow(
        self, files: Sequence[LakeFile], column: str, values: Collection[str]
    ) -> list[LakeFile]:
        """Return those of the files in which one of the values may stand in a key column.

        A file without sound keys is among them.
        """
        if column not in KEY_COLUMNS or len(values) > MOST_VALUES:
            return list(files)
        keys = [key_of(value) for value in values]
        if self._local is not None or len(files) < 2:
            return [file for file in files if self._may_hold(file, column, keys)]
        self._file_system()
        with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(files))) as askers:
            held = askers.map(lambda file: self._may_hold(file, column, keys), files)
            return [file for file, may_hold in zip(files, held, strict=True) if may_hold]

    def build(self, table_uri: str, files: Iterable[LakeFile]) -> int:
        """Make the keys that are missing or damaged; returns for how many files."""
        there = self._there()
        made = 0
        for file in files:
            if keys_file(file.path) not in there or not self._is_sound(file):
                self._make(table_uri, file)
                made += 1
        return made

    def remove_all_but(self, files: Iterable[LakeFile]) -> int:
        """Delete the keys of every other file; returns their number."""
        kept = {keys_file(file.path) for file in files}
        gone = [name for name in self._there() if name not in kept]
        with answering(self.uri):
            for name in gone:
                self._file_system().delete_file(name)
        for path in [path for path in self._open if keys_file(path) not in kept]:
            self._open.pop(path, None)
        return len(gone)

    def _may_hold(self, file: LakeFile, column: str, keys: Sequence[int]) -> bool:
        try:
            known = self._open.get(file.path) or self._open_keys(file)
            return any(known.may_hold(column, key) for key in keys)
        except (DamagedKeysError, OSError):
            # Missing, damaged or out of reach: then the file itself is asked.
            self._open.pop(file.path, None)
            return True

    def _open_keys(self, file: LakeFile) -> KeyFile:
        source = open_source(self._file_system(), keys_file(file.path), self._local)
        known = self._open[file.path] = KeyFile(source, file.path, file.rows)
        return known

    def _is_sound(self, file: LakeFile) -> bool:
        self._open.pop(file.path, None)
        try:
            known = self._open_keys(file)
            if self._local is not None:
                known.check()
            # An object store keeps bytes as they were sent, and reading all costs their transfer.
        except (DamagedKeysError, OSError):
            self._open.pop(file.path, None)
            return False
        return True

    def _make(self, table_uri: str, file: LakeFile) -> None:
        with answering(table_uri):
            found = scan_files([f"{table_uri}/{file.path}"], self._options)
            rows = found.select(KEY_COLUMNS).collect()
        columns = {name: rows[name].drop_nulls().unique().to_list() for name in KEY_COLUMNS}
        data = BytesIO(encode_keys(file.path, rows.height, columns))
        folder, finished = self._file_system(), keys_file(file.path)
        with answering(self.uri):
            if self._local is None:
                store(folder, finished, data)
                return
            unfinished = new_keys_file()
            store(folder, unfinished, data)
            # Killed here: a file under no Parquet file's name, which the next vacuum removes.
            folder.move(unfinished, finished)

    def _there(self) -> set[str]:
        with answering(self.uri):
            found = self._file_system().get_file_info(
                pa_fs.FileSelector(LOOKUP, recursive=False, allow_not_found=True)
            )
        return {info.path for info in found if info.path.endswith(KEYS_SUFFIX)}

    def _file_system(self) -> pa_fs.FileSystem:
        if self._folder is None:
            self._folder = file_system(self.uri, self._options)
        return self._folder
