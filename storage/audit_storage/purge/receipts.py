"""Receipts: what a purge removed, by whom and by which rule, told without its contents.

A purge writes here before it touches the lake, `verify` and the command line read it. Two Delta
tables that only grow: `receipts`, one row per purge, and `purged`, one row per removed entry
with its id, time, commit and Merkle leaf hash. The leaf hashes keep every other proof alive:
the root of a commit of which some entries are gone can still be computed.

A receipt counts once the lake's own log shows the purge's transaction. One whose purge was
killed before that is passed over by every reader, and its entries are still in the lake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from audit_storage.lake.delta_log import DeltaLog, answering
from audit_storage.lake.parquet_scan import scan_files
from audit_storage.lake.query import span_predicate
from audit_storage.lake.schema import LAKE_SCHEMA, TRAIL_ORDER
from audit_storage.layout import ENTRIES, RECEIPTS, place, span_of_day
from audit_storage.purge.plan import HeldRows
from claude_max_audit.settings import Settings

PURGED = "purged"
"""The part of the lake that keeps removed entries' leaf hashes."""

_TEXT, _TIME = pa.string(), pa.timestamp("us", tz="UTC")

RECEIPT_SCHEMA = pa.schema(
    [
        ("receipt_id", _TEXT),
        ("at", _TIME),
        ("by", _TEXT),
        ("policy", _TEXT),
        ("cutoff", _TIME),
        ("first_day", pa.date32()),
        ("last_day", pa.date32()),
        ("rows", pa.int64()),
        ("permanent_kept", pa.int64()),
        ("root", _TEXT),
        ("lake_version", pa.int64()),
        ("policy_sha256", _TEXT),
        ("terms", _TEXT),
        ("held_kept", pa.int64()),
        ("holds", _TEXT),
        ("at_most", pa.int64()),
        ("rejected", _TEXT),
    ]
)
"""`terms`, `holds` and `rejected` are JSON text; the last six are empty in receipts of older
versions."""

LEAF_SCHEMA = pa.schema(
    [
        ("receipt_id", _TEXT),
        ("timestamp", _TIME),
        ("entry_id", _TEXT),
        ("snapshot", _TEXT),
        ("leaf", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeReceipt:
    """One purge. `root` is the RFC 6962 root (hex) over its leaf hashes in trail order.

    `lake_version` is the version that the purge was computed on; the removal is a later one.
    `terms` is the policy as JSON text, `policy_sha256` its SHA-256. `holds` are all holds that
    were active, with what each protected; `at_most` is what the run was allowed to remove.
    `rejected` is what went of the quarantine, each as its day and the SHA-256 of its bytes.
    """

    receipt_id: str
    at: datetime
    by: str
    policy: str
    cutoff: datetime
    first_day: date
    last_day: date
    rows: int
    permanent_kept: int
    root: str
    lake_version: int
    policy_sha256: str | None = None
    terms: str | None = None
    held_kept: int | None = None
    holds: tuple[HeldRows, ...] = ()
    at_most: int | None = None
    rejected: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """The application id under which the lake's log knows the removal."""
        return purge_app(self.receipt_id)

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON values."""
        told = {
            name: value.isoformat() if isinstance(value, date) else value
            for name, value in asdict(self).items()
        }
        return told | {"holds": msgspec.to_builtins(self.holds)}


def purge_app(receipt_id: str) -> str:
    """Return the application id of one purge's only transaction."""
    return f"purge/{receipt_id}"


class ReceiptBook:
    """The receipts of the lake of some settings. Safe to open where there are none yet."""

    def __init__(self, settings: Settings) -> None:
        def log(part: str, schema: pa.Schema, statistics: str) -> DeltaLog:
            return DeltaLog(
                place(settings.lake_uri, part),
                schema,
                configuration={"delta.dataSkippingStatsColumns": statistics},
                storage_options=settings.lake_options,
            )

        self._receipts = log(RECEIPTS, RECEIPT_SCHEMA, "receipt_id,at")
        self._leaves = log(PURGED, LEAF_SCHEMA, "receipt_id,timestamp")
        self._entries = log(ENTRIES, LAKE_SCHEMA, "")

    def add_leaves(self, leaves: pa.Table) -> None:
        """Keep leaf hashes of entries that are about to be removed. Durable on return."""
        self._leaves.append(self._leaves.create_once(), leaves)

    def add_receipt(self, receipt: PurgeReceipt) -> None:
        """Keep the receipt of a removal that is about to happen. Durable on return."""
        table = self._receipts.create_once()
        self._receipts.append(table, pa.Table.from_pylist([_row_of(receipt)], RECEIPT_SCHEMA))
        self._receipts.tidy(table)

    def receipts(self) -> list[PurgeReceipt]:
        """Return the receipts of all purges that took place, oldest first."""
        table, entries = self._receipts.open(), self._entries.open()
        if table is None or entries is None:
            return []
        rows = self._receipts.read(table, RECEIPT_SCHEMA.names)
        found = [_receipt_of(row) for row in rows.sort("at").to_dicts()]
        return [one for one in found if entries.transaction_version(one.app) is not None]

    def leaf_days(self) -> list[date]:
        """Return the UTC days of which entries were purged, in order."""
        rows = self._executed_leaves()
        with answering(self._leaves.uri):
            days = rows.select(pl.col("timestamp").dt.date().unique().sort()).collect()
        return days.to_series().to_list()

    def leaves(self, day: date) -> pl.DataFrame:
        """Return the purged leaves of a UTC day in trail order."""
        within = span_predicate(span_of_day(day))
        assert within is not None
        rows = self._executed_leaves().filter(within)
        with answering(self._leaves.uri):
            return rows.sort(TRAIL_ORDER).collect()

    def all_leaves(self) -> Iterator[pl.DataFrame]:
        """Give all purged leaves in trail order, a day at a time."""
        for day in self.leaf_days():
            yield self.leaves(day)

    def _executed_leaves(self) -> pl.LazyFrame:
        table = self._leaves.open()
        executed = [receipt.receipt_id for receipt in self.receipts()]
        if table is None or not executed:
            empty = pl.from_arrow(LEAF_SCHEMA.empty_table())
            assert isinstance(empty, pl.DataFrame)
            return empty.lazy()
        with answering(self._leaves.uri):
            rows = scan_files(table.file_uris(), self._leaves.options)
        return rows.filter(pl.col("receipt_id").is_in(executed))


_JSON = ("holds", "rejected")


def _row_of(receipt: PurgeReceipt) -> dict[str, Any]:
    told = {name: msgspec.json.encode(getattr(receipt, name)).decode() for name in _JSON}
    return asdict(receipt) | told


def _receipt_of(row: Mapping[str, Any]) -> PurgeReceipt:
    holds = msgspec.json.decode(row["holds"] or "[]", type=tuple[HeldRows, ...])
    rejected = msgspec.json.decode(row["rejected"] or "[]", type=tuple[str, ...])
    return PurgeReceipt(**{**row, "holds": holds, "rejected": rejected})
