"""One look at the trail: what the dashboard hooks and the metrics' sources tell at this moment.

A store that is away is part of the answer: its figures are missing and `notes` say why. Nothing is
written and nothing is started. Looks may be taken in a thread of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from audit_flows.exporter.figures import Sample
from audit_flows.exporter.scrape import Scraper
from audit_flows.exporter.sources import sources_of
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.dashboard import get_critical_alerts, get_dashboard_metrics
from claude_max_audit.results import AuditQueryResult, PerformanceMetrics
from claude_max_audit.settings import Settings

MOST_ENTRIES = 100
"""Newest entries that are fetched: more lines than any screen has left for them."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at `at` (aware UTC)."""

    at: datetime
    metrics: PerformanceMetrics
    recent: AuditQueryResult
    alerts: AuditQueryResult
    figures: Mapping[tuple[str, str], float]
    """Figure by its name without prefix and its label, "" without any."""

    def figure(self, name: str, label: str = "") -> float | None:
        """Return one figure; None where its store did not tell it."""
        return self.figures.get((name, label))

    def up(self, store: str) -> bool:
        """Say whether a store answered."""
        return self.figure("up", store) == 1

    @property
    def notes(self) -> list[str]:
        """What could not be seen and why, each once."""
        told = (*self.metrics.notes, *self.recent.missing, *self.alerts.missing)
        plain = (note.removeprefix("redis: ").removeprefix("lake: ") for note in told)
        return list(dict.fromkeys(plain))


class Looker:
    """Looks again and again, with the same connections."""

    def __init__(self, settings: Settings, auditor: ClaudeMaxAuditor) -> None:
        self._auditor = auditor
        self._scraper = Scraper(sources_of(settings))

    def look(self) -> Look:
        """Ask everything now; takes no longer than the slowest store's patience."""
        return asyncio.run(self._look())

    async def _look(self) -> Look:
        samples, shown, alerts = await asyncio.gather(
            asyncio.to_thread(self._scraper.samples),
            get_dashboard_metrics(self._auditor, limit=MOST_ENTRIES),
            get_critical_alerts(self._auditor),
        )
        return Look(
            datetime.now(UTC), shown["metrics"], shown["recent_entries"], alerts, _by_name(samples)
        )


def _by_name(samples: list[Sample]) -> dict[tuple[str, str], float]:
    return {
        (sample.name, "".join(sample.labels)): sample.value
        for sample in samples
        if not isinstance(sample.value, tuple)
    }
