"""The auditor for plain threads: the same calls as the asyncio face, without a loop.

Every `log_*` returns as soon as the entry is in the spool (with `durability="disk"`, on the
disk). Calls that ask a store block until it answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVarTuple

from claude_max_audit import arguments, asking
from claude_max_audit.entry_id import EntryId
from claude_max_audit.errors import SpoolFullError
from claude_max_audit.query import DEFAULT_LIMIT
from claude_max_audit.recorder import Made, Recorder
from claude_max_audit.results import AuditQueryResult, PerformanceMetrics
from claude_max_audit.trail import Trail
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

Given = TypeVarTuple("Given")

_security_log = logging.getLogger("claude_max_audit.security")
_LEVELS = {
    SecuritySeverity.LOW: logging.INFO,
    SecuritySeverity.MEDIUM: logging.WARNING,
    SecuritySeverity.HIGH: logging.ERROR,
    SecuritySeverity.CRITICAL: logging.CRITICAL,
}

FULL_PAUSE_SECONDS = 0.01
"""How long `overflow="block"` waits before it looks for room in the spool again."""


class SyncAuditor:
    """Logs and asks from plain threads. Get it from `ClaudeMaxAuditor(...).sync`."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def log_message(
        self,
        from_agent: str,
        to_agent: str | None,
        message_type: MessageType | str = MessageType.INFORM,
        content: str | None = None,
        swarm_id: str | None = None,
        from_swarm: str | None = None,
        to_swarm: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        retention: Retention | str | None = None,
        timestamp: datetime | None = None,
        parent_id: str | None = None,
        session_id: str | None = None,
    ) -> EntryId:
        """Log what one agent told another; `to_agent` None is a message to nobody in particular.

        Between two different swarms the entry gets both and `metadata["cross_swarm"]`.
        """
        if retention is None and timestamp is None and parent_id is None:
            envelope = (
                from_agent, to_agent, message_type, swarm_id, from_swarm, to_swarm, session_id,
            )  # fmt: skip
            return self._keep(Recorder.made_message, envelope, content, metadata)
        return self._keep(
            Recorder.made,
            AuditEntryType.MESSAGE,
            arguments.identifier("from_agent", from_agent),
            {
                "from_agent": from_agent,
                "to_agent": to_agent,
                "message_type": message_type,
                "content": arguments.required_text("content", content),
                "swarm_id": swarm_id,
                "from_swarm": from_swarm,
                "to_swarm": to_swarm,
                "metadata": metadata,
                "retention": retention,
                "timestamp": timestamp,
                "parent_id": parent_id,
                "session_id": session_id,
            },
        )

    def log_context_access(
        self,
        agent_id: str,
        session_id: str,
        operation: OperationType | str,
        size_bytes: int,
        swarm_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        context_window_size: int | None = None,
        content: str | None = None,
        retention: Retention | str | None = None,
        timestamp: datetime | None = None,
        parent_id: str | None = None,
    ) -> EntryId:
        """Log that an agent read or changed `size_bytes` bytes of a session's context.

        `context_window_size` is the window's size in tokens, `content` a description.
        """
        return self._keep(
            Recorder.made,
            AuditEntryType.CONTEXT_ACCESS,
            agent_id,
            {
                "session_id": arguments.identifier("session_id", session_id),
                "operation": arguments.word("operation", operation, OperationType),
                "size_bytes": arguments.whole_number("size_bytes", size_bytes),
                "swarm_id": swarm_id,
                "metadata": metadata,
                "context_window_size": context_window_size,
                "content": content,
                "retention": retention,
                "timestamp": timestamp,
                "parent_id": parent_id,
            },
        )

    def log_decision(
        self,
        agent_id: str,
        decision_type: str,
        rationale: str,
        citation: str | None = None,
        swarm_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        retention: Retention | str | None = None,
        timestamp: datetime | None = None,
        parent_id: str | None = None,
    ) -> EntryId:
        """Log what an agent decided and on which ground; `citation` is the ground's URI."""
        said: dict[str, Any] = {
            **arguments.mapping("metadata", metadata),
            "decision_type": arguments.identifier("decision_type", decision_type),
        }
        if citation is not None:
            said["source_citation"] = arguments.required_text("citation", citation)
        return self._keep(
            Recorder.made,
            AuditEntryType.DECISION,
            agent_id,
            {
                "content": arguments.required_text("rationale", rationale),
                "swarm_id": swarm_id,
                "metadata": said,
                "session_id": session_id,
                "retention": retention,
                "timestamp": timestamp,
                "parent_id": parent_id,
            },
        )

    def log_security_event(
        self,
        agent_id: str,
        event_type: str,
        severity: SecuritySeverity | str,
        details: Any = None,
        swarm_id: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        retention: Retention | str | None = None,
        timestamp: datetime | None = None,
        parent_id: str | None = None,
    ) -> EntryId:
        """Log what went wrong; it also goes to the logger `claude_max_audit.security`.

        `details` is a mapping (or any value that can be told as text) and stands in
        `metadata["details"]`. What in it JSON cannot hold, an object say, becomes its text.
        """
        grave = arguments.word("severity", severity, SecuritySeverity)
        kind = arguments.identifier("event_type", event_type)
        entry_id = self._keep(
            Recorder.made,
            AuditEntryType.SECURITY_EVENT,
            agent_id,
            {
                "severity": grave,
                "swarm_id": swarm_id,
                "metadata": {
                    **arguments.mapping("metadata", metadata),
                    "event_type": kind,
                    "details": arguments.details("details", details),
                },
                "session_id": session_id,
                "retention": retention,
                "timestamp": timestamp,
                "parent_id": parent_id,
            },
        )
        _security_log.log(_LEVELS[grave], "%s by %s: %s", kind, agent_id, entry_id.citation)
        return entry_id

    def log_performance_metric(
        self,
        agent_id: str,
        metric_type: str,
        value: float,
        unit: str,
        swarm_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        retention: Retention | str | None = None,
        timestamp: datetime | None = None,
        parent_id: str | None = None,
    ) -> EntryId:
        """Log one measured value, in `unit`."""
        return self._keep(
            Recorder.made,
            AuditEntryType.PERFORMANCE_METRIC,
            agent_id,
            {
                "swarm_id": swarm_id,
                "metadata": {
                    **arguments.mapping("metadata", metadata),
                    "metric_type": arguments.identifier("metric_type", metric_type),
                    "value": arguments.finite_number("value", value),
                    "unit": arguments.required_text("unit", unit),
                },
                "session_id": session_id,
                "retention": retention,
                "timestamp": timestamp,
                "parent_id": parent_id,
            },
        )

    def record(self, /, entry_type: AuditEntryType | str, agent_id: str, **fields: Any) -> EntryId:
        """Log an entry of any type by its fields, as `Recorder.make` takes them: for imports.

        `entry_id` may be given, so that importing the same source twice gives the same id.
        """
        kind = arguments.word("entry_type", entry_type, AuditEntryType)
        return self._keep(Recorder.made, kind, agent_id, fields)

    def search_logs(
        self,
        query: Mapping[str, Any],
        time_range: tuple[Any, Any] | None = None,
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
    ) -> AuditQueryResult:
        """Return a page of what matches, newest first (best first for `text_query`)."""
        return asking.search(self._trail, query, time_range, limit, offset)

    def export_audit_trail(
        self,
        swarm_id: str | None = None,
        format: str = "jsonl",
        start_date: datetime | date | None = None,
        end_date: datetime | date | None = None,
        output_path: str | Path | None = None,
    ) -> str:
        """Write a swarm's whole trail (None: every swarm's) to one file; returns its path."""
        return asking.export(self._trail, swarm_id, format, start_date, end_date, output_path)

    def get_metrics(self) -> PerformanceMetrics:
        """Return the trail's figures, in constant time."""
        return asking.metrics(self._trail)

    def generate_citation(self, entry_id: str) -> str:
        """Return the citation of a stored entry; raises `KeyError` when there is none."""
        return asking.citation_of(self._trail, entry_id)

    def archive_old_entries(self, days_old: int = 30) -> int:
        """Archive the days that ended `days_old` days ago or earlier; returns the entries.

        0 archives everything so far, the open day included; what comes later joins it.
        """
        return asking.archive(self._trail, days_old)

    def cleanup_expired_entries(self, older_than_days: int | None = None) -> int:
        """Purge what is past its retention (None: `cold_storage_years` calendar years)."""
        return asking.purge(self._trail, older_than_days)

    def flush_all(self, timeout: float | None = None) -> None:
        """Return when all accepted entries are in the store; raises when they cannot be."""
        self._trail.flush(timeout)

    def close(self) -> None:
        """Flush within a few seconds and stop; what is left is safe in the spool."""
        self._trail.close()

    def _keep(self, make: Callable[[Recorder, *Given], Made], *given: *Given) -> EntryId:
        """Record, waiting for room and for the disk where that was asked for."""
        while True:
            try:
                entry_id = self._trail.record(make, *given)
                break
            except SpoolFullError:
                if self._trail.overflow != "block":
                    raise
                time.sleep(FULL_PAUSE_SECONDS)
        commit = self._trail.commit_point()
        if commit is not None:
            group, seq = commit
            group.wait(seq)
        return entry_id
