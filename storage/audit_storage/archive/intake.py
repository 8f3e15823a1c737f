"""One reading of a closed day: what of it is new, what the lake has, and what is bad.

The archive feeds it the checked pages of the day and takes the rows of the new entries out.
What remains in memory is sixteen bytes an entry: its id, so that it can be released. Writes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl
import pyarrow as pa

from audit_storage.archive.id_list import IdList
from audit_storage.archive.inspection import id_within
from audit_storage.archive.page import BadEntry, CheckedPage
from audit_storage.archive.quarantine import Rejected
from audit_storage.archive.trail_root import TrailRoot
from audit_storage.lake.schema import as_frame


class Intake:
    """Tells a day's entries apart. `known` are the lake's entry hashes of the day by id.

    With `sorts` the pages may come in any order, else `take` raises `UnorderedError`.
    """

    def __init__(
        self, day: date, now: datetime, known: Mapping[str, str], *, sorts: bool = False
    ) -> None:
        self.day = day
        self.rejected: list[Rejected] = []
        self.rejected_ids: list[str] = []
        """The ids under which the rejected are kept."""
        self.accepted_ids = IdList()
        """The ids of the good entries, new and already archived."""
        self.already = 0
        self.read = 0
        self._now = now
        self._known = known
        self._root = TrailRoot(sorts=sorts)

    def take(self, page: CheckedPage) -> pa.Table:
        """Return the rows of the new good entries of a page."""
        self.read += page.read
        for bad in page.bad:
            self._reject(bad)
        if self._known:
            page = self._without_known(page)
        keys = as_frame(page.rows.select(["timestamp", "entry_id"]))
        self.accepted_ids.add(keys.get_column("entry_id"))
        self._root.add(keys, page.leaves)
        return page.rows

    def merkle_root(self) -> bytes:
        """Return the root over the new entries' canonical bytes, in trail order."""
        return self._root.root()

    def _without_known(self, page: CheckedPage) -> CheckedPage:
        """Keep what the lake lacks; what it holds otherwise than Redis does is rejected."""
        new, held = [], []
        ids, hashes = (page.rows.column(n).to_pylist() for n in ("entry_id", "entry_hash"))
        for number, (entry_id, entry_hash) in enumerate(zip(ids, hashes, strict=True)):
            known = self._known.get(entry_id)
            if known is None:
                new.append(number)
            elif known == entry_hash:
                held.append(entry_id)
            else:
                reason = "the lake holds another entry with this entry_id"
                self._reject(BadEntry(entry_id, page.texts[number], reason))
        self.already += len(held)
        self.accepted_ids.add(pl.Series(held, dtype=pl.String))
        return CheckedPage(
            page.rows.take(pa.array(new, pa.int64())),
            [page.texts[number] for number in new],
            [page.leaves[number] for number in new],
            (),
        )

    def _reject(self, bad: BadEntry) -> None:
        one = Rejected(self.day, id_within(bad.text), bad.reason, bad.text, self._now)
        self.rejected.append(one)
        self.rejected_ids.append(bad.entry_id)
