"""What every command line shares: where the trail is, and how wrong use is told.

Wrong use is one line on stderr with the way to the help, and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

USED_WRONGLY = 2
"""Exit code of a command line that asks for what cannot be."""


class UsageError(Exception):
    """The command line asks for what cannot be; the message says what can."""


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose examples keep their line ends."""

    def __init__(self, **given: Any) -> None:
        given.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **given)

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong and leave with exit code 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(USED_WRONGLY)


def add_place_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add the options that say where the trail is; `argparse.SUPPRESS` keeps earlier values."""
    group = parser.add_argument_group("where the trail is")
    group.add_argument(
        "--home", metavar="FOLDER", default=default, help="folder of all data (AUDIT_HOME)"
    )
    group.add_argument(
        "--redis-url",
        metavar="URL",
        default=default,
        help="redis://, rediss:// or unix:// (AUDIT_REDIS_URL; else the embedded one of the home)",
    )
    group.add_argument(
        "--lake", metavar="URI", default=default, help="folder or s3://... (AUDIT_LAKE_URI)"
    )
