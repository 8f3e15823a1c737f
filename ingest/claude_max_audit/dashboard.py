"""What a dashboard shows: the trail's figures with its newest entries, and the critical alerts.

Two hooks for whoever draws a page, on any event loop; `claude-audit watch` is drawn from them.
They only ask, and a store that is away is no error: `metrics.notes` and the answers' `complete`
and `missing` say what could not be seen.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from claude_max_audit.auditor import ClaudeMaxAuditor, get_auditor
from claude_max_audit.results import AuditQueryResult, PerformanceMetrics
from claude_max_audit.vocabulary import SecuritySeverity

RECENT_ENTRIES = 50
"""Newest entries beside the figures: a page of a dashboard, as the customer's document has it."""

ALERT_WINDOW = timedelta(hours=1)
"""How far back an alert is news; older ones are found by `search_logs`."""

ALERTS = 100
"""Most alerts in one answer; `total_count` tells how many there were."""


class DashboardMetrics(TypedDict):
    """What `get_dashboard_metrics` returns."""

    metrics: PerformanceMetrics
    recent_entries: AuditQueryResult


async def get_dashboard_metrics(
    auditor: ClaudeMaxAuditor | None = None, *, limit: int = RECENT_ENTRIES
) -> DashboardMetrics:
    """Return the figures of this moment and the `limit` newest entries, newest first.

    Without an `auditor` this process's own is asked (`get_auditor`). Raises `ValueError` for a
    limit that cannot be, never for a store that is away.
    """
    asked = auditor or get_auditor()
    metrics, recent = await asyncio.gather(
        asked.get_metrics(), asked.search_logs({}, limit=limit)
    )
    return {"metrics": metrics, "recent_entries": recent}


async def get_critical_alerts(
    auditor: ClaudeMaxAuditor | None = None,
    *,
    within: timedelta = ALERT_WINDOW,
    limit: int = ALERTS,
) -> AuditQueryResult:
    """Return the critical security events of the last hour (or `within`), newest first.

    `total_count` is the number of all of them, not of the page. Raises as
    `get_dashboard_metrics` does.
    """
    asked = auditor or get_auditor()
    now = datetime.now(UTC)
    critical = {"severity": SecuritySeverity.CRITICAL}
    return await asked.search_logs(critical, time_range=(now - within, now), limit=limit)
