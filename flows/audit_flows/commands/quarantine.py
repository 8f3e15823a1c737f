"""`claude-audit quarantine`: what did not pass the archive's inspection, with the reason.

Shows the bytes as they were kept; mends nothing and lets nothing back in.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from audit_flows.amounts import count, counted, size
from audit_flows.day_option import add_day, day_of
from audit_flows.terminal import fields, listing, one_line, printable
from audit_flows.usage import add_place_options
from audit_flows.workplace import Workplace

if TYPE_CHECKING:
    from audit_storage.archive.quarantine import Rejected

SHOWN = 50
"""Entries that the list shows; the others are counted."""

HASH_CHARACTERS = 12
"""Characters of a hash in the list: enough to name one."""

EXAMPLES = """\
examples:
  claude-audit quarantine                      what is there, with the reason
  claude-audit quarantine --day 2025-11-30     of one day
  claude-audit quarantine show 5f0c8a1be2d4    one in full, by the beginning of its hash or id
  claude-audit quarantine export -o bad.jsonl  everything, byte for byte, as JSON lines
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what to do; without a word it lists."""
    parser.epilog = EXAMPLES
    parser.set_defaults(act=_list)
    _add_common(parser, default=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, told, act in (
        ("list", "what is there, oldest day first", _list),
        ("show", "one in full", _show),
        ("export", "all as JSON lines: the bytes as base64, and as text if they are", _export),
    ):
        action = actions.add_parser(name, help=told, description=told)
        action.set_defaults(act=act)
        # What stands before the action's name is not undone by what does not follow it.
        _add_common(action, default=argparse.SUPPRESS)
        if name == "show":
            action.add_argument("name", metavar="HASH", help="its hash or id, or their beginning")
        if name == "export":
            action.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")
        add_place_options(action, default=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for. Exit code 0: to be there is no failure of this command."""
    code: int = args.act(args)
    return code


def _list(args: argparse.Namespace) -> int:
    with Workplace.of(args) as place:
        found = _found(place, args)
        place.terminal.json([_as_json(one, whole=False) for one in found])
        if found:
            columns = ("hash", "day (UTC)", "kept at", ">bytes", "id", "reason")
            place.terminal.show(listing(columns, map(_row, found[:SHOWN])))
        if len(found) > SHOWN:
            place.terminal.show(f"and {len(found) - SHOWN:,} more; --json has them all")
        told = counted(len(found), "entry")
        place.terminal.show(f"{told} in quarantine" if found else "nothing is in quarantine")
    return 0


def _show(args: argparse.Namespace) -> int:
    with Workplace.of(args) as place:
        one = _named(_found(place, args), args.name)
        place.terminal.json(_as_json(one, whole=True))
        place.terminal.show(
            fields(
                [
                    ("hash", one.text_hash),
                    ("id", one.entry_id or "none can be read"),
                    ("day", str(one.day)),
                    ("kept at", f"{one.at:%Y-%m-%d %H:%M:%S} UTC"),
                    ("reason", Text(printable(one.reason), style="yellow")),
                    ("size", size(len(one.text))),
                ]
            ),
            Text(f"\n{printable(one.text.decode(errors='backslashreplace'))}"),
        )
    return 0


def _export(args: argparse.Namespace) -> int:
    from audit_storage.atomic_file import atomic_file

    with Workplace.of(args) as place:
        found = _found(place, args)
        lines = (f"{json.dumps(_as_json(one, whole=True))}\n" for one in found)
        if args.output is None:
            sys.stdout.writelines(lines)
            return 0
        path = args.output.expanduser().absolute()
        with atomic_file(path, overwrite=False) as file:
            for line in lines:
                file.write(line.encode())
        place.terminal.json({"path": str(path), "rows": len(found), "sha256": file.sha256})
        place.terminal.show(f"{path}: {counted(len(found), 'entry')}")
    return 0


def _found(place: Workplace, args: argparse.Namespace) -> list[Rejected]:
    from audit_storage.archive.quarantine import Quarantine

    return Quarantine(place.settings).list(day_of(args))


def _named(found: list[Rejected], name: str) -> Rejected:
    fitting = [
        one
        for one in found
        if name and (one.text_hash.startswith(name) or (one.entry_id or "").startswith(name))
    ]
    if not fitting:
        raise KeyError(f"nothing in quarantine is named {name!r}; see claude-audit quarantine")
    if len(fitting) > 1:
        raise ValueError(f"{len(fitting)} in quarantine begin with {name!r}; give more of the hash")
    return fitting[0]


def _as_json(one: Rejected, *, whole: bool) -> dict[str, Any]:
    """Return plain values; the bytes too, for whoever wants to mend what wrote them."""
    from base64 import b64encode

    told: dict[str, Any] = {
        "text_hash": one.text_hash,
        "day": str(one.day),
        "entry_id": one.entry_id,
        "reason": one.reason,
        "at": one.at.isoformat(),
        "bytes": len(one.text),
    }
    if whole:
        told["base64"] = b64encode(one.text).decode()
        try:
            told["text"] = one.text.decode()
        except UnicodeDecodeError:
            told["text"] = None
    return told


def _row(one: Rejected) -> tuple[str, ...]:
    return (
        one.text_hash[:HASH_CHARACTERS],
        str(one.day),
        f"{one.at:%Y-%m-%d %H:%M}",
        count(len(one.text)),
        one.entry_id or "-",
        one_line(one.reason, 120),
    )


def _add_common(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="print JSON")
    add_day(parser, default)
