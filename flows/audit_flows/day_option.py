"""The option `--day` of the commands that can take one UTC day: how it is told and read."""

from __future__ import annotations

import argparse
from datetime import date

from audit_flows.moments import parse_day
from audit_flows.usage import UsageError


def add_day(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Give `parser` the option; `day_of` reads it."""
    told = "only this UTC day, as YYYY-MM-DD"
    parser.add_argument("--day", metavar="DAY", default=default, help=told)


def day_of(args: argparse.Namespace) -> date | None:
    """Return the day asked for, None for all; raises `UsageError` for what is no day."""
    try:
        return None if args.day is None else parse_day(args.day)
    except ValueError as wrong:
        raise UsageError(f"--day: {wrong}") from None
