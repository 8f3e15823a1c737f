"""A stencil: the canonical bytes of one kind of message, cut where the next one differs.

Agents say much to few: of an entry's two dozen fields only id, times, content, metadata and
number are new from one message of a pair of agents to the next. The recorder makes the first
one with every check, cuts a stencil from its bytes, and fills that in for the others. The
bytes are the same as if each had been encoded whole.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from claude_max_audit.entry import AuditEntry

_encode = msgspec.json.Encoder().encode


class Stencil:
    """What the messages of one sender, receiver, type, swarm and session have in common."""

    __slots__ = ("_pieces", "citation_prefix")

    def __init__(self, entry: AuditEntry) -> None:
        """Cut a stencil from a message without metadata that happened when it was recorded."""
        self.citation_prefix = entry.citation.removesuffix(entry.entry_id)
        rest = entry.canonical_bytes()
        pieces: list[bytes] = []
        for name, value in (
            (b"entry_id", entry.entry_id),
            (b"timestamp", entry.timestamp),
            (b"content", entry.content),
            (b"content_hash", entry.content_hash),
            (b"size_bytes", entry.size_bytes),
            (b"metadata", entry.metadata_json),
            (b"citation", entry.citation),
            (b"recorded_at", entry.recorded_at),
            (b"writer_seq", entry.writer_seq),
        ):
            # A quotation mark within a text is written with a backslash, so a key is found
            # nowhere but where it stands.
            before, rest = rest.split(b'"%b":%b' % (name, _encode(value)), 1)
            pieces.append(b'%b"%b":' % (before, name))
        first, *between = pieces
        self._pieces = (first, *between, rest)

    def fill(
        self, entry_id: str, moment: str, content: str, metadata: msgspec.Raw, writer_seq: int
    ) -> bytes:
        """The canonical bytes of the next message; `moment` is RFC 3339 in UTC."""
        start, at, text, digest, size, extra, citation, recorded, number, end = self._pieces
        content_bytes = content.encode()
        quoted_id = b'"%b"' % entry_id.encode()
        quoted_moment = b'"%b"' % moment.encode()
        return b"".join(
            (
                start,
                quoted_id,
                at,
                quoted_moment,
                text,
                _encode(content),
                digest,
                b'"%b"' % sha256(content_bytes).hexdigest().encode(),
                size,
                b"%d" % len(content_bytes),
                extra,
                metadata,
                citation,
                b'"%b"' % (self.citation_prefix + entry_id).encode(),
                recorded,
                quoted_moment,
                number,
                b"%d" % writer_seq,
                end,
            )
        )
