"""Takes out of the table's log what it tells of files that a purge removed.

With each file stand its least and greatest ids, agents, swarms and sessions, and the log keeps old
versions for a while. `Lake.vacuum_now` calls this for a purge, after a checkpoint of the newest
version; what is older is of no use to any reader then. Killed anywhere, the next purge goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import pyarrow.fs as pa_fs

_LOG = "_delta_log"
_COMMIT = re.compile(r"(\d{20})\.json\Z")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.(.+\.)?parquet\Z")


def erase_log(
    folder: pa_fs.FileSystem, version: int, listed: Collection[str], before: datetime
) -> list[str]:
    """Delete the checkpoints older than that of `version`, and the commits up to the last one
    that tells of a file which is gone and holds rows of before an instant; return their paths.

    Commits after that one stay as witnesses; of earlier ones the table of jobs tells.
    """
    commits: dict[int, str] = {}
    gone: list[str] = []
    for info in folder.get_file_info(pa_fs.FileSelector(_LOG, recursive=False)):
        name = info.path.rpartition("/")[2]
        if (found := _COMMIT.match(name)) and int(found[1]) < version:
            commits[int(found[1])] = info.path
        elif (found := _CHECKPOINT.match(name)) and int(found[1]) < version:
            gone.append(info.path)
    telling = [at for at, path in commits.items() if _tells(folder, path, listed, before)]
    # Without a gap: a reader of the log counts its commits.
    gone += [path for at, path in sorted(commits.items()) if telling and at <= max(telling)]
    for path in gone:
        folder.delete_file(path)
    return gone


def _tells(
    folder: pa_fs.FileSystem, path: str, listed: Collection[str], before: datetime
) -> bool:
    return any(
        add["path"].replace("%3D", "=") not in listed and _reaches(add, before)
        for add in _added(folder, path)
    )


def _added(folder: pa_fs.FileSystem, path: str) -> Iterator[dict[str, Any]]:
    with folder.open_input_file(path) as source:
        for line in source.read().splitlines():
            if b'"add"' in line and (added := json.loads(line).get("add")):
                yield added


def _reaches(add: dict[str, Any], before: datetime) -> bool:
    """Say whether the file has rows of before an instant; one that does not tell may have."""
    least = json.loads(add.get("stats") or "{}").get("minValues", {}).get("timestamp")
    return least is None or datetime.fromisoformat(least) < before
