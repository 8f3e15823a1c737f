"""`claude-audit archive`: every closed UTC day that the lake lacks goes there, oldest first."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.text import Text

from audit_flows.amounts import count, counted, size
from audit_flows.day_option import add_day, day_of
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import listing
from audit_flows.workplace import Workplace

ROOT_CHARACTERS = 12
"""Characters of a Merkle root that are shown; --json and the job table have all 64."""

EXAMPLES = """\
examples:
  claude-audit archive                       every closed day that the lake lacks
  claude-audit archive --day 2025-11-30
  claude-audit archive --older-than-days 7   leave the newest week in Redis alone
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add which days."""
    parser.epilog = EXAMPLES
    add_day(parser)
    parser.add_argument("--older-than-days", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Archive by the flow `daily-archive`; running it again changes nothing.

    Exit code 1 when entries went to quarantine or the index could not follow.
    """
    day = day_of(args)
    with Workplace.of(args) as place:
        _ = place.redis_url
        with place.terminal.telling("archiving") as tell:
            report = run_flow(
                "daily-archive",
                place.settings,
                on_line=tell,
                day=day,
                older_than_days=args.older_than_days,
            )
        place.terminal.json([asdict(one) for one in report.days])
        _show(place, report)
    return 1 if report.quarantined or report.index_behind else 0


def _show(place: Workplace, report: Any) -> None:
    from audit_storage.archive.gaps import gaps_told

    if not report.days:
        place.terminal.show("nothing to archive: the lake holds every closed day that Redis has")
        return
    place.terminal.show(
        listing(
            ("day (UTC)", ">entries", ">size", ">were there", ">quarantined", "root"),
            (
                (
                    str(day.day),
                    count(day.archived),
                    size(day.bytes),
                    count(day.already),
                    count(day.quarantined),
                    (day.merkle_root or "")[:ROOT_CHARACTERS],
                )
                for day in report.days
            ),
        ),
        Text(
            f"{counted(report.archived, 'entry')} of {counted(len(report.days), 'day')} went to "
            "the lake and were read back from it"
        ),
    )
    if report.quarantined:
        place.terminal.warn(
            f"{counted(report.quarantined, 'entry')} did not fit and went to quarantine, with "
            "the reason"
        )
    if report.gaps:
        place.terminal.warn(f"the lake lacks numbers {gaps_told(report.gaps)}")
    for day in report.days:
        if day.index_error is not None:
            place.terminal.warn(
                f"the index lacks {day.day} until `claude-audit reindex` ran: {day.index_error}"
            )
