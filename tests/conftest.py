"""Fixtures that every test may use: a real Redis, the real data, settings, a valid entry.

Each xdist worker has a Redis of its own on a unix socket, so tests may flush it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
import pytest
import redis

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import process_life
from claude_max_audit.citation import CitationGenerator
from claude_max_audit.entry import (
    SCHEMA_VERSION,
    AuditEntry,
    content_hash_of,
    epoch_us,
)
from claude_max_audit.settings import Settings, load_settings
from claude_max_audit.vocabulary import (
    UNKNOWN_SWARM,
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

if TYPE_CHECKING:
    from s3_server import S3Server

REALDATA: Final = Path(__file__).resolve().parents[2] / "shared" / "realdata"
FIRST_MOMENT: Final = datetime(2025, 11, 30, 12, 0, tzinfo=UTC)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell how many faults the fault table tried, whichever worker tried them."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    tried = [told for one in reports for name, told in one.user_properties if name == "fault cases"]
    if tried:
        listed = ", ".join(f"{operation} {cases}" for operation, cases, _ in tried)
        cases, places = (sum(one[at] for one in tried) for at in (1, 2))
        terminalreporter.write_line(
            f"fault table: {cases:,} cases at {places:,} places in the code ({listed})"
        )


class RedisServer:
    """A running Redis: its address, and clients that are closed at the end of the session."""

    def __init__(self, embedded: EmbeddedRedis) -> None:
        self.embedded = embedded
        self.url = embedded.url
        self._clients: list[redis.Redis] = []

    def client(self, **options: Any) -> redis.Redis:
        """Return a new client of the server."""
        client = redis.Redis.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close all clients and stop the server."""
        for client in self._clients:
            client.close()
        self.embedded.stop()


@pytest.fixture(autouse=True)
def _no_inherited_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the AUDIT_ variables of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("AUDIT_") and name != "AUDIT_REALDATA":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_writer_outlives_its_test() -> Iterator[None]:
    """Fail a test whose auditor still writes: it would write into the next test's Redis.

    A writer that saw its Redis emptied sends its entries again, whoever's turn it is.
    """
    before = set(_writers())
    yield
    left = [trail for trail in _writers() if trail not in before]
    for trail in left:
        trail.close()
    assert not left, f"{len(left)} auditors were not closed"


