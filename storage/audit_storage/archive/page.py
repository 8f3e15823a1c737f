"""One page of a day, checked: the good entries as rows of the lake, and what is bad with reasons.

Called by the archive for each page that it reads, several at once. Pure: it knows neither what
the lake holds nor the other pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import pyarrow as pa

from audit_storage.archive.inspection import Inspected, RejectedError, inspect
from audit_storage.archive.page_proof import prove_page
from audit_storage.lake.schema import to_table
from audit_storage.merkle import leaf_hash
from claude_max_audit.hot.day_reader import DayPage


class BadEntry(NamedTuple):
    """Stored bytes that may not enter the lake: the id of their key, and why."""

    entry_id: str
    text: bytes
    reason: str


class CheckedPage(NamedTuple):
    """`rows` (of `FILE_SCHEMA`), their `texts` and their `leaves` stand in the page's order."""

    rows: pa.Table
    texts: Sequence[bytes]
    leaves: Sequence[bytes]
    bad: Sequence[BadEntry]

    @property
    def read(self) -> int:
        """Entries that the page had."""
        return len(self.texts) + len(self.bad)


def check_page(page: DayPage, day: date, snapshot: str) -> CheckedPage:
    """Check a page as a whole, and where that does not prove it, entry by entry."""
    proven = prove_page(page, day, snapshot)
    if proven is None:
        return _one_by_one(page, day, snapshot)
    rows, leaves = proven
    return CheckedPage(rows, page.texts, leaves, ())


def _one_by_one(page: DayPage, day: date, snapshot: str) -> CheckedPage:
    good: list[Inspected] = []
    texts: list[bytes] = []
    bad: list[BadEntry] = []
    for entry_id, text in zip(page.entry_ids, page.texts, strict=True):
        try:
            good.append(_inspected(entry_id, text, day))
            texts.append(text)
        except RejectedError as rejected:
            bad.append(BadEntry(entry_id.decode(), text, str(rejected)))
    rows = to_table([inspected.entry for inspected in good], snapshot)
    return CheckedPage(rows, texts, [leaf_hash(one.canonical) for one in good], bad)


def _inspected(entry_id: bytes, text: bytes, day: date) -> Inspected:
    found = inspect(text, day)
    if found.entry.entry_id.encode() != entry_id:
        raise RejectedError("it is kept under the id of another entry")
    return found
