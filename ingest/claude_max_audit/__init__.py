"""Claude Max Audit: the audit trail of multi-agent Claude swarms.

This package is what agents import. It needs redis and msgspec only; the lake, the semantic
index, the flows and the command line come with the `platform` extra.
"""

from claude_max_audit.auditor import ClaudeMaxAuditor, get_auditor
from claude_max_audit.citation import CitationGenerator
from claude_max_audit.entry import AuditEntry
from claude_max_audit.entry_id import EntryId
from claude_max_audit.errors import AuditError
from claude_max_audit.results import AuditQueryResult, PerformanceMetrics
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

__all__ = [
    "AuditEntry",
    "AuditEntryType",
    "AuditError",
    "AuditQueryResult",
    "CitationGenerator",
    "ClaudeMaxAuditor",
    "EntryId",
    "MessageType",
    "OperationType",
    "PerformanceMetrics",
    "Retention",
    "SecuritySeverity",
    "get_auditor",
]

__version__ = "0.1.0"
