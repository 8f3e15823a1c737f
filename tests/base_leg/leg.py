"""What an agent's process does where only redis and msgspec are installed beside the wheel.

Run by tests/test_packaging.py with the environment's own Python: `leg.py REDIS_URL HOME`.
It prints one line a step and fails at the first one that does not hold.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec

PLATFORM = (
    "chromadb",
    "deltalake",
    "great_expectations",
    "numpy",
    "onnxruntime",
    "pandas",
    "polars",
    "prefect",
    "pyarrow",
    "rich",
)

before = set(sys.modules)
import claude_max_audit  # noqa: E402
from claude_max_audit import (  # noqa: E402
    AuditEntry,
    AuditEntryType,
    ClaudeMaxAuditor,
    MessageType,
    OperationType,
    SecuritySeverity,
)
from claude_max_audit.errors import PlatformMissingError  # noqa: E402

REMEDY = 'pip install "claude-max-audit[platform]"'


def the_import_is_light() -> None:
    brought = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not brought.intersection(PLATFORM), brought
    assert "redis" not in brought, "redis is imported at first use"
    assert all(find_spec(name) is None for name in PLATFORM), "this is not the base environment"
    assert "site-packages" in str(claude_max_audit.__file__), claude_max_audit.__file__


async def every_kind_of_entry(auditor: ClaudeMaxAuditor) -> None:
    ids = [
        await auditor.log_message("a", "b", MessageType.REQUEST, "look at this", swarm_id="s"),
        await auditor.log_context_access("a", "session", OperationType.READ, 1_000, "s"),
        await auditor.log_decision("a", "approval", "all is well", "if://guardian/1", "s"),
        await auditor.log_security_event("a", "auth_failure", SecuritySeverity.HIGH, {}, "s"),
        await auditor.log_performance_metric("a", "latency", 1.5, "ms", "s"),
    ]
    await auditor.flush_all()
    found = await auditor.search_logs({"swarm_id": "s"})
    assert found.complete
    assert (found.total_count, found.source) == (5, "redis")
    assert {entry.entry_id for entry in found.entries} == set(ids)
    assert {entry.entry_type for entry in found.entries} == set(AuditEntryType)
    for entry in found.entries:
        assert AuditEntry.from_json(entry.to_json()) == entry
    assert await auditor.generate_citation(ids[0]) == ids[0].citation
    words = await auditor.search_logs({"text_query": "look at this"})
    assert [entry.entry_id for entry in words.entries] == [ids[0]]
    metrics = await auditor.get_metrics()
    assert (metrics.accepted, metrics.written, metrics.total_entries_hot) == (5, 5, 5)


async def what_needs_the_platform_says_so(auditor: ClaudeMaxAuditor) -> None:
    told = ""
    try:
        await auditor.export_audit_trail("s")
    except PlatformMissingError as missing:
        told = str(missing)
    assert REMEDY in told, "an export without the platform must be refused"


async def cold_days_are_named_as_missing(redis_url: str, home: str) -> None:
    async with ClaudeMaxAuditor(redis_url=redis_url, home=home) as auditor:
        found = await auditor.search_logs({"swarm_id": "s"})
        assert found.total_count == 5
        assert not found.complete
        assert any(REMEDY in part for part in found.missing), found.missing


async def main(redis_url: str, home: str) -> None:
    the_import_is_light()
    print("import: light")
    async with ClaudeMaxAuditor(
        redis_url=redis_url, home=home, storage_backend="redis"
    ) as auditor:
        await every_kind_of_entry(auditor)
        print("entries: logged, found, counted")
        await what_needs_the_platform_says_so(auditor)
        print("platform: its absence is told")
    await cold_days_are_named_as_missing(redis_url, home)
    print("cold days: named as missing")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
