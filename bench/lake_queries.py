"""Questions to years of archived entries, beside DuckDB on the same files.

The lake is the one of `years_lake.py`: made day by day, each month compacted, with its lookup
keys. Each question is asked in turns: by the library, and by DuckDB with SQL over the very files
that the table's newest version holds. Both must find the same, or the bench fails. What DuckDB
gives are columns; the library gives entries, decoded and ready.

The result is JSON: medians in milliseconds and their ratio for each question, and bytes of the
lake for an entry. `--entries 10000000 --days 2557` (or AUDIT_BENCH_LAKE_ENTRIES) makes it as large
as the figures ask for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from statistics import median
from time import perf_counter
from typing import Any

import duckdb

from audit_storage.lake.lake import Lake
from claude_max_audit.query import Query, Span
from swarm_years import CONTENT_CHARACTERS
from years_lake import DEFAULT_DAYS, DEFAULT_ENTRIES, YearsLake, years_lake

LIMIT = 100
WANTED_RATIO = 1.0
WANTED_LOOKUP_MS = 50.0
WANTED_BYTES = 140.0
LARGER = 10_000_000
"""Above so many entries DuckDB's time is not the bound: at 100,000,000 it may take four times
what was measured at 10,000,000."""


@dataclass(frozen=True)
class Question:
    """One question, asked both ways; each returns what it found, to be compared."""

    ours: Callable[[], object]
    theirs: Callable[[], object]


def questions(years: YearsLake, lake: Lake) -> dict[str, Question]:
    """What people ask a lake, for a day in the middle of its years."""
    files = [f"{lake.uri.removeprefix('file://')}/{file.path}" for file in lake.view().files]
    db = duckdb.connect(config={"threads": os.cpu_count() or 1})
    db.execute("SET TimeZone='UTC'")
    db.from_parquet(files, union_by_name=False).create_view("entries")
    made, number = years.years, years.days // 2
    of_day = made.day(number)
    agent, swarm = made.agent_of(number)
    content_hash = of_day.rows.column("content_hash")[of_day.rows.num_rows // 2].as_py()
    middle = datetime.combine(of_day.day, time.min, UTC)
    month = Span(middle - timedelta(days=15), middle + timedelta(days=15))
    year = Span(middle - timedelta(days=182), middle + timedelta(days=183))

    def page(query: Query) -> object:
        found = lake.page(query, LIMIT, 0)
        return found.total, [entry.entry_id for entry in found.entries]

    def sql_page(where: str, *given: object) -> object:
        newest = db.execute(
            f"SELECT * FROM entries WHERE {where} "
            f"ORDER BY timestamp DESC, entry_id DESC LIMIT {LIMIT}",
            given,
        ).fetchall()
        found = db.execute(f"SELECT count(*) FROM entries WHERE {where}", given).fetchone()
        assert found is not None
        return found[0], [row[0] for row in newest]

    span = "timestamp BETWEEN ? AND ?"
    swarms = "(swarm_id = ? OR list_contains(swarm_ids, ?))"
    by_month = (
        "SELECT strftime(timestamp, '%Y-%m'), severity, count(*) FROM entries "
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
            lambda: lake.months_by("severity", Query()),
            lambda: {(row[0], row[1]): row[2] for row in db.execute(by_month).fetchall()},
        ),
        "one content hash, all years": Question(
            lambda: page(Query({"content_hash": (content_hash,)})),
            lambda: sql_page("content_hash = ?", content_hash),
        ),
        "newest 100 of an agent": Question(
            lambda: page(Query({"agent_id": (agent,)})),
            lambda: sql_page("agent_id = ?", agent),
        ),
    }


def in_turns(asked: dict[str, Question], rounds: int) -> dict[str, dict[str, Any]]:
    """Ask everything both ways, in turns whose order changes; the first round warms up."""
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in asked}
    found: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, question in asked.items():
            both = [question.ours, question.theirs]
            turns = [0, 1] if number % 2 else [1, 0]
            answers: list[object] = [None, None]
            for which in turns:
                started = perf_counter()
                answers[which] = both[which]()
                if number:
                    took[name][which].append(perf_counter() - started)
            assert answers[0] == answers[1], f"{name}: {answers[0]} here, {answers[1]} in DuckDB"
            found[name] = _entries_in(answers[0])
    return {
        name: {
            "entries": found[name],
            "ours_ms": round(median(ours) * 1000, 2),
            "duckdb_ms": round(median(theirs) * 1000, 2),
            "ratio": round(median(ours) / median(theirs), 3),
        }
        for name, (ours, theirs) in took.items()
    }


def _entries_in(answer: Any) -> int:
    return sum(answer.values()) if isinstance(answer, dict) else answer[0]


def measure(entries: int, days: int, rounds: int) -> dict[str, object]:
    """Make or find the lake and ask everything."""
    with years_lake(entries, days) as years:
        lake = years.open()
        files = lake.view().files
        return {
            "what": "milliseconds of a question to the lake, and of DuckDB on the same files",
            "entries": entries,
            "days": days,
            "content_characters": CONTENT_CHARACTERS,
            "files": len(files),
            "duckdb": duckdb.__version__,
            "built_seconds": years.seconds,
            "compaction_seconds": years.compaction_seconds,
            "bytes_an_entry": round(sum(file.bytes for file in files) / entries, 1),
            "questions": in_turns(questions(years, lake), rounds),
            "wanted": {
                "ratio": WANTED_RATIO,
                "lookup_ms": WANTED_LOOKUP_MS,
                "bytes_an_entry": WANTED_BYTES,
            },
        }


def main() -> None:
    """Measure and print JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--entries", type=int, default=DEFAULT_ENTRIES)
    asked.add_argument("--days", type=int, default=DEFAULT_DAYS)
    asked.add_argument("--rounds", type=int, default=7)
    options = asked.parse_args()
    json.dump(measure(options.entries, options.days, options.rounds), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
