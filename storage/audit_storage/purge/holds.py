"""Legal holds: what a query matches stays, however old it is, until the hold is released.

Everything that deletes asks here first: the purge, `Lake.delete_rows` and the vacuum. Placing and
releasing append a row each to the Delta table `holds` beside the receipts; nothing is ever changed
or removed there, so a released hold stays as history. A hold covers what comes later as well.

A hold that `place` has returned binds a purge that is already at work: placing also makes an empty
commit to the lake's own log, by which that purge's commit is refused and starts over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec
import polars as pl
import pyarrow as pa

from audit_storage.lake.delta_log import DeltaLog, DeltaTable, OvertakenError
from audit_storage.lake.query import predicate
from audit_storage.lake.schema import LAKE_SCHEMA
from audit_storage.layout import ENTRIES, HOLDS, HOLDS_APP, hold_app, place
from claude_max_audit.entry import as_utc
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import Settings

_TEXT, _TIME = pa.string(), pa.timestamp("us", tz="UTC")
_PLACED, _RELEASED = "placed", "released"

HOLD_SCHEMA = pa.schema(
    [
        pa.field("hold_id", _TEXT),
        pa.field("event", _TEXT),
        pa.field("at", _TIME),
        pa.field("by", _TEXT),
        pa.field("reason", _TEXT),
        pa.field("query", _TEXT),
    ]
)
"""`event` is placed or released; `query` is JSON text and stands in both rows of a hold."""

_ATTEMPTS = 10
"""Times that another commit may come between before we give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalHold:
    """One hold. Times are aware UTC; what tells of its release is None while it is active."""

    hold_id: str
    query: Query
    placed_at: datetime
    placed_by: str
    reason: str
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None

    @property
    def active(self) -> bool:
        """Say whether it still protects anything."""
        return self.released_at is None

    def as_dict(self) -> dict[str, Any]:
        """Return the hold as plain JSON values."""
        told = {name: getattr(self, name) for name in self.__slots__}
        told["query"] = self.query.as_dict()
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in told.items()}


class HoldBook:
    """The holds of the lake of some settings. Safe to open where there are none yet."""

    def __init__(self, settings: Settings) -> None:
        self._log = DeltaLog(
            place(settings.lake_uri, HOLDS),
            HOLD_SCHEMA,
            configuration={"delta.dataSkippingStatsColumns": "hold_id,at"},
            storage_options=settings.lake_options,
        )
        self._entries = DeltaLog(
            place(settings.lake_uri, ENTRIES), LAKE_SCHEMA, storage_options=settings.lake_options
        )

    def place(self, query: Query, *, by: str, reason: str, now: datetime) -> LegalHold:
        """Protect every entry that matches, those that are yet to come among them.

        Durable on return, and no purge that commits from then on removes a match. Raises
        `ValueError` for words to search for, which have no exact matches, and without a name
        and a reason.
        """
        if query.text is not None:
            raise ValueError("a hold cannot be placed by text_query: name agents, swarms, a span")
        _check_told(by, reason)
        hold = LegalHold(
            hold_id=str(uuid4()), query=query, placed_at=as_utc(now), placed_by=by, reason=reason
        )
        row = (hold.hold_id, _PLACED, hold.placed_at, by, reason)
        self._append(self._log.create_once(), hold, row)
        # Killed here: the hold stands and each plan made from now on honours it; only a purge
        # that has read the holds before us would not be stopped, and `place` did not return.
        self._stop_purges()
        return hold

    def release(self, hold_id: str, *, by: str, reason: str, now: datetime) -> LegalHold:
        """End a hold, named by its id or by the id's beginning; returns it as it is then.

        Raises `ValueError` when there is no such active hold, or more than one.
        """
        _check_told(by, reason)
        for _ in range(_ATTEMPTS):
            table = self._log.create_once()
            hold = _only(self._of(table), hold_id)
            row = (hold.hold_id, _RELEASED, as_utc(now), by, reason)
            try:
                self._append(table, hold, row)
            except OvertakenError:
                continue  # Somebody else released it at this moment: look again.
            return replace(hold, released_at=row[2], released_by=by, release_reason=reason)
        raise OvertakenError(self._log.uri, f"{_ATTEMPTS} times in a row")

    def holds(self) -> list[LegalHold]:
        """Return every hold that ever was, oldest first."""
        table = self._log.open()
        return [] if table is None else self._of(table)

    def find(self, hold_id: str) -> LegalHold:
        """Return the hold, active or not, of this id or of an id that begins so.

        Raises `ValueError` when there is none, or more than one.
        """
        named = _named(self.holds(), hold_id)
        if len(named) > 1:
            raise ValueError(f"{len(named)} holds begin with {hold_id!r}; give more of the id")
        return named[0]

    def active(self) -> tuple[LegalHold, ...]:
        """Return the holds that protect something now, oldest first."""
        return tuple(hold for hold in self.holds() if hold.active)

    def _of(self, table: DeltaTable) -> list[LegalHold]:
        rows = self._log.read(table, HOLD_SCHEMA.names).sort("at").to_dicts()
        found = {row["hold_id"]: _placed(row) for row in rows if row["event"] == _PLACED}
        for row in rows:
            if row["event"] == _RELEASED:
                found[row["hold_id"]] = replace(
                    found[row["hold_id"]],
                    released_at=row["at"],
                    released_by=row["by"],
                    release_reason=row["reason"],
                )
        return list(found.values())

    def _append(self, table: DeltaTable, hold: LegalHold, row: tuple[Any, ...]) -> None:
        told = dict(zip(HOLD_SCHEMA.names, row, strict=False))
        told["query"] = msgspec.json.encode(hold.query.as_dict()).decode()
        rows = pa.Table.from_pylist([told], HOLD_SCHEMA)
        self._log.append(table, rows, app=hold_app(hold.hold_id))

    def _stop_purges(self) -> None:
        """Make the commit by which a purge that began before this moment is refused."""
        for _ in range(_ATTEMPTS):
            table = self._entries.open()
            if table is None:
                return  # Nothing is archived; whoever begins a transaction reads the holds after.
            version = (table.transaction_version(HOLDS_APP) or 0) + 1
            try:
                self._entries.commit(table, [], app=HOLDS_APP, app_version=version)
            except OvertakenError:
                continue  # Another hold was placed at this moment; ours needs its own commit.
            return
        raise OvertakenError(self._entries.uri, f"{_ATTEMPTS} times in a row")


