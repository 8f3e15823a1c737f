"""The ways to keep a log whose calls `call_latency.py` measures: ours, and what others use.

Each is a context that gives a `Contender` and cleans up after itself. A call gets the same content
and the same few fields everywhere. Ours check their arguments, make a time-ordered id, hash
the content and index it; the others do what their users do and no more.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from time import time_ns
from typing import Any
from uuid import uuid4

from audit_flows.embedded_redis import EmbeddedRedis
from claude_max_audit import ClaudeMaxAuditor, MessageType

Call = Callable[[str], Awaitable[object]]
Settle = Callable[[], Awaitable[object]]

SENDER, RECEIVER, SWARM = "planner-1", "worker-7", "research"
EVERY_TEN = 10
"""Entries after which the client in the event loop writes: the customer's `batch_size`."""


@dataclass
class Contender:
    """One way to log: its call, what waits for its background work, and what was measured."""

    call: Call
    settle: Settle
    share: float = 1.0
    """Part of a turn's calls that this one makes: less where each takes milliseconds."""
    calls_ns: list[int] = field(default_factory=list)
    stored_ns: list[float] = field(default_factory=list)
    """Nanoseconds an entry, of whole turns, until all of a turn was in the store."""


@contextmanager
def auditor(durability: str, redis_url: str, folder: Path) -> Iterator[Contender]:
    """`await auditor.log_message(...)`; its writer carries everything to Redis."""
    ours = ClaudeMaxAuditor(
        redis_url=redis_url,
        home=folder / durability,
        storage_backend="redis",
        durability=durability,
    )

    async def call(content: str) -> None:
        await ours.log_message(SENDER, RECEIVER, MessageType.REQUEST, content, swarm_id=SWARM)

    try:
        yield Contender(call, ours.flush_all, share=0.1 if durability == "disk" else 1.0)
    finally:
        ours.sync.close()


@contextmanager
def opentelemetry(folder: Path) -> Iterator[Contender]:
    """`logger.emit(...)` with the batch processor, to an exporter that throws all away."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import (
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Nowhere(LogRecordExporter):
        def export(self, batch: Any) -> LogRecordExportResult:
            return LogRecordExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 10_000) -> bool:
            return True

        def shutdown(self) -> None:
            """Have nothing to close."""

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(Nowhere()))
    logger = provider.get_logger("bench")

    async def call(content: str) -> None:
        logger.emit(
            LogRecord(
                timestamp=time_ns(),
                severity_number=SeverityNumber.INFO,
                body=content,
                attributes={"from": SENDER, "to": RECEIVER, "swarm": SWARM, "type": "request"},
            )
        )

    async def settle() -> None:
        provider.force_flush()

    try:
        yield Contender(call, settle)
    finally:
        provider.shutdown()


@contextmanager
def queue_handler(folder: Path) -> Iterator[Contender]:
    """`logger.info(...)` through `QueueHandler` to a file of JSON lines."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue()
    file = logging.FileHandler(folder / "queue_handler.log")
    file.setFormatter(_JsonLines())
    listener = logging.handlers.QueueListener(waiting, file)
    logger = logging.Logger("bench", logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    listener.start()
    fields = {"from": SENDER, "to": RECEIVER, "swarm": SWARM, "type": "request"}

    async def call(content: str) -> None:
        logger.info(content, extra={"fields": fields})

    async def settle() -> None:
        waiting.join()

    try:
        yield Contender(call, settle)
    finally:
        listener.stop()
        file.close()


class _JsonLines(logging.Formatter):
    """One JSON object a record, as log shippers take it."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        fields: dict[str, str] = record.__dict__["fields"]
        return json.dumps({"at": at, "content": record.getMessage(), **fields})


@contextmanager
def structlog_file(folder: Path) -> Iterator[Contender]:
    """`log.info(...)` of structlog, as JSON lines to a file, flushed at each call."""
    import structlog

    with open(folder / "structlog.log", "wb") as file:
        log = structlog.wrap_logger(
            structlog.BytesLogger(file),
            processors=[
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(
                    serializer=lambda entry, **_: json.dumps(entry).encode()
                ),
            ],
        )

        async def call(content: str) -> None:
            log.info(content, sender=SENDER, receiver=RECEIVER, swarm=SWARM, type="request")

        async def settle() -> None:
            """Nothing works in the background."""

        yield Contender(call, settle)


@contextmanager
def sqlite_wal(synchronous: str, folder: Path) -> Iterator[Contender]:
    """One INSERT and commit a call, in WAL mode, into a table without an index."""
    db = sqlite3.connect(folder / f"{synchronous}.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute(
        "CREATE TABLE entry (id TEXT, at TEXT, sender TEXT, receiver TEXT, swarm TEXT, "
        "type TEXT, content TEXT)"
    )

    async def call(content: str) -> None:
        at = datetime.now(UTC).isoformat()
        row = (str(uuid4()), at, SENDER, RECEIVER, SWARM, "request", content)
        db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    async def settle() -> None:
        """Nothing works in the background."""

    try:
        yield Contender(call, settle, share=0.1 if synchronous == "FULL" else 1.0)
    finally:
        db.close()


@contextmanager
def redis_in_the_loop(redis_url: str, folder: Path) -> Iterator[Contender]:
    """A client that awaits a pipeline in the event loop whenever ten entries have gathered.

    It writes what the customer's document describes: a hash with its expiry, and the id into the
    day's, the agent's and the swarm's set.
    """
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(redis_url)
    waiting: list[dict[str, str]] = []

    async def write() -> None:
        pipeline = client.pipeline(transaction=False)
        for entry in waiting:
            moment, day = entry["score"], entry["at"][:10]
            key = f"client:entry:{entry['id']}"
            pipeline.hset(key, items=[text for pair in entry.items() for text in pair])
            pipeline.expire(key, 2_592_000)
            pipeline.zadd(f"client:entries:{day}", {entry["id"]: moment})
            pipeline.sadd(f"client:agent:{entry['sender']}", entry["id"])
            pipeline.sadd(f"client:swarm:{entry['swarm']}", entry["id"])
        waiting.clear()
        await pipeline.execute()

    async def call(content: str) -> None:
        now = datetime.now(UTC)
        waiting.append(
            {
                "id": str(uuid4()),
                "at": now.isoformat(),
                "score": str(now.timestamp()),
                "sender": SENDER,
                "receiver": RECEIVER,
                "swarm": SWARM,
                "type": "request",
                "content": content,
                "content_hash": sha256(content.encode()).hexdigest(),
            }
        )
        if len(waiting) >= EVERY_TEN:
            await write()

    async def settle() -> None:
        if waiting:
            await write()
        await client.connection_pool.disconnect()  # the loop's end must find nothing open

    yield Contender(call, settle)


def contenders(server: EmbeddedRedis, folder: Path) -> dict[str, Callable[[], Any]]:
    """All contenders, by the name that the results give them."""
    return {
        "auditor, process": lambda: auditor("process", server.url, folder),
        "auditor, disk": lambda: auditor("disk", server.url, folder),
        "auditor, memory": lambda: auditor("memory", server.url, folder),
        "OpenTelemetry batch": lambda: opentelemetry(folder),
        "logging QueueHandler": lambda: queue_handler(folder),
        "structlog": lambda: structlog_file(folder),
        "SQLite WAL, NORMAL": lambda: sqlite_wal("NORMAL", folder),
        "SQLite WAL, FULL": lambda: sqlite_wal("FULL", folder),
        "Redis in the loop": lambda: redis_in_the_loop(server.url, folder),
    }
