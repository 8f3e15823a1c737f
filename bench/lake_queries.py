"""Questions to years of archived entries, beside DuckDB on the same files.

A lake is made day by day, as the archive makes it, then compacted and given its lookup keys.
Then each question is asked in turns: by the library, and by DuckDB with SQL over the very files
that the table's newest version holds. Both must find the same number, or the bench fails. What
DuckDB gives are columns; the library gives entries, decoded and ready.

The result is JSON: medians in milliseconds and their ratio for each question, bytes of the lake
for an entry, and what a day's commit took at the beginning and at the end. `--entries 10000000
--days 2557` (or AUDIT_BENCH_LAKE_ENTRIES) makes it as large as the figures ask for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from statistics import median
from time import perf_counter

from audit_storage.lake.compaction import compact_closed_months
from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry, decode_entry
from claude_max_audit.query import Query, Span
from claude_max_audit.settings import load_settings
from claude_max_audit.vocabulary import SecuritySeverity
from traffic import AGENTS, END, SWARMS, traffic

SCRATCH = Path(__file__).resolve().parent / "scratch" / f"lake-{os.getpid()}"
FULL_DAYS = 2_557
CONTENT_BYTES = 180
LIMIT = 100
WANTED_RATIO = 1.0
WANTED_LOOKUP_MS = 50.0
WANTED_BYTES = 140.0
WANTED_COMMIT_RATIO = 2.0
_ENDS = 20
"""Commits at either end of the lake's life of which the medians are compared."""


@dataclass(frozen=True)
class Question:
    """One question, asked both ways; each returns the number of entries that fit."""

    ours: Callable[[], int]
    theirs: Callable[[], int]


def build(lake: Lake, entries: int, days: int) -> tuple[list[float], AuditEntry]:
    """Archive all days; returns the seconds of each commit, and an entry from the middle."""
    took: list[float] = []
    sample: AuditEntry | None = None
    made = traffic(entries, days=days, size=CONTENT_BYTES)
    for day, of_day in groupby(made, key=lambda stamped: stamped.entry.day):
        rows = [decode_entry(stamped.canonical) for stamped in of_day]
        if sample is None or len(took) == days // 2:
            sample = rows[0]
        started = perf_counter()
        with lake.begin(f"archive/{day}") as transaction:
            transaction.add(rows)
            transaction.commit()
        took.append(perf_counter() - started)
    assert sample is not None
    compact_closed_months(lake, END + timedelta(days=40))
    lake.build_lookup()
    lake.vacuum_now()
    return took, sample


