"""Large entries compressed in Redis: read back whole by every way in, mixed with others."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from claude_max_audit import ClaudeMaxAuditor, MessageType
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.keys import entry_key
from claude_max_audit.hot.store import HotStore, UnreadableEntryError
from claude_max_audit.query import Query
from claude_max_audit.settings import load_settings
from hot_trail import stamped

LIMIT = 2_000


@pytest.fixture
def entries(make_entry: Callable[..., AuditEntry]) -> list[AuditEntry]:
    return [
        make_entry(content=f"{number} said it " * (1 + number % 2 * 400)) for number in range(6)
    ]


def fields_of(redis_url: str, entry: AuditEntry) -> dict[bytes, bytes]:
    with redis.Redis.from_url(redis_url) as client:
        held: Any = client.hgetall(entry_key(entry.entry_id))
        return dict(held)


def test_only_large_entries_are_compressed_and_all_are_read(
    redis_url: str, entries: list[AuditEntry]
) -> None:
    hot = HotStore.connect(redis_url, compress_bytes=LIMIT)
    hot.append_batch(stamped(entries))
    for entry in entries:
        text = entry.to_json().encode()
        fields = fields_of(redis_url, entry)
        if len(text) < LIMIT:
            assert fields == {b"json": text}
        else:
            assert list(fields) == [b"zlib"]
            assert zlib.decompress(fields[b"zlib"]) == text
            assert len(fields[b"zlib"]) < len(text) / 2
    assert list(hot.page(Query(), 10, 0).entries) == entries[::-1]
    assert hot.find([entry.entry_id for entry in entries]) == {e.entry_id: e for e in entries}
    [texts] = hot.scan_day(entries[0].day)
    assert texts == [entry.to_json().encode() for entry in entries]
    assert hot.forget([entry.entry_id for entry in entries]) == len(entries)
    assert hot.count(Query()) == 0
    hot.close()


def test_a_changed_setting_leaves_every_entry_readable(
    redis_url: str, entries: list[AuditEntry]
) -> None:
    for limit in (0, LIMIT, 0):
        hot = HotStore.connect(redis_url, compress_bytes=limit)
        hot.append_batch(stamped(entries))
        assert list(hot.page(Query(), 10, 0).entries) == entries[::-1]
        hot.close()


def test_damaged_bytes_are_told_and_hide_no_other_entry(
    redis_url: str, entries: list[AuditEntry], caplog: pytest.LogCaptureFixture
) -> None:
    hot = HotStore.connect(redis_url, compress_bytes=LIMIT)
    hot.append_batch(stamped(entries))
    damaged = entries[1]
    with redis.Redis.from_url(redis_url) as client:
        client.hset(entry_key(damaged.entry_id), "zlib", b"not compressed")
    with pytest.raises(UnreadableEntryError) as told:
        hot.find([damaged.entry_id])
    assert told.value.entry_id == damaged.entry_id
    others = [entry for entry in entries[::-1] if entry is not damaged]
    assert list(hot.page(Query(), 10, 0).entries) == others
    assert damaged.entry_id in caplog.text
    hot.close()


def test_the_auditor_takes_the_limit_from_the_settings(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_HOT_COMPRESS_BYTES", str(LIMIT))
    auditor = ClaudeMaxAuditor(redis_url=redis_url, home=tmp_path, storage_backend="redis")
    say = auditor.sync.log_message
    entry_id = say("a", "b", MessageType.INFORM, "long " * LIMIT)
    auditor.sync.flush_all()
    found = auditor.sync.search_logs({"entry_id": entry_id})
    auditor.sync.close()
    assert found.entries[0].content == "long " * LIMIT
    assert list(fields_of(redis_url, found.entries[0])) == [b"zlib"]
    assert found.entries[0].timestamp <= datetime.now(UTC)


def test_the_setting_is_off_by_default_and_refuses_a_negative_size() -> None:
    assert load_settings(environ={}).hot_compress_bytes == 0
    with pytest.raises(ValueError, match="AUDIT_HOT_COMPRESS_BYTES"):
        load_settings(environ={"AUDIT_HOT_COMPRESS_BYTES": "-1"})
