"""`claude-audit verify`: is the lake whole? Everything is computed anew from its stored bytes."""

from __future__ import annotations

import argparse

from rich.text import Text

from audit_flows.amounts import count, counted
from audit_flows.day_option import add_day, day_of
from audit_flows.lake_not_whole import LakeNotWholeError
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import fields
from audit_flows.workplace import Workplace
from audit_storage.verify.findings import VerifyReport

SHOWN_FINDINGS = 50
"""Findings that are printed; --json has up to a thousand."""

EXAMPLES = """\
examples:
  claude-audit verify                    the whole lake
  claude-audit verify --day 2025-11-30   one UTC day of it
  claude-audit verify --json | jq .whole
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add which day."""
    parser.epilog = EXAMPLES
    add_day(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Verify by the flow `verify`; every misfit is named, and the exit code is 1."""
    day = day_of(args)
    with Workplace.of(args) as place:
        with place.terminal.telling("verifying") as tell:
            try:
                report: VerifyReport = run_flow("verify", place.settings, on_line=tell, day=day)
            except LakeNotWholeError as damaged:
                report = damaged.report
        place.terminal.json(report.as_dict())
        _show(place, report)
    return 0 if report.whole else 1


def _show(place: Workplace, report: VerifyReport) -> None:
    place.terminal.show(
        fields(
            [
                ("entries", f"{count(report.entries)}, every hash computed anew"),
                ("files", f"{count(report.files)} of lake version {report.lake_version}"),
                ("commits", f"{count(report.commits)}, every Merkle root computed anew"),
                ("purged", f"{count(report.purged)}, of which the leaf hashes are kept"),
            ]
        )
    )
    for note in report.notes:
        place.terminal.show(Text(f"  {note}", style="dim"))
    for finding in report.findings[:SHOWN_FINDINGS]:
        entry = f" {finding.entry_id}" if finding.entry_id else ""
        place.terminal.show(f"{finding.kind}{entry} in {finding.where}: {finding.detail}")
    more = report.total_findings - min(len(report.findings), SHOWN_FINDINGS)
    if more:
        place.terminal.show(f"and {count(more)} more")
    if report.whole:
        place.terminal.show(Text("the lake is whole", style="bold green"))
    else:
        place.terminal.show(
            Text(f"{counted(report.total_findings, 'thing')} in the lake do not fit", "bold red")
        )
        for line in report.advice():
            place.terminal.show(f"  {line}")
