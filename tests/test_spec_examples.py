"""The examples of the customer's document, with the calls as they stand there.

Only the import line differs, and the host's classes (coordinator, council, the operation that
is performed) are small stand-ins. Redis is real; data lives in the test's own folder.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from claude_max_audit import (
    AuditEntry,
    AuditEntryType,
    AuditQueryResult,
    CitationGenerator,
    ClaudeMaxAuditor,
    MessageType,
    OperationType,
    SecuritySeverity,
    get_auditor,
)

logger = logging.getLogger(__name__)
run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run


@pytest.fixture
def auditor(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ClaudeMaxAuditor]:
    """The process's own auditor, on the worker's Redis and a folder of its own."""
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AUDIT_REDIS_URL", redis_url)
    monkeypatch.setenv("AUDIT_EMBEDDER", "none")
    monkeypatch.setattr("claude_max_audit.auditor._shared", None)
    made = get_auditor()
    yield made
    made.sync.close()


async def stored(auditor: ClaudeMaxAuditor, entry_id: str) -> AuditEntry:
    """The entry as the store has it, after a flush."""
    await auditor.flush_all()
    results = await auditor.search_logs(query={"entry_id": entry_id})
    assert results.total_count == 1
    return results.entries[0]


# API reference


def test_an_auditor_is_built_though_no_redis_answers(
    auditor: ClaudeMaxAuditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ClaudeMaxAuditor(
        redis_host="localhost",
        redis_port=6379,
        storage_backend="redis+chromadb",  # or "redis", "chromadb"
        batch_size=10,
        hot_storage_days=30,
        cold_storage_years=7,
    )
    assert len(made.batch_queue) == 0
    made.sync.close()
    assert get_auditor() is auditor


def test_logging_a_message(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> AuditEntry:
        message_id = await auditor.log_message(
            from_agent="sonnet_coordinator_abc123",
            to_agent="haiku_worker_def456",
            message_type=MessageType.REQUEST,
            content="Please analyze the provided context",
            from_swarm="swarm_primary",
            to_swarm="swarm_secondary",
            metadata={
                "priority": "high",
                "timeout_seconds": 300
            }
        )
        assert message_id.citation == f"if://audit/message/{message_id}"
        return await stored(auditor, message_id)

    entry = run(example())
    assert entry.message_type is MessageType.REQUEST
    assert entry.content == "Please analyze the provided context"
    assert entry.metadata == {"priority": "high", "timeout_seconds": 300, "cross_swarm": True}


def test_the_message_types_of_the_document(auditor: ClaudeMaxAuditor) -> None:
    kinds = [
        MessageType.INFORM,
        MessageType.REQUEST,
        MessageType.ESCALATE,
        MessageType.HOLD,
        MessageType.RESPONSE,
        MessageType.ERROR,
    ]

    async def example() -> list[AuditEntry]:
        for kind in kinds:
            await auditor.log_message("a", "b", kind, f"one {kind}")
        await auditor.flush_all()
        return (await auditor.search_logs(query={"agent_id": "a"})).entries

    assert {entry.message_type for entry in run(example())} == set(kinds)


def test_logging_context_access(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> AuditEntry:
        access_id = await auditor.log_context_access(
            agent_id="haiku_worker_def456",
            session_id="session_20251130_001",
            operation=OperationType.READ,
            size_bytes=150000,
            swarm_id="swarm_secondary",
            metadata={
                "context_version": "v1.2",
                "chunk_count": 3
            }
        )
        return await stored(auditor, access_id)

    entry = run(example())
    assert (entry.operation, entry.size_bytes) == (OperationType.READ, 150000)
    assert (entry.session_id, entry.swarm_id) == ("session_20251130_001", "swarm_secondary")
    assert {o.value for o in OperationType} == {"read", "write", "update", "delete"}


def test_logging_a_decision(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> AuditEntry:
        decision_id = await auditor.log_decision(
            agent_id="sonnet_coordinator_abc123",
            decision_type="governance_approval",
            rationale="All constraints satisfied, entropy < 0.5",
            citation="if://guardian/decision/abc123",
            swarm_id="swarm_primary",
            metadata={
                "confidence_score": 0.95,
                "alternatives_considered": 3
            }
        )
        return await stored(auditor, decision_id)

    entry = run(example())
    assert entry.content == "All constraints satisfied, entropy < 0.5"
    assert entry.metadata["source_citation"] == "if://guardian/decision/abc123"
    assert entry.metadata["decision_type"] == "governance_approval"
    assert entry.citation == f"if://audit/decision/{entry.entry_id}"


def test_logging_a_security_event(
    auditor: ClaudeMaxAuditor, caplog: pytest.LogCaptureFixture
) -> None:
    async def example() -> AuditEntry:
        security_id = await auditor.log_security_event(
            agent_id="haiku_worker_def456",
            event_type="rate_limit_approaching",
            severity=SecuritySeverity.MEDIUM,
            details={
                "requests_per_minute": 45,
                "limit": 50,
                "breach_in_seconds": 60
            },
            swarm_id="swarm_secondary"
        )
        return await stored(auditor, security_id)

    entry = run(example())
    assert entry.severity is SecuritySeverity.MEDIUM
    assert entry.metadata["details"]["breach_in_seconds"] == 60
    assert [r.levelno for r in caplog.records if "rate_limit_approaching" in r.message] == [
        logging.WARNING
    ]


@pytest.mark.parametrize(
    "event_type",
    [
        "rate_limit_violation",
        "auth_failure",
        "unauthorized_access",
        "anomalous_pattern",
        "confidence_manipulation",
        "context_poisoning",
        "cross_swarm_anomaly",
    ],
)
def test_the_security_events_of_the_document(auditor: ClaudeMaxAuditor, event_type: str) -> None:
    async def example() -> AuditEntry:
        return await stored(
            auditor,
            await auditor.log_security_event("a", event_type, SecuritySeverity.LOW, details={}),
        )

    assert run(example()).metadata["event_type"] == event_type


def test_searching(auditor: ClaudeMaxAuditor) -> None:
    start_datetime = datetime.now(UTC) - timedelta(minutes=1)
    end_datetime = datetime.now(UTC) + timedelta(minutes=1)

    async def example() -> list[AuditQueryResult]:
        await auditor.log_message(
            "sonnet_coordinator_abc123", "b", MessageType.INFORM, "x", swarm_id="swarm_primary"
        )
        await auditor.log_security_event(
            "gate", "unauthorized_access", "critical", {"note": "authorization failures"}
        )
        await auditor.flush_all()
        by_agent = await auditor.search_logs(
            query={"agent_id": "sonnet_coordinator_abc123"},
            time_range=(start_datetime, end_datetime),
            limit=100
        )
        by_swarm = await auditor.search_logs(
            query={"swarm_id": "swarm_primary"}
        )
        by_type = await auditor.search_logs(
            query={"entry_type": "security_event"}
        )
        by_severity = await auditor.search_logs(
            query={"severity": "critical"}
        )
        by_meaning = await auditor.search_logs(
            query={"text_query": "Find all authorization failures"}
        )
        return [by_agent, by_swarm, by_type, by_severity, by_meaning]

    *by_key, by_meaning = run(example())
    assert [r.total_count for r in by_key] == [1, 1, 1, 1]
    assert all(r.complete and r.query_time_ms > 0 for r in by_key)
    assert all("redis" in r.source for r in by_key)
    assert by_meaning.entries[0].agent_id == "gate"


@pytest.mark.parametrize("format", ["jsonl", "json", "csv"])
def test_exporting(auditor: ClaudeMaxAuditor, tmp_path: Path, format: str) -> None:
    async def example() -> str:
        for day in (2, 20):
            await auditor.log_message(
                "a",
                "b",
                MessageType.INFORM,
                f"day {day}",
                swarm_id="swarm_primary",
                timestamp=datetime(2025, 11, day, tzinfo=UTC),
            )
        await auditor.log_message("a", "b", MessageType.INFORM, "today", swarm_id="swarm_primary")
        await auditor.flush_all()
        export_path = await auditor.export_audit_trail(
            swarm_id="swarm_primary",
            format=format,
            start_date=datetime(2025, 11, 1),
            end_date=datetime(2025, 11, 30),
            output_path=str(tmp_path / f"audit_export.{format}")
        )
        return str(export_path)

    path = Path(run(example()))
    text = path.read_text()
    assert "day 2" in text
    assert "day 20" in text
    assert "today" not in text
    manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    assert 2 in manifest.values()


def test_performance_metrics(
    auditor: ClaudeMaxAuditor, capsys: pytest.CaptureFixture[str]
) -> None:
    async def example() -> None:
        await auditor.log_message(
            "a", "b", MessageType.INFORM, "x", from_swarm="one", to_swarm="two"
        )
        await auditor.flush_all()
        metrics = await auditor.get_metrics()
        print(f"Active agents: {metrics.active_agents}")
        print(f"Hot storage entries: {metrics.total_entries_hot}")
        print(f"Cross-swarm messages: {metrics.cross_swarm_messages}")

    run(example())
    assert capsys.readouterr().out.splitlines() == [
        "Active agents: 1",
        "Hot storage entries: 1",
        "Cross-swarm messages: 1",
    ]


# IF.citation


def test_citations(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> None:
        message_id = await auditor.log_message("a", "b", MessageType.INFORM, "x")
        entry: AuditEntry = await stored(auditor, message_id)
        assert await auditor.generate_citation(entry_id=message_id) == entry.citation
        with pytest.raises(KeyError):
            await auditor.generate_citation(entry_id="abc123")

    run(example())


@pytest.mark.parametrize(
    "citation",
    [
        "if://audit/message/a1b2c3d4-5678-90ef-ghij-klmnopqrstuv",
        "if://audit/decision/x9y8z7w6-5432-10ef-jihg-tsrqponmlkji",
        "if://audit/security_event/m5n4o3p2-1098-76ef-dcba-ihgfedcbakji",
    ],
)
def test_the_citations_of_the_document_are_valid(citation: str) -> None:
    assert CitationGenerator.validate(citation)
    assert CitationGenerator.parse(citation).entry_type in set(AuditEntryType)


# Retention and archival


def old_entries(auditor: ClaudeMaxAuditor) -> None:
    """Log one entry of this minute, one of 40 days ago and one of eight years ago."""
    now = datetime.now(UTC)
    for age in (0, 40, 8 * 366):
        auditor.sync.log_message(
            "a", "b", MessageType.INFORM, f"{age} days", timestamp=now - timedelta(days=age)
        )
    auditor.sync.flush_all()


def test_manual_archival(auditor: ClaudeMaxAuditor) -> None:
    old_entries(auditor)

    async def example() -> tuple[int, int, AuditQueryResult]:
        archived_count = await auditor.archive_old_entries(days_old=30)
        purged_count = await auditor.cleanup_expired_entries(older_than_days=2555)
        return archived_count, purged_count, await auditor.search_logs({"agent_id": "a"})

    archived, purged, left = run(example())
    assert (archived, purged) == (2, 1)
    assert [entry.content for entry in left.entries] == ["0 days", "40 days"]
    assert left.complete


def test_the_daily_archival_task(
    auditor: ClaudeMaxAuditor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=__name__)
    old_entries(auditor)
    nights = asyncio.Event()
    sleep = asyncio.sleep

    async def one_night(seconds: float, *rest: Any) -> None:
        """The first day passes at once; the second one never ends."""
        if seconds != 86400:
            await sleep(seconds, *rest)
        elif caplog.records:
            nights.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", one_night)

    async def daily_archival() -> None:
        auditor = get_auditor()
        while True:
            # Every 24 hours
            await asyncio.sleep(86400)
            archived = await auditor.archive_old_entries(days_old=30)
            logger.info(f"Daily archival: {archived} entries")

    async def example() -> None:
        # Start in background
        task = asyncio.create_task(daily_archival())
        await asyncio.wait(
            [task, asyncio.create_task(nights.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(example())
    assert [r.message for r in caplog.records if r.name == __name__] == [
        "Daily archival: 2 entries"
    ]


# Cross-swarm messages


def test_messages_between_swarms_are_tagged(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> tuple[AuditEntry, AuditQueryResult]:
        message_id = await auditor.log_message(
            from_agent="agent_in_swarm_a",
            to_agent="agent_in_swarm_b",
            from_swarm="swarm_a",
            to_swarm="swarm_b",
            content="..."
        )
        await auditor.log_message("x", "y", content="within one swarm", swarm_id="swarm_a")
        entry = await stored(auditor, message_id)
        results = await auditor.search_logs(
            query={"text_query": "cross_swarm"}
        )
        return entry, results

    entry, results = run(example())
    assert list(entry.swarm_ids) == ["swarm_a", "swarm_b"]
    assert entry.metadata["cross_swarm"] is True
    assert entry.message_type is MessageType.INFORM
    assert [found.entry_id for found in results.entries] == [entry.entry_id]


# Performance


def test_the_recommended_configuration(auditor: ClaudeMaxAuditor) -> None:
    made = ClaudeMaxAuditor(
        batch_size=10,              # Larger = fewer Redis writes, more latency
        hot_storage_days=30,        # Balance between retention and storage
        storage_backend="redis+chromadb"  # Use both for best performance
    )
    made.sync.log_message("a", "b", content="x")
    made.sync.flush_all()
    made.sync.close()
    assert auditor.sync.search_logs({}).total_count == 1


def test_a_range_of_time_and_a_query_asked_twice(auditor: ClaudeMaxAuditor) -> None:
    end = datetime.now(UTC)
    start = end - timedelta(days=2)
    for age in (1, 3):
        auditor.sync.log_message(
            "agent_abc", "b", content=f"{age}", timestamp=end - timedelta(days=age)
        )
    auditor.sync.flush_all()

    async def example() -> None:
        results = await auditor.search_logs(
            query={},
            time_range=(start, end),
            limit=100
        )
        assert [entry.content for entry in results.entries] == ["1"]
        results1 = await auditor.search_logs({"agent_id": "agent_abc"})
        results2 = await auditor.search_logs({"agent_id": "agent_abc"})
        assert results1.entries == results2.entries
        assert results2.total_count == 2

    run(example())


# Integration


class RedisSwarmCoordinator:
    """Stands in for the host's coordinator: hands each message to whoever listens."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str, str, dict[str, Any]], Coroutine[Any, Any, None]]] = []

    async def send(self, from_agent: str, to_agent: str, message: dict[str, Any]) -> None:
        for listener in self.listeners:
            await listener(from_agent, to_agent, message)


