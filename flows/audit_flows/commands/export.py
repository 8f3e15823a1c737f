"""`claude-audit export`: everything that fits, hot and cold, in one file with its manifest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.text import Text

from audit_flows.amounts import count, size
from audit_flows.filters import add_filters, filters_of
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import fields
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace
from claude_max_audit.asking import EXPORT_FORMATS

EXAMPLES = """\
examples:
  claude-audit export --swarm research                     JSON lines, in the exports' folder
  claude-audit export --agent planner -o planner.csv       the name's ending tells the format
  claude-audit export --swarm research -o research.jsonl.zst
  claude-audit export --since 2025-01-01 --until 2025-12-31 --format parquet
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the filters, the format and the place."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--format", choices=EXPORT_FORMATS, help="default: by the output's ending, else jsonl"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="never written over; default: a new name in the exports' folder",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    """Export by the flow `export`, so that the run stands in the history; print what it wrote."""
    query, time_range = filters_of(args)
    start, end = time_range or (None, None)
    output = args.output and args.output.expanduser().absolute()
    chosen = args.format or _format_of(output)
    with Workplace.of(args) as place:
        _ = place.redis_url  # an embedded Redis is started where no other is named
        with place.terminal.counting("exporting", "entries") as counted:
            report = run_flow(
                "export",
                place.settings,
                on_progress=counted,
                query=query,
                format=chosen,
                start_date=start,
                end_date=end,
                output_path=output,
            )
        place.terminal.json(as_json(report))
        place.terminal.show(
            fields(
                [
                    ("file", str(report.path)),
                    ("entries", Text(count(report.rows), style="bold")),
                    ("size", size(report.size_bytes)),
                    ("SHA-256", report.sha256),
                    ("manifest", report.manifest_path.name),
                ]
            )
        )
    return 0


def as_json(report: Any) -> dict[str, Any]:
    """Return an export's report as plain values."""
    return {
        "path": str(report.path),
        "manifest": str(report.manifest_path),
        "format": report.format,
        "rows": report.rows,
        "size_bytes": report.size_bytes,
        "sha256": report.sha256,
    }


def _format_of(output: Path | None) -> str:
    """Return the format that a file's ending names; raises `UsageError` for an unknown one."""
    if output is None or not output.suffix:
        return "jsonl"
    name = output.name.lower()
    fitting = [format for format in EXPORT_FORMATS if name.endswith(f".{format}")]
    if not fitting:
        raise UsageError(
            f"{output.name} ends in none of {', '.join(EXPORT_FORMATS)}; say which with --format"
        )
    return fitting[0]
