"""What an entry takes in the lake: made-up ones with contents of 180 characters, and real ones.

The made-up entries are a month of `swarm_years.py`, committed day by day and compacted: all of
them have a content. `api_like` leaves out the content where the library's own calls give none
(context accesses and metrics), as most lakes hold them. The real ones are the events beside the
checkout, if they are there, made entries by the library; they are compared with the JSON lines
that an export of them has.

The result is JSON: bytes an entry of the Parquet files, by column too, and the parts of the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from audit_storage.lake.compaction import compact_closed_months
from audit_storage.lake.lake import Lake
from audit_storage.layout import archive_app
from claude_max_audit.entry import AuditEntry, decode_entry
from claude_max_audit.recorder import Recorder, encode_canonical
from claude_max_audit.settings import load_settings
from swarm_years import CONTENT_CHARACTERS, LAST_DAY, SwarmYears

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"bytes-{os.getpid()}"
REALDATA = Path(
    os.environ.get("AUDIT_REALDATA") or Path(__file__).resolve().parents[2] / "shared" / "realdata"
)
"""The folder of real events that the tests use as well; none of it is kept in the project."""

WANTED_BYTES = 140.0
WANTED_PART = 0.2
_DAYS = 31
_LATER = datetime(2100, 1, 1, tzinfo=UTC)
_WITHOUT_CONTENT = ("context_access", "performance_metric")
_UNTIMED = datetime(2024, 1, 1, tzinfo=UTC)
_COPIED = ("content", "to_agent", "message_type", "operation", "size_bytes", "metadata")


def lake_of(name: str, days: Iterable[list[AuditEntry]]) -> tuple[dict[str, Any], int]:
    """Make a compacted lake of days; returns its figures and the bytes of its JSON lines."""
    lake = Lake(load_settings(home=SCRATCH / name))
    lines = 0
    for entries in days:
        with lake.begin(archive_app(entries[0].day)) as transaction:
            transaction.add(entries)
            transaction.commit()
        lines += sum(len(entry.to_json().encode()) + 1 for entry in entries)
    compact_closed_months(lake, _LATER)
    files, rows = lake.view().files, lake.count()
    columns: Counter[str] = Counter()
    for file in files:
        path = f"{lake.uri.removeprefix('file://')}/{file.path}"
        footer = pq.ParquetFile(path).metadata
        for group in range(footer.num_row_groups):
            for number in range(footer.num_columns):
                column = footer.row_group(group).column(number)
                columns[column.path_in_schema.split(".")[0]] += column.total_compressed_size
    size = sum(file.bytes for file in files)
    found = {
        "entries": rows,
        "files": len(files),
        "bytes_an_entry": round(size / rows, 1),
        "json_bytes_an_entry": round(lines / rows, 1),
        "part_of_json": round(size / lines, 4),
        "by_column": {name: round(taken / rows, 2) for name, taken in columns.most_common()},
    }
    return found, lines


def made_days(entries: int, api_like: bool) -> Iterator[list[AuditEntry]]:
    """Give the days of one month; `api_like`: without contents where the calls take none."""
    for of_day in SwarmYears(entries, _DAYS).each_day():
        made = [decode_entry(line) for line in of_day.lines()]
        yield [_without_content(entry) for entry in made] if api_like else made


def _without_content(entry: AuditEntry) -> AuditEntry:
    if entry.entry_type not in _WITHOUT_CONTENT:
        return entry
    told = entry.to_dict() | {"content": None, "entry_hash": None}
    recorder = Recorder(entry.writer_id)
    made = recorder.make(
        entry.entry_type, entry.agent_id, entry_id=entry.entry_id, timestamp=entry.timestamp,
        swarm_id=entry.swarm_id, session_id=entry.session_id, operation=entry.operation,
        size_bytes=entry.size_bytes, metadata=told["metadata"], retention=entry.retention,
    )  # fmt: skip
    fields = made.to_dict() | {
        "recorded_at": entry.recorded_at, "writer_seq": entry.writer_seq, "entry_hash": None,
    }  # fmt: skip
    return AuditEntry.from_dict(fields)


def real_days(path: Path) -> Iterator[list[AuditEntry]]:
    """Give a source's events as entries, by UTC day; those without a time follow each other."""
    recorder = Recorder(path.stem)
    days: dict[Any, list[AuditEntry]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        event = json.loads(line)
        at = event["timestamp"]
        moment = datetime.fromisoformat(at) if at else _UNTIMED + timedelta(seconds=number)
        made = recorder.make(
            event["kind"],
            event["from_agent"],
            timestamp=moment,
            swarm_id=event["swarm"],
            session_id=event["session"],
            from_agent=event["from_agent"] if event["kind"] == "message" else None,
            **{name: event[name] for name in _COPIED},
        )
        days.setdefault(made.timestamp.date(), []).append(decode_entry(encode_canonical(made)))
    yield from (days[day] for day in sorted(days))


def measure(entries: int) -> dict[str, Any]:
    """Make all lakes and weigh them."""
    try:
        made, _ = lake_of("made", made_days(entries, api_like=False))
        api_like, _ = lake_of("api-like", made_days(entries, api_like=True))
        sources = sorted(REALDATA.glob("events/*.jsonl"))
        real = {path.stem: lake_of(path.stem, real_days(path)) for path in sources}
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    found: dict[str, Any] = {
        "what": "bytes of the lake's Parquet files for an entry",
        "month": LAST_DAY.isoformat()[:7],
        "content_characters": CONTENT_CHARACTERS,
        "made": made,
        "api_like": api_like,
        "real": {name: one for name, (one, _) in real.items()},
        "wanted": {"bytes_an_entry": WANTED_BYTES, "part_of_json": WANTED_PART},
    }
    if real:
        lines = sum(lines for _, lines in real.values())
        size = sum(one["bytes_an_entry"] * one["entries"] for one, _ in real.values())
        found["real_part_of_json"] = round(size / lines, 4)
    else:
        found["real_skipped"] = "no real events are there; AUDIT_REALDATA names their folder"
    return found


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=120_000)
    options = asked.parse_args()
    json.dump(measure(options.entries), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