def questions(lake: Lake, sample: AuditEntry, days: int) -> dict[str, Question]:
    """What people ask a lake, for a moment in the middle of its years."""

    import duckdb  # There for `make bench` only.

    files = [f"{lake.uri.removeprefix('file://')}/{file.path}" for file in lake.view().files]
    db = duckdb.connect(config={"threads": os.cpu_count() or 1})
    db.execute("SET TimeZone='UTC'")
    db.from_parquet(files, union_by_name=False).create_view("entries")
    middle = END - timedelta(days=days // 2)
    month = Span(middle, middle + timedelta(days=min(30, days // 2)))
    year = Span(middle - timedelta(days=min(182, days // 2)), middle + timedelta(days=183))
    agent, swarm = AGENTS[7], SWARMS[2]

    def page(query: Query) -> int:
        return lake.page(query, LIMIT, 0).total

    def sql_page(where: str, *given: object) -> int:
        newest = db.execute(
            f"SELECT * FROM entries WHERE {where} "
            f"ORDER BY timestamp DESC, entry_id DESC LIMIT {LIMIT}",
            given,
        ).fetchall()
        found = db.execute(f"SELECT count(*) FROM entries WHERE {where}", given).fetchone()
        assert found is not None
        assert len(newest) == min(LIMIT, found[0])
        return int(found[0])

    span = "timestamp BETWEEN ? AND ?"
    swarms = "(swarm_id = ? OR list_contains(swarm_ids, ?))"
    by_month = (
        "SELECT date_trunc('month', timestamp), severity, count(*) FROM entries "
        "WHERE severity IS NOT NULL GROUP BY 1, 2"
    )
    return {
        "one agent, 30 days": Question(
            lambda: page(Query({"agent_id": (agent,)}, month)),
            lambda: sql_page(f"agent_id = ? AND {span}", agent, month.start, month.end),
        ),
        "one swarm, a year": Question(
            lambda: page(Query({"swarm_id": (swarm,)}, year)),
            lambda: sql_page(f"{swarms} AND {span}", swarm, swarm, year.start, year.end),
        ),
        "severities, each month": Question(
            lambda: severities(lake, days),
            lambda: sum(row[2] for row in db.execute(by_month).fetchall()),
        ),
        "one content hash, all years": Question(
            lambda: page(Query({"content_hash": (sample.content_hash,)})),
            lambda: sql_page("content_hash = ?", sample.content_hash),
        ),
        "newest 100 of an agent": Question(
            lambda: page(Query({"agent_id": (agent,)})),
            lambda: sql_page("agent_id = ?", agent),
        ),
    }


def severities(lake: Lake, days: int) -> int:
    """Every severity of every month, one exact count each."""
    total = 0
    start = (END - timedelta(days=days)).replace(day=1)
    while start < END:
        following = (start + timedelta(days=32)).replace(day=1)
        of_month = Span(start, following - timedelta(microseconds=1))
        for severity in SecuritySeverity:
            total += lake.count_matches(Query({"severity": (severity.value,)}, of_month))
        start = following
    return total


def in_turns(asked: dict[str, Question], rounds: int) -> dict[str, dict[str, float]]:
    """Ask everything both ways, in turns; the first round warms up."""
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in asked}
    found: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, question in asked.items():
            started = perf_counter()
            ours = question.ours()
            between = perf_counter()
            theirs = question.theirs()
            ended = perf_counter()
            assert ours == theirs, f"{name}: {ours} here, {theirs} in DuckDB"
            found[name] = ours
            if number:
                took[name][0].append(between - started)
                took[name][1].append(ended - between)
    return {
        name: {
            "entries": found[name],
            "ours_ms": round(median(ours) * 1000, 2),
            "duckdb_ms": round(median(theirs) * 1000, 2),
            "ratio": round(median(ours) / median(theirs), 3),
        }
        for name, (ours, theirs) in took.items()
    }


def measure(entries: int, days: int, rounds: int) -> dict[str, object]:
    """Build the lake and ask everything."""
    import duckdb


    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        lake = Lake(load_settings(home=SCRATCH))
        started = perf_counter()
        commits, sample = build(lake, entries, days)
        built = perf_counter() - started
        size = sum(file.bytes for file in lake.view().files)
        ends = min(_ENDS, len(commits) // 2)
        first, last = median(commits[1 : ends + 1]), median(commits[-ends:])
        return {
            "what": "milliseconds of a question to the lake, and of DuckDB on the same files",
            "entries": entries,
            "days": days,
            "content_bytes": CONTENT_BYTES,
            "files": len(lake.view().files),
            "duckdb": duckdb.__version__,
            "built_seconds": round(built, 1),
            "bytes_an_entry": round(size / entries, 1),
            "commit_ms": {"first": round(first * 1000, 1), "last": round(last * 1000, 1)},
            "commit_ratio": round(last / first, 3),
            "questions": in_turns(questions(lake, sample, days), rounds),
            "wanted": {
                "ratio": WANTED_RATIO,
                "lookup_ms": WANTED_LOOKUP_MS,
                "bytes_an_entry": WANTED_BYTES,
                "commit_ratio": WANTED_COMMIT_RATIO,
            },
        }
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


def main() -> None:
    """Measure and print JSON."""
    full = os.environ.get("AUDIT_BENCH_LAKE_ENTRIES")
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=int(full or 200_000))
    asked.add_argument("--days", type=int, default=FULL_DAYS if full else 256)
    asked.add_argument("--rounds", type=int, default=7)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.days, options.rounds), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