def test_with_the_swarm_coordinator(auditor: ClaudeMaxAuditor) -> None:
    coordinator = RedisSwarmCoordinator()
    auditor = get_auditor()

    # Log every message sent through coordinator
    async def log_coordinator_message(
        from_agent: str, to_agent: str, message: dict[str, Any]
    ) -> None:
        await auditor.log_message(
            from_agent=from_agent,
            to_agent=to_agent,
            message_type=MessageType.INFORM,
            content=json.dumps(message),
            metadata={"coordinator": True}
        )

    coordinator.listeners.append(log_coordinator_message)

    async def example() -> AuditEntry:
        await coordinator.send("a", "b", {"task": "scan", "files": 3})
        await auditor.flush_all()
        return (await auditor.search_logs({"participant": "b"})).entries[0]

    entry = run(example())
    assert json.loads(entry.content or "") == {"task": "scan", "files": 3}
    assert entry.metadata == {"coordinator": True}


@dataclass
class Action:
    """What an agent asks the council for."""

    actor: str
    name: str


@dataclass
class Decision:
    """What the council answers."""

    approved: bool
    reason: str


class GuardianCouncil:
    """Stands in for the host's council: refuses to delete."""

    def decide(self, action: Action) -> Decision:
        return Decision(action.name != "delete", f"{action.name} was weighed")