def _writers() -> list[process_life.Living]:
    """The trails of this process that have a spool open."""
    return [trail for trail in list(process_life._alive) if trail.spool_lock is not None]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real redis-server on a unix socket, alone for this worker."""
    folder = tempfile.mkdtemp(prefix="audit-redis-")
    server = RedisServer(EmbeddedRedis(folder).start())
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the worker's Redis, emptied."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real multi-agent data, or skip."""
    folder = Path(os.environ.get("AUDIT_REALDATA") or REALDATA)
    if not (folder / "events").is_dir():
        pytest.skip(f"no real data in {folder}; set AUDIT_REALDATA to its folder")
    return folder


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    """Settings whose home is the test's own folder, with the worker's Redis."""
    return load_settings(environ={}, home=tmp_path / "home", redis_url=redis_url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server, alone for this worker. Polars finds its keys as it does without boto3."""
    import polars as pl

    from s3_server import start_s3_server  # brings boto3, which most tests do not need

    server = start_s3_server()
    pl.Config.set_default_credential_provider(None)
    try:
        yield server
    finally:
        pl.Config.set_default_credential_provider("auto")
        server.close()


@pytest.fixture
def s3_settings(tmp_path: Path, redis_url: str, s3_server: S3Server) -> Settings:
    """Settings whose lake is in an empty bucket, all else as in `settings`."""
    return load_settings(
        environ={},
        home=tmp_path / "home",
        redis_url=redis_url,
        lake_uri=f"s3://{s3_server.new_bucket()}/trail",
        lake_options=s3_server.variables,
    )


@pytest.fixture
def make_entry() -> Callable[..., AuditEntry]:
    """Return a function that makes valid, sealed entries; see `EntryMaker`."""
    return EntryMaker()


class EntryMaker:
    """Makes valid entries: each a second after the one before, `writer_seq` without a gap.

    Any field of `AuditEntry` may be given, enums as text too, `metadata` as a dict. What
    depends on a given field (hashes, size, citation, swarms) follows it.
    """

    def __init__(self) -> None:
        self._made = 0

    def __call__(self, **given: Any) -> AuditEntry:
        """Make the next entry."""
        self._made += 1
        kind = AuditEntryType(given.get("entry_type", AuditEntryType.MESSAGE))
        fields = {**_defaults(kind, self._made), **given, "entry_type": kind}
        _encode_metadata(fields)
        _derive(fields, given, self._made)
        entry = AuditEntry(**fields)
        return AuditEntry.from_json(entry.to_json())


def _defaults(kind: AuditEntryType, number: int) -> dict[str, Any]:
    moment = FIRST_MOMENT + timedelta(seconds=number)
    fields: dict[str, Any] = {
        "timestamp": moment,
        "agent_id": "agent_a",
        "swarm_id": UNKNOWN_SWARM,
        "metadata": {},
        "retention": Retention.STANDARD,
        "writer_id": "test-writer",
        "writer_seq": number,
        "schema_version": SCHEMA_VERSION,
    }
    return fields | _DEFAULTS_OF_KIND[kind]


_DEFAULTS_OF_KIND: Final[dict[AuditEntryType, dict[str, Any]]] = {
    AuditEntryType.MESSAGE: {
        "to_agent": "agent_b",
        "message_type": MessageType.INFORM,
        "content": "The build is green.",
    },
    AuditEntryType.CONTEXT_ACCESS: {
        "operation": OperationType.READ,
        "session_id": "session_1",
        "size_bytes": 1024,
    },
    AuditEntryType.DECISION: {
        "content": "All constraints are satisfied.",
        "metadata": {"decision_type": "approval", "source_citation": "if://guardian/1"},
    },
    AuditEntryType.SECURITY_EVENT: {
        "severity": SecuritySeverity.MEDIUM,
        "metadata": {"event_type": "auth_failure", "details": {"attempts": 3}},
    },
    AuditEntryType.PERFORMANCE_METRIC: {
        "metadata": {"metric_type": "latency", "value": 12.5, "unit": "ms"},
    },
}


def _encode_metadata(fields: dict[str, Any]) -> None:
    metadata = fields.pop("metadata")
    if "metadata_json" not in fields:
        encoder = msgspec.json.Encoder(order="deterministic")
        fields["metadata_json"] = msgspec.Raw(encoder.encode(metadata))


def _derive(fields: dict[str, Any], given: dict[str, Any], number: int) -> None:
    kind: AuditEntryType = fields["entry_type"]
    content: str | None = fields.get("content")
    if kind is AuditEntryType.MESSAGE:
        fields.setdefault("from_agent", fields["agent_id"])
    fields.setdefault("entry_id", _time_ordered_id(fields["timestamp"], number))
    fields.setdefault("swarm_ids", (fields["swarm_id"],))
    fields.setdefault("recorded_at", fields["timestamp"])
    fields.setdefault("citation", CitationGenerator.generate(kind, fields["entry_id"]))
    fields.setdefault("content_hash", content_hash_of(content, bytes(fields["metadata_json"])))
    if "size_bytes" not in given and (content is not None or "size_bytes" not in fields):
        fields["size_bytes"] = len((content or "").encode())


def _time_ordered_id(moment: datetime, number: int) -> str:
    """A UUID of version 7 (RFC 9562): milliseconds, then this maker's number, then chance."""
    milliseconds = epoch_us(moment) // 1000
    chance = int.from_bytes(os.urandom(7))
    bits = milliseconds << 80 | 7 << 76 | (number & 0xFFF) << 64 | 2 << 62 | chance
    return str(UUID(int=bits))
