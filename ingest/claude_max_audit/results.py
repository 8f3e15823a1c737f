"""What the auditor answers: a page of entries, and the figures of its health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from claude_max_audit.entry import AuditEntry


@dataclass(frozen=True, slots=True)
class Page:
    """One tier's answer: entries newest first, and the exact number of all that match."""

    entries: Sequence[AuditEntry]
    total: int


@dataclass(frozen=True, slots=True)
class AuditQueryResult:
    """A page of a search. `total_count` is the exact number of matches, not of the page.

    `source` is redis, lake, redis+lake or chromadb (semantic). When `complete` is False,
    `missing` names the days or parts that should have been searched and were not.
    """

    entries: list[AuditEntry]
    total_count: int
    query_time_ms: float
    source: str
    complete: bool = True
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PerformanceMetrics:
    """The trail's figures, from maintained counters, in constant time whatever its size.

    `accepted == written + spooled + dropped` counts this process's own entries.
    """

    messages_per_second: float = 0.0
    avg_log_latency_ms: float = 0.0
    active_agents: int = 0
    total_entries_hot: int = 0
    total_entries_cold: int = 0
    cross_swarm_messages: int = 0
    accepted: int = 0
    spooled: int = 0
    written: int = 0
    dropped: int = 0
    batch_queue: int = 0
    degraded: bool = False
    notes: tuple[str, ...] = field(default=())
