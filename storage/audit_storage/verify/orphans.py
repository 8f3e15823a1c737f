"""Files that lie in the lake's folder and in no list of its newest version.

No damage: a process that was killed left them, or a later commit replaced them and the vacuum has
not come yet. `verify` tells of them, because after a purge they may be bytes that should be gone.
It lists the folder and deletes nothing.
"""

from __future__ import annotations

import pyarrow.fs as pa_fs

from audit_storage.lake.delta_log import answering
from audit_storage.lake.view import LakeView

NAMED = 5
"""Orphans whose names are told; the others are counted."""


def orphan_notes(view: LakeView, folder: pa_fs.FileSystem) -> list[str]:
    """Tell how many files, and bytes, no list of the view's version names."""
    listed = {file.path for file in view.files}
    with answering(view.uri):
        found = folder.get_file_info(pa_fs.FileSelector("", recursive=True, allow_not_found=True))
    orphans = {
        info.path: info.size
        for info in found
        if info.type is pa_fs.FileType.File
        and info.path.startswith("month=")
        and info.path not in listed
    }
    if not orphans:
        return []
    more = f" and {len(orphans) - NAMED:,} more" if len(orphans) > NAMED else ""
    return [
        f"{len(orphans):,} files ({sum(orphans.values()):,} bytes) lie in the folder and are not "
        "part of the lake: an archive is at work or was killed, or a later commit replaced them. "
        f"The next purge deletes their bytes: {', '.join(sorted(orphans)[:NAMED])}{more}"
    ]
