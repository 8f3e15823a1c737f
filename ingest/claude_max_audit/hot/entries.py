"""Entries by their ids: the text that Redis holds of them, and the values read from it.

An entry's hash has one field: `json` with the full entry, or `zlib` with the same compressed
(RFC 1950), where the setting `hot_compress_bytes` asks for it. Either is read whatever the
setting says; should both be there, they hold the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from claude_max_audit.entry import AuditEntry, decode_entry
from claude_max_audit.errors import TerminalError
from claude_max_audit.hot.keys import JSON_FIELD, ZLIB_FIELD, entry_key
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.resp import bulk


class UnreadableEntryError(TerminalError):
    """An entry's text in Redis is not an entry: somebody changed it, or it is damaged."""

    def __init__(self, address: str, entry_id: str, reason: str) -> None:
        self.address = address
        self.entry_id = entry_id
        self.reason = reason
        super().__init__(
            f"entry {entry_id} in Redis at {address} cannot be read: {reason}. Look at it with "
            f"HGETALL {entry_key(entry_id)}; the archive puts it into quarantine"
        )


def load(link: RedisLink, entry_ids: Sequence[bytes]) -> list[AuditEntry | None]:
    """The entries with these ids, None where there is none; raises `UnreadableEntryError`."""
    entries: list[AuditEntry | None] = []
    for read in load_readable(link, entry_ids):
        if isinstance(read, UnreadableEntryError):
            raise read
        entries.append(read)
    return entries


def load_readable(
    link: RedisLink, entry_ids: Sequence[bytes]
) -> list[AuditEntry | UnreadableEntryError | None]:
    """The entries with these ids, None where there is none, the error where it is unreadable."""
    return [
        None if text is None else _read(link, entry_id, text)
        for entry_id, text in zip(entry_ids, load_json(link, entry_ids), strict=True)
    ]


def load_json(link: RedisLink, entry_ids: Sequence[bytes]) -> list[bytes | None]:
    """The entries' JSON, None where there is none."""
    texts: list[bytes | None] = _field(link, entry_ids, JSON_FIELD)
    if None in texts:
        missing = [number for number, text in enumerate(texts) if text is None]
        packed = _field(link, [entry_ids[number] for number in missing], ZLIB_FIELD)
        for number, one in zip(missing, packed, strict=True):
            texts[number] = None if one is None else _unpacked(one)
    return texts


def _field(link: RedisLink, entry_ids: Sequence[bytes], name: str) -> list[bytes | None]:
    field = bulk(name)
    return link.ask_packed(
        [
            b"*3\r\n$4\r\nHGET\r\n$%d\r\naudit:entry:%b\r\n%b" % (len(i) + 12, i, field)
            for i in entry_ids
        ]
    )


def _unpacked(packed: bytes) -> bytes:
    """The JSON; of damaged bytes the bytes themselves, which no reader takes for an entry."""
    try:
        return zlib.decompress(packed)
    except zlib.error:
        return packed


def _read(link: RedisLink, entry_id: bytes, text: bytes) -> AuditEntry | UnreadableEntryError:
    try:
        return decode_entry(text)
    except ValueError as damaged:
        return UnreadableEntryError(link.address, entry_id.decode(), str(damaged))
