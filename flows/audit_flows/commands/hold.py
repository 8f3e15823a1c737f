"""`claude-audit hold`: legal holds are placed, listed, looked at and released.

A hold keeps what its filters match from everything that deletes, what is yet to come among it. Who
placed or released it, when and why stays in the lake for good; nothing here removes anything.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from audit_flows.amounts import counted
from audit_flows.filters import add_filters, filters_of
from audit_flows.terminal import fields, listing
from audit_flows.usage import UsageError, add_place_options
from audit_flows.workplace import Workplace, system_user
from claude_max_audit.query import Query, parse_query

if TYPE_CHECKING:
    from audit_storage.purge.holds import LegalHold

ID_CHARACTERS = 8
"""Characters of an id in the list: enough to name one of some thousand holds."""

EXAMPLES = """\
examples:
  claude-audit hold place --swarm red --until 2025-12-31 --reason "case 17/2025"
  claude-audit hold place --everything --reason "audit by the regulator" --by "J. Doe, counsel"
  claude-audit hold list                   what is held now; --all: what was, too
  claude-audit hold show 3f2a9c01          one hold, by the beginning of its id
  claude-audit hold release 3f2a9c01 --reason "settled"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command for each thing that can be done with holds."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    place = _action(actions, "place", "keep what matches, however old it gets", _place)
    place.add_argument(
        "--everything", action="store_true", help="hold the whole trail: only without filters"
    )
    _add_told(place)
    add_filters(place)
    listed = _action(actions, "list", "the holds, oldest first", _list)
    listed.add_argument("--all", action="store_true", help="show released ones, too")
    show = _action(actions, "show", "one hold in full, and what it protects now", _show)
    show.add_argument("hold_id", metavar="ID", help="its id, or the id's beginning")
    release = _action(actions, "release", "end a hold; it stays in the list", _release)
    release.add_argument("hold_id", metavar="ID", help="its id, or the id's beginning")
    _add_told(release)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    code: int = args.act(args)
    return code


def _place(args: argparse.Namespace) -> int:
    from audit_storage.purge.holds import HoldBook
    from audit_storage.purge.hot_hold import keep_in_redis

    query = _query_of(args)
    with Workplace.of(args) as place:
        hold = _told(HoldBook(place.settings).place, query, args)
        # The hold stands already; only what Redis alone holds, and lets expire, needs more.
        kept = keep_in_redis(place.lake, place.hot, query)
        covered = place.lake.count_matches(query)
        place.terminal.json({**hold.as_dict(), "entries": covered, "kept_in_redis": kept})
        place.terminal.show(
            Text(f"hold {hold.hold_id} is placed", style="bold"),
            fields([*_facts(hold), ("entries", _covered(covered))]),
        )
        if kept:
            place.terminal.show(f"{counted(kept, 'entry')} in Redis no longer expire")
    return 0


def _list(args: argparse.Namespace) -> int:
    from audit_storage.purge.holds import HoldBook

    with Workplace.of(args) as place:
        everything = HoldBook(place.settings).holds()
        holds = [hold for hold in everything if hold.active or args.all]
        place.terminal.json([hold.as_dict() for hold in holds])
        if holds:
            columns = ("id", "placed (UTC)", "by", "holds", "reason", "released")
            rows = (_row(hold) for hold in holds)
            place.terminal.show(listing(columns if args.all else columns[:-1], rows))
        released = sum(not hold.active for hold in everything)
        active = counted(len(everything) - released, "active hold")
        place.terminal.show(f"{active}, {released:,} released")
    return 0


def _show(args: argparse.Namespace) -> int:
    from audit_storage.purge.holds import HoldBook

    with Workplace.of(args) as place:
        hold = HoldBook(place.settings).find(args.hold_id)
        covered = place.lake.count_matches(hold.query)
        place.terminal.json({**hold.as_dict(), "entries": covered})
        told = _covered(covered) if hold.active else f"none any more; {covered:,} match"
        place.terminal.show(fields([("id", hold.hold_id), *_facts(hold), ("entries", told)]))
    return 0


def _release(args: argparse.Namespace) -> int:
    from audit_storage.purge.holds import HoldBook

    with Workplace.of(args) as place:
        hold = _told(HoldBook(place.settings).release, args.hold_id, args)
        place.terminal.json(hold.as_dict())
        place.terminal.show(
            Text(f"hold {hold.hold_id} is released", style="bold"), fields(_facts(hold))
        )
        place.terminal.remark("`claude-audit purge` shows what is due now that it was released")
    return 0


def _told(act: Any, what: Any, args: argparse.Namespace) -> LegalHold:
    """Place or release, saying who and why; what is not told is wrong use."""
    for option in ("by", "reason"):
        if not getattr(args, option).strip():
            raise UsageError(f"--{option} is empty; who decides, and why, stays in the history")
    hold: LegalHold = act(what, by=args.by, reason=args.reason, now=datetime.now(UTC))
    return hold


def _query_of(args: argparse.Namespace) -> Query:
    asked, time_range = filters_of(args)
    if args.everything and (asked or time_range):
        raise UsageError("--everything holds the whole trail; leave it or the filters out")
    if not (args.everything or asked or time_range):
        raise UsageError(
            "nothing says what to hold; give filters such as --swarm or --since, or --everything "
            "to hold the whole trail"
        )
    return parse_query(asked, time_range)


def _facts(hold: LegalHold) -> Iterator[tuple[str, RenderableType]]:
    yield "holds", _filters(hold)
    yield "placed", f"{hold.placed_at:%Y-%m-%d %H:%M} UTC by {hold.placed_by}: {hold.reason}"
    if hold.released_at is not None:
        when = f"{hold.released_at:%Y-%m-%d %H:%M} UTC"
        yield "released", f"{when} by {hold.released_by}: {hold.release_reason}"


def _row(hold: LegalHold) -> tuple[str, ...]:
    released = "" if hold.released_at is None else f"{hold.released_at:%Y-%m-%d %H:%M}"
    return (
        hold.hold_id[:ID_CHARACTERS],
        f"{hold.placed_at:%Y-%m-%d %H:%M}",
        hold.placed_by,
        _filters(hold),
        hold.reason,
        *([released] if released else []),
    )


def _filters(hold: LegalHold) -> str:
    asked = hold.query.as_dict()
    told = [f"{key} {_either(asked[key])}" for key in asked if key not in ("start", "end")]
    start, end = asked.get("start"), asked.get("end")
    told += [f"from {_moment(start)}"] if start else []
    told += [f"until {_moment(end)}"] if end else []
    return ", ".join(told) or "everything"


def _either(words: Any) -> str:
    return " or ".join(words) if isinstance(words, list) else str(words)


def _moment(text: str) -> str:
    """Return a bound of a span as it was given: a whole day as the day."""
    for edge in ("T00:00:00+00:00", "T23:59:59.999999+00:00"):
        text = text.removesuffix(edge)
    return text.removesuffix("+00:00")


def _covered(entries: int) -> str:
    if not entries:
        return "none in the lake now; what comes later is held"
    return f"{counted(entries, 'entry')} in the lake now, and what comes later"


def _action(actions: Any, name: str, told: str, act: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=told, description=told)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(act=act)
    add_place_options(parser, default=argparse.SUPPRESS)
    return parser


def _add_told(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it stays for good")
    parser.add_argument(
        "--by", default=system_user(), metavar="NAME", help="who decides; default: this user"
    )