def test_with_the_guardian_council(auditor: ClaudeMaxAuditor) -> None:
    council = GuardianCouncil()
    auditor = get_auditor()

    # Log governance decisions
    async def log_governance_decision(action: Action, decision: Decision) -> None:
        if not decision.approved:
            await auditor.log_security_event(
                agent_id="guardian_council",
                event_type="governance_rejection",
                severity=SecuritySeverity.HIGH,
                details={
                    "action": action,
                    "reason": decision.reason,
                    "actor": action.actor
                }
            )

    async def example() -> list[AuditEntry]:
        for action in (Action("haiku_1", "read"), Action("haiku_2", "delete")):
            await log_governance_decision(action, council.decide(action))
        await auditor.flush_all()
        return (await auditor.search_logs({"event_type": "governance_rejection"})).entries

    (entry,) = run(example())
    assert entry.metadata["details"]["actor"] == "haiku_2"
    assert "delete" in str(entry.metadata["details"]["action"])


async def perform_operation(agent_id: str, operation: OperationType, context: str) -> str:
    """Stands in for the host's work on a context."""
    return f"{agent_id} did {operation.value} on {len(context)} characters"


async def manage_context_with_audit(
    agent_id: str, session_id: str, operation: OperationType, context: str
) -> str:
    auditor = get_auditor()

    # Perform operation
    result = await perform_operation(agent_id, operation, context)

    # Log access
    await auditor.log_context_access(
        agent_id=agent_id,
        session_id=session_id,
        operation=operation,
        size_bytes=len(context.encode()),
        metadata={"result": result}
    )

    return result


