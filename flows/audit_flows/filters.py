"""The filters of `search` and `export`: options on the command line, one checked query.

Options combine with AND; one given twice means any of its values. Nothing here asks a store.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from audit_flows.moments import FORMS, parse_moment
from audit_flows.usage import UsageError
from claude_max_audit.query import parse_query
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

_TEXT_FILTERS = (
    ("--agent", "agent_id", "ID", "the agent that did it (a message's sender)"),
    ("--to", "to_agent", "ID", "the agent that was addressed"),
    ("--participant", "participant", "ID", "either of the two"),
    ("--swarm", "swarm_id", "ID", "any of the entry's swarms"),
    ("--session", "session_id", "ID", "the session"),
    ("--event-type", "event_type", "TYPE", "of a security event, such as auth_failure"),
    ("--decision-type", "decision_type", "TYPE", "of a decision"),
    ("--hash", "content_hash", "SHA256", "the content's hash, in hexadecimal"),
    ("--id", "entry_id", "UUID", "the entry's id"),
    ("--citation", "citation", "URI", "the entry's citation"),
)
_WORD_FILTERS = (
    ("--type", "entry_type", AuditEntryType),
    ("--message-type", "message_type", MessageType),
    ("--operation", "operation", OperationType),
    ("--severity", "severity", SecuritySeverity),
    ("--retention", "retention", Retention),
)
_KEYS = (*(key for _, key, _, _ in _TEXT_FILTERS), *(key for _, key, _ in _WORD_FILTERS))


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Give `parser` every filter of the trail; `filters_of` reads them."""
    group = parser.add_argument_group(
        "filters (all must hold; one given twice means any of its values)"
    )
    for option, key, metavar, told in _TEXT_FILTERS:
        group.add_argument(option, dest=key, metavar=metavar, action="append", help=told)
    for option, key, words in _WORD_FILTERS:
        known = [word.value for word in words]
        group.add_argument(
            option, dest=key, action="append", choices=known, metavar="WORD", help=", ".join(known)
        )
    group.add_argument(
        "--cross-swarm", action="store_true", default=None, help="only between two swarms"
    )
    group.add_argument("--since", metavar="TIME", help=f"from then on: {FORMS}")
    group.add_argument("--until", metavar="TIME", help="up to then; a day means to its end")


def filters_of(args: argparse.Namespace) -> tuple[dict[str, Any], tuple[Any, Any] | None]:
    """Return the query and time range asked for, as `search_logs` takes them.

    Raises `UsageError` for what does not fit.
    """
    query = {key: value for key in _KEYS if (value := getattr(args, key))}
    if args.cross_swarm:
        query["cross_swarm"] = True
    if words := getattr(args, "text", None):
        query["text_query"] = words
    now = datetime.now(UTC)
    try:
        since, until = (t and parse_moment(t, now) for t in (args.since, args.until))
        time_range = (since, until) if since or until else None
        parse_query(query, time_range)
    except (ValueError, TypeError) as wrong:
        raise UsageError(str(wrong)) from None
    return query, time_range
