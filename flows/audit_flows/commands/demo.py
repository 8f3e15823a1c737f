"""`claude-audit demo`: the whole trail at work, in a folder of its own.

Imports, archives, searches, exports and checks, and prints what the stores hold after each step.
Exit code 1 when two numbers that must agree do not. Leaves the folder, and nothing running.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from audit_flows.amounts import count, counted
from audit_flows.demo.agreement import Agreement
from audit_flows.demo.home import make_home, open_home
from audit_flows.demo.source import Holdings, Source, choose_source
from audit_flows.terminal import Terminal, ending, fields
from audit_flows.workplace import Workplace

DEMO_HOME = Path(".demo")

EXAMPLES = """\
examples:
  claude-audit demo                      your own transcripts, or else a generated swarm
  claude-audit demo ~/.claude/projects   Claude Code transcripts
  claude-audit demo events.jsonl         one event a line; see docs/import.md
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the input; the folder is --home, or .demo here."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        metavar="PATH",
        help="a file, or a folder with .jsonl; default: your own transcripts, or a generated swarm",
    )


def run(args: argparse.Namespace) -> int:
    """Do everything once, from an empty folder; says at the end where to look next."""
    terminal = Terminal()
    source = choose_source(args.path and args.path.expanduser())
    home = Path(args.home or DEMO_HOME)
    settings = make_home(home)
    terminal.show(
        Text("Claude Max Audit: the whole trail, once", style="bold"),
        fields([("input", ending(source.told, 90)), ("home", f"{home}, made anew for each demo")]),
    )
    agree = Agreement()
    with open_home(settings, terminal) as place:
        total = _carry(place, source, agree)
    terminal.show(*_end(agree, total, home))
    return 1 if agree.wrong else 0


def _carry(place: Workplace, source: Source, agree: Agreement) -> int:
    """Take the source through every step; returns the entries that Redis held after the import."""
    from audit_flows.demo import findings, intake

    show = place.terminal.show
    report = intake.bring_in(place, source)
    held = Holdings.of(source)
    total = place.hot.count(intake.EVERYTHING)
    show(_head("1  Import", "into Redis, through the auditor and its local write-ahead log"))
    show(intake.show_import(place, report, held, source.grows, agree))
    place.terminal.remark(
        f"\narchiving {counted(total, 'entry')}; indexing them by meaning takes longest ..."
    )
    intake.archive(place)
    show(_head("2  Archive", "closed days into the lake, by the Prefect flow daily-archive"))
    show(intake.show_archive(place, total, agree))
    show(_head("3  Search", "Redis and lake together"))
    show(findings.show_searches(place, held, agree))
    show(_head("4  Export", "everything, by the Prefect flow export"))
    show(findings.show_export(place, total, agree))
    show(_head("5  Check", "by the Prefect flows data-quality and verify"))
    show(findings.show_checks(place, agree))
    return total


def _head(step: str, told: str) -> Text:
    return Text.assemble("\n", (step, "bold cyan"), (f"  {told}", "dim"))


def _end(agree: Agreement, total: int, home: Path) -> list[RenderableType]:
    """Return the verdict, and where to look next."""
    if agree.wrong:
        lines = "".join(f"\n  {wrong}" for wrong in agree.wrong)
        verdict = Text(f"\n{len(agree.wrong)} of {agree.made} numbers do not agree:{lines}", "red")
    else:
        verdict = Text.assemble(
            ("\nAll agree. ", "bold green"),
            f"{count(total)} entries, and {agree.made} pairs of numbers read back from the input, "
            "Redis, the lake,\nthe index, the job table and the exported file.",
        )
    where = "" if home == Path.home() else f" --home {home}"
    return [
        verdict,
        Text("\nlook further (in a checkout, claude-audit is .venv/bin/claude-audit)", "dim"),
        Text(f"  claude-audit{where} search --since 2020-01-01 --limit 5"),
        Text(f"  claude-audit{where} search \"who decided this\""),
        Text(f"  claude-audit{where} status"),
        Text("  README.md, and docs/architecture.md for the life of an entry"),
    ]
