"""Every Redis key of the trail, in one place, and the sets that an entry stands in.

Pure: names only, no server. A key is always written out whole; nothing here or elsewhere
searches Redis by pattern, so a `*` in an agent's name is just a character. What each key
holds and how it expires is told in docs/redis-keys.md, which a test holds to `KEY_FORMS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import is_cross_swarm
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

KEY_FORMS: Final[dict[str, str]] = {
    "audit:entry:{entry_id}": "hash",
    "audit:entries:{day}": "zset",
    "audit:agent:{agent_id}": "zset",
    "audit:to:{agent_id}": "zset",
    "audit:swarm:{swarm_id}": "zset",
    "audit:session:{session_id}": "zset",
    "audit:kind:{entry_type}:{word}": "zset",
    "audit:event:{event_type}": "zset",
    "audit:decision:{decision_type}": "zset",
    "audit:cross_swarm": "zset",
    "audit:permanent": "zset",
    "audit:twice": "zset",
    "audit:content:{day}:{part}": "zset",
    "audit:keys:{day}": "set",
    "audit:archived:{day}": "string",
    "audit:days": "zset",
    "audit:agents": "zset",
    "audit:kinds": "zset",
    "audit:writer:{writer_id}": "string",
}
"""Form of every key, with its Redis type."""

JSON_FIELD: Final = "json"
"""The one field of an entry's hash: one field of JSON costs half the memory of many fields."""

ZLIB_FIELD: Final = "zlib"
"""The field that stands in its place where a large entry is compressed."""

CROSS_SWARM: Final = "audit:cross_swarm"
PERMANENT: Final = "audit:permanent"
TWICE: Final = "audit:twice"
"""Entries that a union of sets would count twice although they do not cross swarms: a message
to oneself, or a swarm that is not among the entry's swarms. Almost always empty."""

DAYS: Final = "audit:days"
"""Every UTC day that has entries, scored by the epoch second at which one of them expires."""

AGENTS: Final = "audit:agents"
"""Every sender, scored by the epoch microsecond at which its newest entry was taken down."""

KINDS: Final = "audit:kinds"
"""Kinds beyond `USUAL_KINDS` that Redis holds, so that no query overlooks them."""


def entry_key(entry_id: str) -> str:
    """Hash of one entry."""
    return f"audit:entry:{entry_id}"


def day_key(day: str) -> str:
    """Ids of one UTC day."""
    return f"audit:entries:{day}"


def agent_key(agent_id: str) -> str:
    """Ids of the entries that this agent made."""
    return f"audit:agent:{agent_id}"


def to_key(agent_id: str) -> str:
    """Ids of the entries that are addressed to this agent."""
    return f"audit:to:{agent_id}"


def swarm_key(swarm_id: str) -> str:
    """Ids of the entries in this swarm."""
    return f"audit:swarm:{swarm_id}"


def session_key(session_id: str) -> str:
    """Ids of the entries of this session."""
    return f"audit:session:{session_id}"


def event_key(event_type: str) -> str:
    """Ids of the entries whose metadata names this event type."""
    return f"audit:event:{event_type}"


def decision_key(decision_type: str) -> str:
    """Ids of the entries whose metadata names this decision type."""
    return f"audit:decision:{decision_type}"


_CONTENT_PARTS: Final = 1024
"""Parts that a day's contents are in. Redis packs a sorted set of up to 128 short members into
a third of the memory, and so many parts stay that small up to a hundred thousand entries a day."""


def content_part(content: bytes) -> int:
    """The number of the part that a content, named by `content_name`, is in."""
    return (content[0] << 8 | content[1]) % _CONTENT_PARTS


def content_part_key(day: str, part: int) -> str:
    """One part of one UTC day's contents."""
    return f"audit:content:{day}:{part:03x}"


def content_key(day: str, content: bytes) -> str:
    """The part of one UTC day's contents that this one, named by `content_name`, is in."""
    return content_part_key(day, content_part(content))


def content_keys(day: str) -> list[str]:
    """All parts of one UTC day's contents."""
    return [content_part_key(day, part) for part in range(_CONTENT_PARTS)]


def touched_key(day: str) -> str:
    """Index keys in which entries of this UTC day stand."""
    return f"audit:keys:{day}"


def writer_key(writer_id: str) -> str:
    """Mark of a writer: the number of the last entry that it brought."""
    return f"audit:writer:{writer_id}"


def archived_key(day: str) -> str:
    """Marker of a day that the archive has released: the lake's number of entries then."""
    return f"audit:archived:{day}"


