"""One reading of a closed day: what of it is new, what the lake has, and what is bad.

The archive feeds it the day's texts in the order of the hot store's index and takes the new
entries out; it keeps the day's Merkle tree and the ids, some 200 bytes an entry. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime

from audit_storage.inspection import RejectedError, id_within, inspect
from audit_storage.merkle import MerkleTree
from audit_storage.quarantine import Rejected
from claude_max_audit.entry import AuditEntry


class Intake:
    """Tells a day's entries apart. `known` are the lake's entry hashes of the day by id, and
    `list_ids` lists the ids under which the hot store keeps the day's entries."""

    def __init__(
        self,
        day: date,
        now: datetime,
        known: Mapping[str, str],
        list_ids: Callable[[], Iterable[str]],
    ) -> None:
        self.day = day
        self.tree = MerkleTree()
        self.rejected: list[Rejected] = []
        self.accepted_ids: set[str] = set()
        self.already = 0
        self.read = 0
        self._now = now
        self._known = known
        self._list_ids = list_ids
        self._unclaimed = set(list_ids())
        self._listed = len(self._unclaimed)
        self._last: tuple[datetime, str] | None = None

    @property
    def listed(self) -> int:
        """Entries that the day had when the reading began, or more if more were read."""
        return max(self._listed, self.read)

    @property
    def rejected_ids(self) -> set[str]:
        """The ids under which the rejected are kept, or none when that is not certain.

        An id without a text may be one that is being written at this moment: when there are
        such ids, nobody can say which are the rejected ones.
        """
        return self._unclaimed if len(self._unclaimed) == len(self.rejected) else set()

    def take(self, texts: Iterable[bytes]) -> list[AuditEntry]:
        """Return the new good entries of a chunk, which are leaves of the tree from now on."""
        new = []
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
                self.tree.add(canonical)
                new.append(entry)
            else:
                self.already += 1
        return new

    def _accept(self, entry: AuditEntry) -> bool:
        """Say whether a good entry is new; raises `RejectedError` when it is not in its place."""
        if entry.entry_id not in self._unclaimed and entry.entry_id not in self._list_ids():
            raise RejectedError("it is kept under the id of another entry")
        known = self._known.get(entry.entry_id)
        if known is not None and known != entry.entry_hash:
            raise RejectedError("the lake holds another entry with this entry_id")
        # Leaves stand in trail order, and so does the hot store's index of the day.
        place = (entry.timestamp, entry.entry_id)
        if self._last is not None and place <= self._last:
            raise RejectedError("its time or id does not agree with its place in the day")
        self._last = place
        self._unclaimed.discard(entry.entry_id)
        self.accepted_ids.add(entry.entry_id)
        return known is None
