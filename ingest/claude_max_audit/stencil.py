"""A stencil: the canonical bytes of one kind of message, cut where the next one differs.

Agents say much to few: of an entry's two dozen fields only id, times, content, metadata and
number are new from one message of a pair of agents to the next. The recorder makes the first
one with every check, cuts a stencil from its bytes, and fills that in for the others. The
bytes are the same as if each had been encoded whole.
"""

from __future__ import annotations

import msgspec

from claude_max_audit.entry import AuditEntry

_encode = msgspec.json.Encoder().encode


class Stencil:
    """What the messages of one sender, receiver, type, swarm and session have in common.

    `index_keys` is for the hot store, which notes there in which indexes all of them stand.
    """

    __slots__ = ("_pieces", "agent_id", "index_keys")

    def __init__(self, entry: AuditEntry) -> None:
        """Cut a stencil from a message without metadata that happened when it was recorded."""
        self.agent_id = entry.agent_id
        self.index_keys: tuple[str, ...] | None = None
        rest = entry.canonical_bytes()
        pieces: list[bytes] = []
        for name, value, quote in (
            (b"entry_id", entry.entry_id, b'"'),
            (b"timestamp", entry.timestamp, b'"'),
            (b"content", entry.content, b""),
            (b"content_hash", entry.content_hash, b'"'),
            (b"size_bytes", entry.size_bytes, b""),
            (b"metadata", entry.metadata_json, b""),
            (b"citation", entry.citation, b'"'),
            (b"recorded_at", entry.recorded_at, b'"'),
            (b"writer_seq", entry.writer_seq, b""),
        ):
            # A quotation mark within a text is written with a backslash, so a key is found
            # nowhere but where it stands.
            before, rest = rest.split(b'"%b":%b' % (name, _encode(value)), 1)
            pieces.append(b'%b"%b":%b' % (before, name, quote))
            rest = quote + rest
        pieces[6] += entry.citation.removesuffix(entry.entry_id).encode()
        self._pieces = (*pieces, rest)

    def fill(
        self,
        entry_id: bytes,
        moment: str,
        content: str,
        content_hash: str,
        size_bytes: int,
        metadata: msgspec.Raw,
        writer_seq: int,
    ) -> bytes:
        """The canonical bytes of the next message; `moment` is RFC 3339 in UTC."""
        start, at, text, digest, size, extra, citation, recorded, number, end = self._pieces
        same_moment = moment.encode()
        return b"".join(
            (
                start,
                entry_id,
                at,
                same_moment,
                text,
                _encode(content),
                digest,
                content_hash.encode(),
                size,
                b"%d" % size_bytes,
                extra,
                metadata,
                citation,
                entry_id,
                recorded,
                same_moment,
                number,
                b"%d" % writer_seq,
                end,
            )
        )
