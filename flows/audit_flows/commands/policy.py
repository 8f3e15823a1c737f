"""`claude-audit policy`: checks the retention policy and says what it means. Changes nothing.

Exit code 1 with the line, the key and the remedy when the file cannot be followed.
"""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from audit_flows.moments import FORMS, parse_moment
from audit_flows.terminal import fields, listing
from audit_flows.usage import UsageError
from audit_flows.workplace import Workplace
from claude_max_audit.settings import MIN_RETENTION_DAYS
from claude_max_audit.vocabulary import UNKNOWN_SWARM, AuditEntryType

if TYPE_CHECKING:
    from audit_storage.purge.policy import PolicyRule, RetentionPolicy, Term

EXAMPLES = """\
examples:
  claude-audit policy                              what is kept for how long
  claude-audit policy --check draft.toml           is this file sound? before it takes effect
  claude-audit policy --type decision --swarm red --at 2024-02-29
                                                   what applies to such an entry, to the day
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the file, and the entry that is asked about."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="read this file instead of the home's"
    )
    known = [word.value for word in AuditEntryType]
    parser.add_argument("--type", choices=known, metavar="WORD", help=f"of {', '.join(known)}")
    parser.add_argument("--swarm", action="append", metavar="ID", help="of this swarm")
    parser.add_argument("--at", metavar="TIME", help=f"that happened then: {FORMS}; default: now")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Read, check and show the policy, and what it says of an entry."""
    now = datetime.now(UTC)
    at = _moment(args.at, now)
    with Workplace.of(args) as place:
        policy = _policy_of(place, args.check)
        rows = [_row(number, rule, now) for number, rule in enumerate(policy.rules, 1)]
        rows.append(_default_row(policy, now))
        asked = args.type or args.swarm or args.at
        answer = _applying(policy, args, at, now) if asked else None
        place.terminal.json({**_as_json(policy, now), **({"entry": answer} if answer else {})})
        place.terminal.show(
            fields(
                [
                    ("policy", policy.source or "no file; AUDIT_COLD_YEARS holds for everything"),
                    ("SHA-256", policy.sha256),
                    ("floor", f"{MIN_RETENTION_DAYS} days, whatever any rule says"),
                ]
            ),
            listing(("rule", "entry type", "swarm", "kept", "due is what is before (UTC)"), rows),
        )
        if answer:
            place.terminal.show(fields(_told(answer)))
    return 0


def _policy_of(place: Workplace, file: Path | None) -> RetentionPolicy:
    from audit_storage.purge.policy_file import load_policy, policy_of

    if file is None:
        return policy_of(place.settings)
    return load_policy(file.expanduser().absolute(), place.settings.cold_storage_years)


def _row(number: int, rule: PolicyRule, now: datetime) -> tuple[str, ...]:
    types, swarms = ", ".join(rule.entry_types), ", ".join(rule.swarm_ids)
    return str(number), types or "every", swarms or "every", str(rule.term), _due(rule.term, now)


def _default_row(policy: RetentionPolicy, now: datetime) -> tuple[str, ...]:
    others = "every other" if policy.rules else "every"
    return "default", others, others, str(policy.default), _due(policy.default, now)


def _due(term: Term, now: datetime) -> str:
    permanent = term.years is None and term.days is None
    return "never" if permanent else f"{term.cutoff(now):%Y-%m-%d %H:%M}"


def _applying(
    policy: RetentionPolicy, args: argparse.Namespace, at: datetime, now: datetime
) -> dict[str, Any]:
    types = [args.type] if args.type else [word.value for word in AuditEntryType]
    swarms = args.swarm or [UNKNOWN_SWARM]
    found = [policy.applying(kind, swarms, now) for kind in types]
    # Of several types the shortest time: from then on something is due.
    term, rule = max(found, key=lambda one: one[0].cutoff(now))
    deadline = term.deadline(at)
    return {
        "entry_type": args.type,
        "swarm_ids": swarms,
        "timestamp": at.isoformat(),
        "kept": str(term),
        "rule": None if rule is None else policy.rules.index(rule) + 1,
        "until": None if deadline is None else deadline.isoformat(),
    }


def _told(answer: dict[str, Any]) -> list[tuple[str, RenderableType]]:
    kind = answer["entry_type"] or "any type"
    rule = "the default" if answer["rule"] is None else f"rule {answer['rule']}"
    until = answer["until"]
    kept = answer["kept"] if until is None else f"until {until}"
    return [
        ("entry", f"{kind} in {' and '.join(answer['swarm_ids'])} of {answer['timestamp']}"),
        ("kept", Text(f"{kept}, by {rule}", style="bold")),
        ("longer", 'if it is marked retention="permanent" or under a legal hold'),
    ]


def _as_json(policy: RetentionPolicy, now: datetime) -> dict[str, Any]:
    terms = [*(rule.term for rule in policy.rules), policy.default]
    due = [None if _due(term, now) == "never" else term.cutoff(now).isoformat() for term in terms]
    return {
        "source": policy.source,
        "sha256": policy.sha256,
        "floor_days": MIN_RETENTION_DAYS,
        "default": {"keep": str(policy.default), "due_before": due[-1]},
        "rules": [
            {
                "entry_type": list(rule.entry_types),
                "swarm_id": list(rule.swarm_ids),
                "keep": str(rule.term),
                "due_before": before,
            }
            for rule, before in zip(policy.rules, due, strict=False)
        ],
    }


def _moment(text: str | None, now: datetime) -> datetime:
    if text is None:
        return now
    try:
        moment = parse_moment(text, now)
    except ValueError as wrong:
        raise UsageError(f"--at: {wrong}") from None
    if isinstance(moment, datetime):
        return moment
    return _start_of(moment)


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)