def test_with_context_management(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> tuple[str, AuditEntry]:
        result = await manage_context_with_audit("a", "s1", OperationType.UPDATE, "naïve")
        await auditor.flush_all()
        return result, (await auditor.search_logs({"session_id": "s1"})).entries[0]

    result, entry = run(example())
    assert entry.size_bytes == 6
    assert entry.metadata == {"result": result}


# Dashboard


async def get_dashboard_metrics() -> dict[str, Any]:
    auditor = get_auditor()
    return {
        "metrics": await auditor.get_metrics(),
        "recent_entries": await auditor.search_logs(
            query={},
            limit=50
        )
    }


async def get_critical_alerts() -> AuditQueryResult:
    auditor = get_auditor()
    return await auditor.search_logs(
        query={"severity": "critical"},
        time_range=(datetime.utcnow() - timedelta(hours=1), datetime.utcnow())
    )


def test_dashboard_hooks_with_naive_utc_times(auditor: ClaudeMaxAuditor) -> None:
    now = datetime.now(UTC)
    for age_hours in (0, 2):
        auditor.sync.log_security_event(
            "gate", "auth_failure", "critical", {}, timestamp=now - timedelta(hours=age_hours)
        )
    auditor.sync.flush_all()
    figures = run(get_dashboard_metrics())
    assert figures["metrics"].total_entries_hot == 2
    assert len(figures["recent_entries"].entries) == 2
    assert run(get_critical_alerts()).total_count == 1


# Troubleshooting


def test_redis_connection_issues(
    auditor: ClaudeMaxAuditor, capsys: pytest.CaptureFixture[str]
) -> None:
    made = None
    try:
        made = ClaudeMaxAuditor(redis_host="localhost", redis_port=6379)
        print("Redis connected")
    except redis.ConnectionError as e:
        print(f"Redis unavailable: {e}")
        # Falls back to ChromaDB-only mode
    assert made is not None
    made.sync.close()
    assert capsys.readouterr().out == "Redis connected\n"


def test_chromadb_at_a_custom_path_or_not_at_all(
    auditor: ClaudeMaxAuditor, tmp_path: Path
) -> None:
    custom = ClaudeMaxAuditor(
        chromadb_path=str(tmp_path / "custom" / "audit")
    )
    custom.sync.close()
    hot_only = ClaudeMaxAuditor(
        storage_backend="redis"  # Redis-only
    )
    entry_id = hot_only.sync.log_message("a", "b", content="x")
    hot_only.sync.flush_all()
    assert hot_only.sync.generate_citation(entry_id) == entry_id.citation
    hot_only.sync.close()


def test_manual_flush_when_the_queue_builds_up(auditor: ClaudeMaxAuditor) -> None:
    async def example() -> int:
        for number in range(300):
            await auditor.log_message("a", "b", content=f"{number}")
            # Manual flush if queue builds up
            if len(auditor.batch_queue) > 100:
                await auditor.flush_all()
        await auditor.flush_all()
        assert len(auditor.batch_queue) == 0
        return (await auditor.search_logs({"agent_id": "a"}, limit=1)).total_count

    assert run(example()) == 300
