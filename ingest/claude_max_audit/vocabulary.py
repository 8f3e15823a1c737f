"""The closed words of the audit trail: what an entry may be, and of which kind.

Every enum is a `str`, so that `entry.entry_type == "message"` holds and the JSON text is
the value itself. An unknown word is refused where it enters, never stored.
"""

from __future__ import annotations

from enum import StrEnum


class AuditEntryType(StrEnum):
    """What happened: the middle part of an entry's citation."""

    MESSAGE = "message"
    CONTEXT_ACCESS = "context_access"
    DECISION = "decision"
    SECURITY_EVENT = "security_event"
    PERFORMANCE_METRIC = "performance_metric"


class MessageType(StrEnum):
    """What a message wants of the one who gets it."""

    INFORM = "inform"
    REQUEST = "request"
    ESCALATE = "escalate"
    HOLD = "hold"
    RESPONSE = "response"
    ERROR = "error"


class OperationType(StrEnum):
    """What was done to a context."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"
    DELETE = "delete"


class SecuritySeverity(StrEnum):
    """How grave a security event is, from information to emergency."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Retention(StrEnum):
    """How long an entry is kept: for the policy's years, or for good."""

    STANDARD = "standard"
    PERMANENT = "permanent"


KNOWN_SECURITY_EVENTS = frozenset(
    {
        "rate_limit_violation",
        "auth_failure",
        "unauthorized_access",
        "anomalous_pattern",
        "confidence_manipulation",
        "context_poisoning",
        "cross_swarm_anomaly",
    }
)
"""Event types that the documentation lists; others are accepted."""

UNKNOWN_SWARM = "unknown"
"""`swarm_id` of an entry whose caller named no swarm."""