def held_by(holds: Iterable[LegalHold]) -> pl.Expr | None:
    """Return the rows that any of the holds protects; None where there is no hold."""
    conditions = [protects(hold) for hold in holds]
    return pl.any_horizontal(conditions) if conditions else None


def protects(hold: LegalHold) -> pl.Expr:
    """Return the rows that one hold protects; a row of which that is unclear is protected."""
    condition = predicate(hold.query)
    return pl.lit(True) if condition is None else condition.fill_null(True)


def _placed(row: Mapping[str, Any]) -> LegalHold:
    return LegalHold(
        hold_id=row["hold_id"],
        query=_query_of(row["query"]),
        placed_at=row["at"],
        placed_by=row["by"],
        reason=row["reason"],
    )


def _query_of(text: str) -> Query:
    asked = msgspec.json.decode(text)
    ends = [asked.pop(end, None) for end in ("start", "end")]
    start, end = (None if one is None else datetime.fromisoformat(one) for one in ends)
    return parse_query(asked, (start, end))


def _named(holds: Iterable[LegalHold], hold_id: str) -> list[LegalHold]:
    named = [hold for hold in holds if hold_id and hold.hold_id.startswith(hold_id)]
    if not named:
        raise ValueError(
            f"there is no hold {hold_id!r}; `claude-audit hold list --all` shows their ids"
        )
    return named


def _only(holds: Iterable[LegalHold], hold_id: str) -> LegalHold:
    named = _named(holds, hold_id)
    active = [hold for hold in named if hold.active]
    if not active:
        hold = named[-1]
        raise ValueError(
            f"hold {hold.hold_id} was released on {hold.released_at:%Y-%m-%d %H:%M} UTC "
            f"by {hold.released_by}"
        )
    if len(active) > 1:
        raise ValueError(f"{len(active)} active holds begin with {hold_id!r}; give more of the id")
    return active[0]


def _check_told(by: str, reason: str) -> None:
    for name, value in (("by", by), ("reason", reason)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"a hold needs {name}: who decides, and why, stays in its history")
