"""Entries that go straight from the spool to the lake, where no Redis is used.

Called by the ingest library's writer, batch by batch, and again after every doubt: an entry
that the lake holds is passed over, so writing twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from audit_storage.lake.delta_log import OvertakenError
from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry, decode_entry

DIRECT_APP = "direct"
"""Application id of these commits: two writers at once are told apart by its version."""


def append_direct(lake: Lake, batch: Sequence[bytes]) -> list[AuditEntry]:
    """Commit the canonical bytes that the lake lacks; returns the entries written.

    Raises `LakeUnavailableError`; the caller then sends the batch again.
    """
    entries = {entry.entry_id: entry for entry in map(decode_entry, batch)}
    while True:
        with lake.begin(DIRECT_APP) as transaction:
            held = transaction.view.existing(entries.keys())
            new = [entry for key, entry in entries.items() if key not in held]
            if not new:
                return []
            transaction.add(new)
            try:
                transaction.commit()
            except OvertakenError:
                continue  # Another writer committed first; look again at what it brought.
            return new
