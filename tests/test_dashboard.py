"""The two dashboard hooks, as the customer's document shows them, against a real Redis and lake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import claude_max_audit.auditor as auditor_module
from claude_max_audit import ClaudeMaxAuditor, SecuritySeverity, get_auditor
from claude_max_audit.dashboard import get_critical_alerts, get_dashboard_metrics
from claude_max_audit.settings import Settings


@pytest.fixture
def auditor(settings: Settings) -> Iterator[ClaudeMaxAuditor]:
    auditor = ClaudeMaxAuditor(home=settings.home, redis_url=settings.redis_url)
    yield auditor
    auditor.sync.close()


async def alarm(
    auditor: ClaudeMaxAuditor,
    ago: timedelta,
    severity: SecuritySeverity = SecuritySeverity.CRITICAL,
) -> str:
    return await auditor.log_security_event(
        "worker", "auth_failure", severity, {"attempts": 3}, timestamp=datetime.now(UTC) - ago
    )


def test_the_figures_come_with_the_newest_entries(auditor: ClaudeMaxAuditor) -> None:
    async def use() -> None:
        for number in range(60):
            await auditor.log_message("planner", "worker", "inform", f"number {number}")
        await auditor.flush_all()
        shown = await get_dashboard_metrics(auditor)
        assert shown["metrics"].total_entries_hot == shown["metrics"].written == 60
        assert shown["recent_entries"].total_count == 60
        told = [entry.content for entry in shown["recent_entries"].entries]
        assert told == [f"number {number}" for number in range(59, 9, -1)]
        few = await get_dashboard_metrics(auditor, limit=3)
        assert len(few["recent_entries"].entries) == 3

    asyncio.run(use())


def test_critical_alerts_are_those_of_the_last_hour(auditor: ClaudeMaxAuditor) -> None:
    async def use() -> None:
        old = await alarm(auditor, timedelta(minutes=90))
        first = await alarm(auditor, timedelta(minutes=50))
        second = await alarm(auditor, timedelta(minutes=1))
        await alarm(auditor, timedelta(minutes=1), SecuritySeverity.HIGH)
        alerts = await get_critical_alerts(auditor)
        assert [entry.entry_id for entry in alerts.entries] == [second, first]
        longer = await get_critical_alerts(auditor, within=timedelta(hours=2), limit=1)
        assert [entry.entry_id for entry in longer.entries] == [second]
        assert longer.total_count == 3
        assert old in {
            entry.entry_id
            for entry in (await get_critical_alerts(auditor, within=timedelta(days=1))).entries
        }

    asyncio.run(use())


def test_without_an_auditor_the_process_s_own_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    monkeypatch.setenv("AUDIT_REDIS_URL", str(settings.redis_url))
    monkeypatch.setattr(auditor_module, "_shared", None)

    async def use() -> None:
        await alarm(get_auditor(), timedelta())
        assert (await get_critical_alerts()).total_count == 1
        assert (await get_dashboard_metrics())["recent_entries"].total_count == 1
        await get_auditor().aclose()

    asyncio.run(use())


def test_stores_that_are_away_are_told_and_raise_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    auditor = ClaudeMaxAuditor(
        home=tmp_path, redis_url="redis://127.0.0.1:1", lake_uri=str(tmp_path / "file")
    )

    async def use() -> None:
        shown = await get_dashboard_metrics(auditor)
        assert shown["metrics"].degraded
        assert len(shown["metrics"].notes) == 2
        alerts = await get_critical_alerts(auditor)
        for answer in (shown["recent_entries"], alerts):
            assert not answer.complete
            assert {part.partition(":")[0] for part in answer.missing} == {"redis", "lake"}

    asyncio.run(use())


def test_a_limit_that_cannot_be_is_refused(auditor: ClaudeMaxAuditor) -> None:
    with pytest.raises(ValueError, match="limit"):
        asyncio.run(get_dashboard_metrics(auditor, limit=-1))
