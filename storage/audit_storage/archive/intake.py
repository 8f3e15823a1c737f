"""One reading of a closed day: what of it is new, what the lake has, and what is bad.

The archive feeds it the texts that the hot store keeps for the day and takes the new entries
out. What remains in memory are ids, times and leaf hashes, some 300 bytes an entry. Writes
nothing, and does not rely on the order in which the texts come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime

import polars as pl

from audit_storage.archive.inspection import RejectedError, id_within, inspect
from audit_storage.archive.quarantine import Rejected
from audit_storage.lake.schema import TRAIL_ORDER
from audit_storage.merkle import leaf_hash, root_of_hashes
from claude_max_audit.entry import AuditEntry, epoch_us


class Intake:
    """Tells a day's entries apart. `known` are the lake's entry hashes of the day by id, and
    `list_ids` lists the ids under which the hot store keeps the day's entries."""

    def __init__(
        self,
        day: date,
        now: datetime,
        known: Mapping[str, str],
        list_ids: Callable[[], Collection[str]],
    ) -> None:
        self.day = day
        self.rejected: list[Rejected] = []
        self.already = 0
        self.read = 0
        self._now = now
        self._known = known
        self._list_ids = list_ids
        self._listed = set(list_ids())
        self._unclaimed = self._listed.copy()
        self._leaves = [_leaves([], [])]

    @property
    def listed(self) -> int:
        """Entries that the day is known to have."""
        return len(self._listed)

    @property
    def accepted_ids(self) -> set[str]:
        """The ids of the good entries, new and already archived."""
        return self._listed - self._unclaimed

    @property
    def rejected_ids(self) -> set[str]:
        """The ids under which the rejected are kept, or none when that is not certain.

        An id without a text may be one that is being written at this moment: when there are
        such ids, nobody can say which are the rejected ones.
        """
        return self._unclaimed if len(self._unclaimed) == len(self.rejected) else set()

    def take(self, texts: Iterable[bytes]) -> list[AuditEntry]:
        """Return the new good entries of a chunk."""
        new: list[AuditEntry] = []
        leaves: list[bytes] = []
        for text in texts:
            self.read += 1
            try:
                entry, canonical = inspect(text, self.day)
                is_new = self._accept(entry)
            except RejectedError as bad:
                one = Rejected(self.day, id_within(text), str(bad), text, self._now)
                self.rejected.append(one)
                continue
            if is_new:
                leaves.append(leaf_hash(canonical))
                new.append(entry)
            else:
                self.already += 1
        self._leaves.append(_leaves(new, leaves))
        return new

    def merkle_root(self) -> bytes:
        """Return the root over the new entries' canonical bytes, in trail order."""
        ordered = pl.concat(self._leaves).sort(TRAIL_ORDER)
        return root_of_hashes(ordered.get_column("leaf"))

    def _accept(self, entry: AuditEntry) -> bool:
        """Say whether a good entry is new; raises `RejectedError` when it is out of place."""
        entry_id = entry.entry_id
        if entry_id not in self._unclaimed:
            self._expect_late(entry_id)
        known = self._known.get(entry_id)
        if known is not None and known != entry.entry_hash:
            raise RejectedError("the lake holds another entry with this entry_id")
        self._listed.add(entry_id)
        self._unclaimed.discard(entry_id)
        return known is None

    def _expect_late(self, entry_id: str) -> None:
        """One that was not listed may have come since: look again before it is called bad."""
        if entry_id in self._listed:
            raise RejectedError("its entry_id was already read under another key")
        if entry_id not in self._list_ids():
            raise RejectedError("it is kept under the id of another entry")


def _leaves(entries: Sequence[AuditEntry], leaves: Sequence[bytes]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "timestamp": [epoch_us(entry.timestamp) for entry in entries],
            "entry_id": [entry.entry_id for entry in entries],
            "leaf": leaves,
        },
        schema={"timestamp": pl.Int64, "entry_id": pl.String, "leaf": pl.Binary},
    )
