"""`claude-audit reconcile`: do Redis, lake and index hold the same? Names every difference."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime

from audit_flows.amounts import count, counted
from audit_flows.terminal import listing
from audit_flows.workplace import Workplace
from audit_quality.reconcile import DayTally, reconcile
from audit_storage.layout import day_is_closed

SHOWN_IDS = 2
"""Ids that a row of the table names of each difference; `--json` has more."""

EXAMPLES = """\
examples:
  claude-audit reconcile
  claude-audit reconcile --all         days on which nothing differs, too
  claude-audit reconcile --json        the ids that differ, up to 20 of each kind and day
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add how much to show."""
    parser.epilog = EXAMPLES
    parser.add_argument("--all", action="store_true", help="show days that agree, too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compare the stores and change nothing. Exit code 1 when a closed day differs.

    The day that is not over waits for its archive and is no difference.
    """
    from audit_flows.stores import open_stores

    now = datetime.now(UTC)
    with Workplace.of(args) as place:
        _ = place.redis_url
        with open_stores() as stores:
            tallies = reconcile(
                stores.lake,
                stores.hot,
                stores.index,
                now,
                hot_days=stores.settings.hot_storage_days,
                quarantined={
                    one.entry_id
                    for one in stores.quarantine.list()
                    if one.entry_id and not one.of_lake
                },
                thorough=True,
            )
        differing = [one for one in tallies if one.findings and day_is_closed(one.day, now)]
        place.terminal.json([{**asdict(one), "findings": one.findings} for one in tallies])
        shown = tallies if args.all else differing
        if shown:
            columns = ("day (UTC)", ">Redis", ">lake", ">index", "what differs")
            place.terminal.show(listing(columns, map(_row, shown)))
        told = "nothing differs" if not differing else f"{counted(len(differing), 'day')} differ"
        place.terminal.show(f"{counted(len(tallies), 'day')} compared: {told}")
    return 1 if differing else 0


def _row(tally: DayTally) -> tuple[str, ...]:
    held = (tally.hot, tally.lake, tally.index)
    numbers = ("-" if number is None else count(number) for number in held)
    told = "; ".join(difference.told(SHOWN_IDS) for difference in tally.differences)
    return (str(tally.day), *numbers, told)
