"""`claude-audit log`: one entry of any kind, from a shell or a hook.

On return the entry is in the spool, and as a rule in Redis; when Redis is away it waits in
the spool, which is told on stderr and is no failure.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import Any

from audit_flows.moments import parse_instant
from audit_flows.usage import UsageError, add_place_options
from audit_flows.workplace import FLUSH_SECONDS, Workplace
from claude_max_audit.entry_id import EntryId
from claude_max_audit.errors import FlushIncompleteError, RedisRefusedError
from claude_max_audit.sync_auditor import SyncAuditor
from claude_max_audit.vocabulary import (
    KNOWN_SECURITY_EVENTS,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

EXAMPLES = """\
examples:
  claude-audit log message --from planner --to worker_7 --type request "Summarise chapter 2"
  claude-audit log access --agent worker_7 --session s1 --operation read --bytes 150000
  claude-audit log decision --agent planner --type approval --source if://guardian/42 "All met"
  claude-audit log security --agent worker_7 --event auth_failure --severity high \\
      --details '{"attempts": 3}'
  claude-audit log metric --agent worker_7 --metric latency --value 12.5 --unit ms
  git diff | claude-audit log message --from ci --to reviewer -
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command per kind of entry."""
    parser.epilog = EXAMPLES
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _message(_kind(kinds, "message", "what one agent told another", text="the message"))
    _access(_kind(kinds, "access", "an agent read or changed a session's context"))
    _decision(_kind(kinds, "decision", "what was decided, and why", text="the rationale"))
    _security(_kind(kinds, "security", "something that should not have happened"))
    _metric(_kind(kinds, "metric", "one measured value"))


def run(args: argparse.Namespace) -> int:
    """Log the entry and print its citation."""
    # Printed below, so the library's own line on stderr is not wanted; other handlers get it.
    logging.getLogger("claude_max_audit.security").addHandler(logging.NullHandler())
    fields = {
        "swarm_id": args.swarm,
        "metadata": _json_object("--metadata", args.metadata),
        "retention": args.retention,
        "timestamp": _instant(args.timestamp),
        "parent_id": args.parent,
    }
    with Workplace.of(args) as place:
        entry_id = _checked(place.auditor.sync, args, fields)
        waiting = _flush(place)
        place.terminal.json(
            {"entry_id": str(entry_id), "citation": entry_id.citation, "spooled": bool(waiting)}
        )
        place.terminal.show(entry_id.citation)
        if waiting:
            place.terminal.warn(f"logged and safe, but not in Redis yet: {waiting}")
    return 0


def _checked(auditor: SyncAuditor, args: argparse.Namespace, fields: dict[str, Any]) -> EntryId:
    """Log the entry; what the auditor refuses is wrong use of this command line."""
    try:
        entry_id: EntryId = args.log(auditor, args, fields)
    except (ValueError, TypeError) as refused:
        raise UsageError(str(refused)) from None
    return entry_id


def _flush(place: Workplace) -> str:
    try:
        place.auditor.sync.flush_all(FLUSH_SECONDS)
    except (FlushIncompleteError, RedisRefusedError) as waiting:
        return str(waiting)
    return ""


def _kind(kinds: Any, name: str, told: str, text: str | None = None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=told, description=told)
    if text:
        parser.add_argument("text", help=f"{text}; - reads it from standard input")
    parser.add_argument("--swarm", metavar="ID", help="the agent's swarm")
    parser.add_argument("--metadata", metavar="JSON", help="more facts, as a JSON object")
    parser.add_argument("--retention", choices=[r.value for r in Retention])
    parser.add_argument("--timestamp", metavar="TIME", help="when it happened (default: now)")
    parser.add_argument("--parent", metavar="ID", help="the entry that this one follows from")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_place_options(parser, default=argparse.SUPPRESS)
    return parser


def _message(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="sender", required=True, metavar="AGENT")
    parser.add_argument("--to", metavar="AGENT")
    parser.add_argument("--type", choices=[t.value for t in MessageType], default="inform")
    parser.add_argument("--from-swarm", metavar="ID")
    parser.add_argument("--to-swarm", metavar="ID", help="another swarm makes it cross-swarm")
    parser.add_argument("--session", metavar="ID")
    parser.set_defaults(
        log=lambda auditor, args, fields: auditor.log_message(
            args.sender,
            args.to,
            args.type,
            _text(args.text),
            from_swarm=args.from_swarm,
            to_swarm=args.to_swarm,
            session_id=args.session,
            **fields,
        )
    )


def _access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", required=True, metavar="ID")
    parser.add_argument("--session", required=True, metavar="ID")
    parser.add_argument("--operation", required=True, choices=[o.value for o in OperationType])
    parser.add_argument("--bytes", required=True, type=int, metavar="N", help="bytes touched")
    parser.set_defaults(
        log=lambda auditor, args, fields: auditor.log_context_access(
            args.agent, args.session, args.operation, args.bytes, **fields
        )
    )


def _decision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", required=True, metavar="ID")
    parser.add_argument("--type", required=True, metavar="TYPE", help="such as approval")
    parser.add_argument("--source", metavar="URI", help="citation of what it rests on")
    parser.set_defaults(
        log=lambda auditor, args, fields: auditor.log_decision(
            args.agent, args.type, _text(args.text), args.source, **fields
        )
    )


def _security(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(sorted(KNOWN_SECURITY_EVENTS))
    parser.add_argument("--agent", required=True, metavar="ID")
    parser.add_argument("--event", required=True, metavar="TYPE", help=f"{known}, or your own")
    parser.add_argument("--severity", required=True, choices=[s.value for s in SecuritySeverity])
    parser.add_argument("--details", metavar="JSON", help="the facts, as a JSON object")
    parser.set_defaults(
        log=lambda auditor, args, fields: auditor.log_security_event(
            args.agent,
            args.event,
            args.severity,
            _json_object("--details", args.details) or {},
            **fields,
        )
    )


def _metric(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", required=True, metavar="ID")
    parser.add_argument("--metric", required=True, metavar="NAME", help="such as latency")
    parser.add_argument("--value", required=True, type=float, metavar="NUMBER")
    parser.add_argument("--unit", required=True, metavar="UNIT")
    parser.set_defaults(
        log=lambda auditor, args, fields: auditor.log_performance_metric(
            args.agent, args.metric, args.value, args.unit, **fields
        )
    )


def _text(given: str) -> str:
    """Return the text, or all of standard input; bytes that are not UTF-8 are marked."""
    if given != "-":
        return given
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")


def _json_object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as wrong:
        raise UsageError(f"{option} is not JSON: {wrong}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{option} must be a JSON object, such as '{{\"attempts\": 3}}'")
    return value


def _instant(text: str | None) -> Any:
    try:
        return parse_instant(text) if text else None
    except ValueError as wrong:
        raise UsageError(f"--timestamp: {wrong}; the form is 2025-11-30T14:00:00Z") from None
