"""`claude-audit purge`: what is past its retention. Shows it; removes it only with --execute."""

from __future__ import annotations

import argparse
from typing import Any

from msgspec import to_builtins
from rich.text import Text

from audit_flows.amounts import count, counted, size
from audit_flows.amounts import days as span_of_days
from audit_flows.run_in_process import run_flow
from audit_flows.terminal import fields, listing
from audit_flows.workplace import Workplace, system_user

EXAMPLES = """\
examples:
  claude-audit purge                          what is due; nothing is removed
  claude-audit purge --execute                remove it from every store, with a receipt
  claude-audit purge --older-than-days 2557   by days instead of calendar years
  claude-audit purge --receipts               what was removed when, by whom and by which rule
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the rule, and the word without which nothing is removed."""
    parser.epilog = EXAMPLES
    parser.add_argument("--execute", action="store_true", help="remove what is due, for good")
    parser.add_argument(
        "--older-than-days",
        type=int,
        metavar="N",
        help="default: what the policy says; never under 183 days",
    )
    parser.add_argument(
        "--at-most",
        type=int,
        metavar="N",
        help="default: a twentieth of the lake, or 10,000 entries; above it nothing is removed",
    )
    parser.add_argument(
        "--by",
        default=system_user(),
        metavar="NAME",
        help="who removes it, for the receipt; default: the system's user",
    )
    parser.add_argument("--receipts", action="store_true", help="show the receipts of all purges")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Plan or purge by the flow `retention-purge`; both stand in the history."""
    if args.receipts:
        return _show_receipts(args)
    with Workplace.of(args) as place:
        _ = place.redis_url
        with place.terminal.telling("purging" if args.execute else "looking") as tell:
            report = run_flow(
                "retention-purge",
                place.settings,
                on_line=tell,
                dry_run=not args.execute,
                older_than_days=args.older_than_days,
                at_most=args.at_most,
                by=args.by or None,
            )
        place.terminal.json(as_json(report))
        _show(place, report)
    return 0


def as_json(report: Any) -> dict[str, Any]:
    """Return the plan, and the receipt of what went, as plain values."""
    return {
        "executed": report.receipt is not None,
        "plan": to_builtins(report.plan, str_keys=True),
        "receipt": None if report.receipt is None else report.receipt.as_dict(),
    }


def _show(place: Workplace, report: Any) -> None:
    plan, receipt = report.plan, report.receipt
    if plan.days:
        days = [(str(day), count(rows)) for day, rows in plan.days.items()]
        place.terminal.show(listing(("day (UTC)", ">entries due"), days))
    place.terminal.show(
        fields(
            [
                ("rule", f"{plan.policy}: before {plan.cutoff:%Y-%m-%d %H:%M} UTC"),
                ("due", f"{counted(plan.rows, 'entry')}, {size(plan.bytes)} in the lake"),
                ("due in quarantine", counted(len(plan.rejected), "entry")),
                ("kept as permanent", counted(plan.permanent_kept, "entry")),
                ("kept by a hold", counted(plan.held_kept, "entry")),
            ]
        )
    )
    if plan.held:
        place.terminal.show(listing(_HOLD_COLUMNS, map(_held_row, plan.held)))
    if receipt is not None:
        place.terminal.show(
            Text(f"removed {counted(plan.total, 'entry')} from every store", style="bold"),
            fields([("receipt", receipt.receipt_id), ("root", receipt.root)]),
        )
    elif plan.exceeds_cap:
        place.terminal.warn(
            f"one run may remove {counted(plan.at_most, 'entry')}; if this is meant, "
            f"`claude-audit purge --execute --at-most {plan.total}` removes it"
        )
    elif plan.total:
        place.terminal.show("nothing was removed; `claude-audit purge --execute` removes it")


_HOLD_COLUMNS = ("hold", "by", "reason", ">keeps entries", ">size")


def _held_row(hold: Any) -> tuple[str, ...]:
    return hold.hold_id[:8], hold.placed_by, hold.reason, count(hold.rows), size(hold.bytes)


def _show_receipts(args: argparse.Namespace) -> int:
    from audit_storage.purge.receipts import ReceiptBook

    with Workplace.of(args) as place:
        receipts = ReceiptBook(place.settings).receipts()
        place.terminal.json([receipt.as_dict() for receipt in receipts])
        columns = ("receipt", "at (UTC)", "by", "days", ">entries", "policy", ">kept by holds")
        if receipts:
            place.terminal.show(listing(columns, map(_receipt_row, receipts)))
        removed = sum(receipt.rows for receipt in receipts)
        told = f"{counted(len(receipts), 'purge')}, {counted(removed, 'entry')} removed"
        place.terminal.show(told)
    return 0


def _receipt_row(receipt: Any) -> tuple[str, ...]:
    return (
        receipt.receipt_id[:8],
        f"{receipt.at:%Y-%m-%d %H:%M}",
        receipt.by,
        span_of_days(receipt.first_day, receipt.last_day),
        count(receipt.rows),
        receipt.policy,
        count(receipt.held_kept or 0),
    )
