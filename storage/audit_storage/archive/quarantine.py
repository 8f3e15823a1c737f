"""What could not be archived, kept byte for byte with the reason: a Delta table of its own.

The archive writes here before it lets anything expire, so a bad entry is never lost; a person
reads it. The quality checks add copies of rows of the lake that they refuse: what was found and
when, while the row itself stays where it is. Adding the same bytes of the same day again changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256

import polars as pl
import pyarrow as pa

from audit_storage.lake.delta_log import DeltaLog, DeltaTable, OvertakenError
from audit_storage.lake.schema import as_frame
from audit_storage.layout import QUARANTINE, place, quarantine_app
from claude_max_audit.settings import Settings

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("day", pa.date32()),
        pa.field("entry_id", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("text", pa.binary()),
        pa.field("text_hash", pa.string()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
    ]
)
"""`text` is what Redis held (or a row of the lake as JSON), `text_hash` its SHA-256 (hex);
`entry_id` is None if unreadable."""

OF_LAKE = "archived: "
"""Begins the reason of a copy of a row that is in the lake: nothing waits for it in Redis."""

_STATISTICS = {"delta.dataSkippingStatsColumns": "day,text_hash,at"}
_ATTEMPTS = 10

_NAMES_AT_ONCE = 500
"""Hashes in one condition."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One entry in quarantine. `at` is the aware UTC time at which it was put there."""

    day: date
    entry_id: str | None
    reason: str
    text: bytes
    at: datetime

    @property
    def of_lake(self) -> bool:
        """Say whether this is a copy of a row that is in the lake."""
        return self.reason.startswith(OF_LAKE)

    @property
    def text_hash(self) -> str:
        """SHA-256 (hex) of the bytes: their name within the day."""
        return sha256(self.text).hexdigest()


class Quarantine:
    """The table of rejected entries at `{lake_uri}/quarantine`."""

    def __init__(self, settings: Settings) -> None:
        self._log = DeltaLog(
            place(settings.lake_uri, QUARANTINE),
            QUARANTINE_SCHEMA,
            configuration=_STATISTICS,
            storage_options=settings.lake_options,
        )

    def add(self, day: date, rejected: Sequence[Rejected]) -> int:
        """Keep what is not kept yet, all of one day; returns how many were new.

        Durable on return. Two callers at once keep each text once.
        """
        if not rejected:
            return 0
        for _ in range(_ATTEMPTS):
            table = self._log.create_once()
            known = self._hashes(table, day)
            new = {one.text_hash: one for one in rejected if one.text_hash not in known}
            if not new:
                return 0
            app = quarantine_app(day)
            try:
                self._log.append(table, _table_of(new), app=app)
            except OvertakenError:
                continue  # The other one may have kept the same texts: look again.
            return len(new)
        raise OvertakenError(self._log.uri, f"{_ATTEMPTS} times in a row")

    def erase(self, rejected: Sequence[Rejected]) -> None:
        """Remove these for good, from the disk too. For the purge alone, which keeps a receipt.

        May be repeated: what is gone is passed over. Durable on return.
        """
        table = self._log.open()
        if table is not None:
            names = [f"'{one.text_hash}'" for one in rejected]
            for start in range(0, len(names), _NAMES_AT_ONCE):
                chunk = ", ".join(names[start : start + _NAMES_AT_ONCE])
                self._log.delete(table, f"text_hash IN ({chunk})")
            # Also after a run that was killed before it came here.
            self._log.vacuum(table)

    def hashes(self, day: date) -> set[str]:
        """Return the `text_hash` of everything in quarantine of a day."""
        table = self._log.open()
        return set() if table is None else self._hashes(table, day)

    def counts(self) -> dict[date, int]:
        """Return the number of rejected entries of each UTC day that has any; copies of rows of
        the lake are not among them."""
        rows = self._rows(["day", "reason"])
        rows = rows.filter(~pl.col("reason").str.starts_with(OF_LAKE))
        return dict(sorted(rows.group_by("day").len().rows()))

    def days(self) -> list[date]:
        """Return each UTC day of which anything is kept here, copies included, oldest first."""
        return sorted(set(self._rows(["day"]).get_column("day")))

    def count(self) -> int:
        """Return the number of all that is kept here, copies included, from the table's log."""
        table = self._log.open()
        return 0 if table is None else self._log.count(table)

    def list(self, day: date | None = None) -> list[Rejected]:
        """Return the rejected entries (of one day), oldest day first."""
        rows = self._rows(["day", "entry_id", "reason", "text", "at"])
        if day is not None:
            rows = rows.filter(pl.col("day") == day)
        return [Rejected(*row) for row in rows.sort("day", "at", "entry_id").rows()]

    def _hashes(self, table: DeltaTable, day: date) -> set[str]:
        rows = self._log.read(table, ["day", "text_hash"]).filter(pl.col("day") == day)
        return set(rows.get_column("text_hash"))

    def _rows(self, columns: Sequence[str]) -> pl.DataFrame:
        table = self._log.open()
        if table is None:
            return as_frame(QUARANTINE_SCHEMA.empty_table()).select(columns)
        return self._log.read(table, columns)


def _table_of(new: Mapping[str, Rejected]) -> pa.Table:
    rows = [
        (one.day, one.entry_id, one.reason, one.text, text_hash, one.at)
        for text_hash, one in new.items()
    ]
    columns = [
        pa.array(values, field.type)
        for values, field in zip(zip(*rows, strict=True), QUARANTINE_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)
