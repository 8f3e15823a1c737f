"""What a transcript says was refused: by the human, by a permission rule, by a limit.

The transcripts have no security events of their own; these patterns make them. They look
only where the program itself speaks (a failed tool result from its first word on, an API
error line), never at what an agent, a human or a file says about limits or permissions.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from claude_max_audit.vocabulary import SecuritySeverity

UNAUTHORIZED = "unauthorized_access"
RATE_LIMIT = "rate_limit_violation"
AUTH_FAILURE = "auth_failure"


class Refusal(NamedTuple):
    """A security event: its type, how grave it is, and who or what refused."""

    event_type: str
    severity: SecuritySeverity
    refused_by: str


BY_HUMAN = Refusal(UNAUTHORIZED, SecuritySeverity.LOW, "human")
"""The human was asked and said no: the control worked and nothing was touched."""

BY_RULE = Refusal(UNAUTHORIZED, SecuritySeverity.MEDIUM, "permission rule")
"""The agent tried what its settings, a hook or a classifier forbid: worth a look."""

BY_LIMIT = Refusal(RATE_LIMIT, SecuritySeverity.MEDIUM, "service limit")
"""The service refused more requests; the agent's work stops until the limit resets."""

BY_LOGIN = Refusal(AUTH_FAILURE, SecuritySeverity.HIGH, "service login")
"""The service refused the credentials: expired, revoked, or not the agent's own."""

INTERRUPTED = "[Request interrupted by user"
_REJECTED = "The user doesn't want to "

_DENIED = re.compile(
    r"""(?:<tool_use_error>)?\s*(?:
        Permission\ (?:to\ use|for)\ .{1,2000}?\ (?:has\ been|was)\ denied
      | Claude\ requested\ permissions?\ .{1,2000}?\ haven't\ granted\ it\ yet
      | (?:Tool\ use\ |Operation\ )?(?:denied|blocked)\ by\ .{0,80}?
        (?:hook|permission|settings|policy)
      | .{1,200}?\ is\ (?:in\ a\ directory\ that\ is\ )?denied\ by\ your\ permission\ settings
    )""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LIMIT = re.compile(
    r"\b429\b|rate[_ ]limit|hit your .{0,20}limit"
    r"|(?:usage|session|weekly|5-hour|opus|sonnet) limit",
    re.IGNORECASE,
)
_LOGIN = re.compile(
    r"\b401\b|authentication_(?:error|failed)|invalid api key|oauth token|run /login",
    re.IGNORECASE,
)


def rejected_by_human(text: str) -> bool:
    """Say whether a failed tool result is the human's no to the call."""
    return text.startswith(_REJECTED)


def interrupted_by_human(text: str) -> bool:
    """Say whether the human stopped what was going on."""
    return text.startswith(INTERRUPTED)


def refusal_of_call(text: str) -> Refusal | None:
    """Return what refused a call, from the text of its failed result; None: it just failed."""
    if rejected_by_human(text):
        return BY_HUMAN
    return BY_RULE if _DENIED.match(text) else None


def refusal_of_request(error: Any, status: Any, text: str) -> Refusal | None:
    """Return what refused a request to the service, from an API error line.

    `error` is the line's error code and `status` its HTTP status, where it has them; the
    text decides only when neither does.
    """
    if error == "rate_limit" or status == 429:
        return BY_LIMIT
    if error == "authentication_failed" or status == 401:
        return BY_LOGIN
    if status is not None or isinstance(error, str):
        return None
    if _LIMIT.search(text):
        return BY_LIMIT
    return BY_LOGIN if _LOGIN.search(text) else None
