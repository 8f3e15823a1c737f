"""Puts the results of the benches into the README's performance section.

Reads bench/results/ and rewrites what stands between the two markers in README.md, nothing else;
run twice, it changes nothing. Where a result is missing, its rows are. Raises `SystemExit`
when there is no result, or no place for it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import figures
from run import RESULTS

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- bench: made by bench/publish.py -->"
END = "<!-- /bench -->"


def section(kept: dict[str, Any]) -> str:
    """The markdown of all results."""
    results = {name: one["result"] for name, one in kept.items()}
    parts = [_machines(kept)]
    if "call_latency" in results:
        parts.append("\n".join(_calls(results["call_latency"])))
    parts.append("\n".join(_figures(results)))
    return "\n\n".join(parts)


def _machines(kept: dict[str, Any]) -> str:
    ones = list(kept.values())
    days = sorted({one["measured_at"][:10] for one in ones})
    cores, pythons = {str(one["cores"]) for one in ones}, {one["python"] for one in ones}
    return (
        f"Measured {' and '.join(days)} on {' or '.join(sorted(cores))} cores with Python "
        f"{' and '.join(sorted(pythons))}, all contenders of a bench in one run, in turns; "
        "[bench/README.md](bench/README.md) says how to read it."
    )


def _calls(result: Any) -> Iterator[str]:
    size = result["content_bytes"]
    yield f"| one call, {size} bytes of content, µs | mean | p50 | p99 | p99.9 | ours is |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, spread in result["microseconds"].items():
        part = result["our_mean_of_theirs"].get(name)
        shown = " | ".join(f"{spread[key]:.1f}" for key in ("mean", "p50", "p99", "p99.9"))
        yield f"| {name} | {shown} | {'' if part is None else f'{part:.2f} of it'} |"


def _figures(results: dict[str, Any]) -> Iterator[str]:
    yield "| figure | measured | wanted | reached |"
    yield "|---|---:|---:|---|"
    for figure in figures(results):
        yield f"| {' | '.join(figure.cells())} |"


def publish(readme: str, made: str) -> str:
    """The README with `made` between the markers."""
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not between.search(readme):
        raise SystemExit(f"README.md has no place for results; put these lines in:\n{BEGIN}\n{END}")
    return between.sub(lambda _: f"{BEGIN}\n\n{made}\n\n{END}", readme)


def main() -> None:
    """Read the results and rewrite the section."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    places = sorted(RESULTS.glob("*.json"))
    if not places:
        raise SystemExit("no results in bench/results; run `make bench` first")
    kept = {place.stem: json.loads(place.read_text()) for place in places}
    README.write_text(publish(README.read_text(), section(kept)))


if __name__ == "__main__":
    main()
