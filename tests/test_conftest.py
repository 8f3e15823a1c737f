"""The fixtures themselves: what every other test leans on must be valid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from claude_max_audit.citation import CitationGenerator
from claude_max_audit.entry import AuditEntry, content_hash_of, entry_hash_of
from claude_max_audit.settings import Settings
from claude_max_audit.vocabulary import AuditEntryType


@pytest.mark.parametrize("kind", list(AuditEntryType))
def test_made_entries_are_valid_and_sealed(
    make_entry: Callable[..., AuditEntry], kind: AuditEntryType
) -> None:
    entry = make_entry(entry_type=kind)
    assert entry.entry_hash == entry_hash_of(entry.canonical_bytes())
    assert entry.content_hash == content_hash_of(entry.content, bytes(entry.metadata_json))
    assert CitationGenerator.parse(entry.citation) == (kind, entry.entry_id)
    assert AuditEntry.from_json(entry.to_json()) == entry


def test_made_entries_follow_what_is_given(make_entry: Callable[..., AuditEntry]) -> None:
    first = make_entry(content="zwölf", swarm_id="north", metadata={"b": 1, "a": 2})
    second = make_entry()
    assert (first.size_bytes, first.swarm_ids) == (6, ("north",))
    assert bytes(first.metadata_json) == b'{"a":2,"b":1}'
    assert (first.writer_seq, second.writer_seq) == (1, 2)
    assert first.entry_id < second.entry_id


def test_settings_point_to_an_empty_redis(settings: Settings) -> None:
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.dbsize() == 0
