"""`claude-audit history`: what each job did, and the last days at a glance, from the lake."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.text import Text

from audit_flows.amounts import count, size
from audit_flows.run_in_process import JOBS
from audit_flows.terminal import listing, one_line
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace

DAYS = 30
"""Days of the grid, and of the rows: what fits a screen twice."""

MOST_DAYS = 4_000
"""More than ten years; a grid of more is rather a mistake."""

NOTE_WIDTH = 40

EXAMPLES = """\
examples:
  claude-audit history                      every job, and the last 30 days as a grid
  claude-audit history daily-archive --days 365
  claude-audit history --json | jq '.days[] | select(.state == "missed")'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add which job and how many days."""
    parser.epilog = EXAMPLES
    parser.add_argument("job", nargs="?", metavar="job", help=", ".join(JOBS))
    parser.add_argument("--days", type=int, default=DAYS, metavar="N", help="default 30")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the job table's rows and the grid; exit code 1 when a day asks somebody to look."""
    if args.job is not None and args.job not in JOBS:
        raise UsageError(f"there is no job {args.job!r}; known are {', '.join(JOBS)}")
    if not 1 <= args.days <= MOST_DAYS:
        raise UsageError(f"--days is a number from 1 to {MOST_DAYS:,}")
    with Workplace.of(args) as place:
        return _print(place, args.job, args.days)


def _print(place: Workplace, job: str | None, number: int) -> int:
    from audit_flows.overview_grid import COLUMNS, cells, summary
    from audit_storage.jobs import JobTable
    from audit_storage.overview import overview

    now = datetime.now(UTC)
    jobs = JobTable(place.settings)
    days = overview(place.lake, jobs, now, number)
    since = now - timedelta(days=number)
    records = [one for one in jobs.history(job, 1_000_000) if one.started_at >= since]
    place.terminal.json(
        {
            "days": [_day(one) for one in days],
            "runs": [asdict(record) for record in records],
        }
    )
    place.terminal.show(
        listing(
            ("run at (UTC)", "job", "day", "result", ">entries", ">size", "note"),
            (
                (
                    f"{one.started_at:%Y-%m-%d %H:%M}",
                    one.job,
                    str(one.day or ""),
                    one.result,
                    count(one.rows),
                    size(one.bytes) if one.bytes else "",
                    one_line(_note(one), NOTE_WIDTH),
                )
                for one in records
            ),
        )
        if records
        else f"no run in the last {number} days"
    )
    if job is None:
        place.terminal.show(
            listing(COLUMNS, (_styled(one, list(cells(one))) for one in days)), summary(days)
        )
    return 1 if any(one.stands_out for one in days) else 0


def _note(record: Any) -> str:
    from audit_flows.job_note import note

    return note(record)


def _styled(day: Any, row: list[str]) -> list[Any]:
    return [Text(cell, style="bold red") for cell in row] if day.stands_out else row


def _day(day: Any) -> dict[str, Any]:
    told = {name: getattr(day, name) for name in day.__slots__ if name != "runs"}
    return {**told, "state": day.state.value, "stands_out": day.stands_out}