class Kind(NamedTuple):
    """An entry's type with its message type, operation or severity: disjoint sets.

    Words of the three vocabularies differ, so a word tells which of them it belongs to.
    """

    entry_type: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The kind as text, `message:request` or `decision:-`."""
        return f"{self.entry_type}:{'+'.join(self.words) or '-'}"

    @property
    def key(self) -> str:
        """The key of the ids of this kind."""
        return f"audit:kind:{self.name}"

    @classmethod
    def parse(cls, name: str) -> Kind:
        """Read what `name` wrote."""
        entry_type, words = name.split(":")
        return cls(entry_type, () if words == "-" else tuple(words.split("+")))


_WORDS_OF_TYPE: Final[dict[str, Iterable[str]]] = {
    AuditEntryType.MESSAGE: MessageType,
    AuditEntryType.CONTEXT_ACCESS: OperationType,
    AuditEntryType.DECISION: (),
    AuditEntryType.SECURITY_EVENT: SecuritySeverity,
    AuditEntryType.PERFORMANCE_METRIC: (),
}

USUAL_KINDS: Final = tuple(
    Kind(entry_type.value, words)
    for entry_type in AuditEntryType
    for words in [(), *((str(word),) for word in _WORDS_OF_TYPE[entry_type])]
)
"""Kinds that entries are meant to have; any other is written to `audit:kinds` as well."""

USUAL_KIND_NAMES: Final = frozenset(kind.name for kind in USUAL_KINDS)


def kind_of(entry: AuditEntry) -> Kind:
    """The kind of `entry`; an entry may carry several words, though none is meant to."""
    words = (entry.message_type, entry.operation, entry.severity)
    return Kind(entry.entry_type.value, tuple(word.value for word in words if word is not None))


def index_keys(entry: AuditEntry) -> list[str]:
    """Keys of the sorted sets that hold `entry`'s id scored by its timestamp, its day's aside."""
    keys = [f"audit:agent:{entry.agent_id}", _kind_key(entry)]
    swarm_id, swarm_ids = entry.swarm_id, entry.swarm_ids
    keys.append(f"audit:swarm:{swarm_id}")
    if swarm_ids != (swarm_id,):
        keys += [swarm_key(other) for other in sorted(set(swarm_ids) - {swarm_id})]
        if is_cross_swarm(entry):
            keys.append(CROSS_SWARM)
    if entry.to_agent is not None:
        keys.append(f"audit:to:{entry.to_agent}")
    if entry.session_id is not None:
        keys.append(f"audit:session:{entry.session_id}")
    if entry.retention is Retention.PERMANENT:
        keys.append(PERMANENT)
    if entry.to_agent == entry.agent_id or swarm_id not in swarm_ids:
        keys.append(TWICE)
    named = _named_in_metadata(entry)
    if named is not None:
        if _is_word(named.event_type):
            keys.append(event_key(named.event_type))
        if _is_word(named.decision_type):
            keys.append(decision_key(named.decision_type))
    return keys


def _kind_key(entry: AuditEntry) -> str:
    """`kind_of(entry).key`, in a tenth of the time for the kinds that are usual."""
    word = entry.message_type or entry.operation or entry.severity
    if word is None:
        return f"audit:kind:{entry.entry_type}:-"
    usual = f"{entry.entry_type}:{word}"
    if usual in USUAL_KIND_NAMES and not _is_mixed(entry):
        return f"audit:kind:{usual}"
    return kind_of(entry).key


def _is_mixed(entry: AuditEntry) -> bool:
    words = (entry.message_type, entry.operation, entry.severity)
    return words.count(None) < 2


class _Named(msgspec.Struct):
    event_type: Any = None
    decision_type: Any = None


_decode_named = msgspec.json.Decoder(_Named).decode


def _named_in_metadata(entry: AuditEntry) -> _Named | None:
    """Read the two words of the metadata that are indexed, parsing only where they may be."""
    text = bytes(entry.metadata_json)
    if b'"event_type"' in text or b'"decision_type"' in text or b"\\u" in text:
        return _decode_named(text)
    return None


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_LEAST_SCORE: Final = -62_135_596_800_000_000
"""Epoch microseconds of the year 1: moments as distances from it sort as they are, in bytes."""

_NAME_BYTES: Final = 20
"""With a moment and a UUID just the 64 bytes that Redis takes for a short member."""

_DIGEST_BYTES: Final = 32


def content_name(content_hash: str) -> bytes:
    """What stands for a content hash in `audit:content`: the first 160 bits of a SHA-256 as we
    write it, and of any other text those of its own SHA-256."""
    try:
        digest = bytes.fromhex(content_hash)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES or digest.hex() != content_hash:
        digest = sha256(content_hash.encode()).digest()
    return content_name_of(digest)


def content_name_of(digest: bytes) -> bytes:
    """The same for the 32 bytes of a content's SHA-256."""
    return digest[:_NAME_BYTES]


def content_member(content: bytes, score: int, entry_id: bytes) -> bytes:
    """One copy of a content, by its name: sorts by name, then time, then id."""
    return content + packed_moment(score) + entry_id


def parse_content_member(member: bytes) -> tuple[int, bytes]:
    """Score and entry id of what `content_member` wrote."""
    id_start = _NAME_BYTES + 8
    return int.from_bytes(member[_NAME_BYTES:id_start]) + _LEAST_SCORE, member[id_start:]


def content_range(content: bytes, low: int, high: int) -> tuple[bytes, bytes]:
    """Bounds, for the lexicographic commands, of a content's copies from `low` to `high`."""
    return b"[" + content + packed_moment(low), b"(" + content + packed_moment(high + 1)


def packed_moment(score: int) -> bytes:
    """An epoch microsecond in 8 bytes that sort as the moments do."""
    return (score - _LEAST_SCORE).to_bytes(8)


_DAY_US: Final = 86_400_000_000
_day_names: dict[int, str] = {}


def day_of(score: int) -> str:
    """UTC day, as YYYY-MM-DD, of an epoch microsecond."""
    number = score // _DAY_US
    name = _day_names.get(number)
    if name is None:
        name = date.fromordinal(_EPOCH_ORDINAL + number).isoformat()
        _day_names[number] = name
    return name


def day_end(day: str) -> int:
    """Epoch second of the first instant after a UTC day."""
    return (date.fromisoformat(day).toordinal() - _EPOCH_ORDINAL + 1) * 86_400


_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
