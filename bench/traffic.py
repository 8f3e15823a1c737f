"""Made-up agent traffic for the benches: the same seed gives the same entries, ids included.

Called by every bench that needs entries. The mix is that of a working swarm: mostly messages,
then context accesses, decisions, security events and metrics. Every entry carries a content of
600 bytes, types that usually have none too, so that "an entry" means the same everywhere;
`recorded_at` alone is the clock's. Nothing here is taken from anybody's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from claude_max_audit.hot.batch import Stamped
from claude_max_audit.recorder import Recorder, encode_canonical
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    SecuritySeverity,
)

CONTENT_BYTES: Final = 600
"""Bytes of every content: the size that the figures to reach are given for."""

AGENTS: Final = tuple(
    f"{role}-{number}"
    for role in ("planner", "worker", "reviewer", "guardian")
    for number in range(50)
)
SWARMS: Final = (
    "research", "engineering", "operations", "finance", "support", "legal", "data", "web",
)  # fmt: skip
DAYS: Final = 30
"""Days that the entries are spread over, evenly: the hot store's default window."""

END: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The moment after the newest entry."""

REPEATED: Final = 50
"""One entry in so many repeats one of the last contents: agents do pass things on."""

_PROSE: Final = (
    "the a to of and in for with that this we I it is was are has have not no only again first "
    "last next open closed done failed passed checked found missing changed added removed "
    "compared context session window token tokens request response result report summary "
    "source sources document documents section chapter table figure number limit budget cost "
    "customer order invoice contract clause claim evidence decision approval review reviewer "
    "worker planner swarm agent task subtask queue deadline priority risk reason because "
    "therefore however before after while until between against within without parser scheduler "
    "storage release branch commit test tests coverage timeout retry error warning log trace "
    "latency throughput memory disk network cache index query answer question please analyse "
    "summarise compare extract rank verify repeat continue stop hold escalate confirm deny"
)
WORDS: Final = tuple(_PROSE.split())
"""What the made-up texts are made of."""


def traffic(
    count: int, seed: int = 1, days: int = DAYS, size: int = CONTENT_BYTES
) -> Iterator[Stamped]:
    """Yield `count` entries with contents of `size` bytes, oldest first, evenly over `days` days
    before `END`."""
    chance = Random(seed)
    recorder = Recorder(f"{seed:016x}")
    start, step = END - timedelta(days=days), timedelta(days=days) / count
    recent = [content(chance, size)]
    for number in range(count):
        if number % REPEATED == 0:
            text = chance.choice(recent)
        else:
            text = content(chance, size)
            recent = [*recent[-19:], text]
        moment = start + number * step
        entry = recorder.make(
            content=text,
            timestamp=moment,
            entry_id=_entry_id(chance, moment),
            **_fields(chance),
        )
        yield Stamped(entry, encode_canonical(entry))


def messages(count: int, seed: int = 1) -> Iterator[Stamped]:
    """Yield `count` messages from one agent to another within a swarm, as `log_message` makes."""
    chance = Random(seed)
    recorder = Recorder(f"{seed:016x}")
    for number in range(count):
        moment = END - timedelta(days=DAYS) + number * timedelta(days=DAYS) / count
        sender, receiver = chance.sample(AGENTS, 2)
        entry = recorder.make(
            AuditEntryType.MESSAGE,
            sender,
            from_agent=sender,
            to_agent=receiver,
            swarm_id=chance.choice(SWARMS),
            message_type=chance.choice(list(MessageType)),
            content=content(chance),
            timestamp=moment,
            entry_id=_entry_id(chance, moment),
        )
        yield Stamped(entry, encode_canonical(entry))


def content(chance: Random, size: int = CONTENT_BYTES) -> str:
    """Return a text of `size` bytes in words, about as compressible as agents' prose."""
    words: list[str] = []
    length = 0
    while length <= size:
        word = chance.choice(WORDS)
        if chance.random() < 0.12:
            word = f"{word}_{chance.randrange(10_000)}"
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]


def _fields(chance: Random) -> dict[str, Any]:
    """What differs between the types of entry."""
    sender, receiver = chance.sample(AGENTS, 2)
    swarm = chance.choice(SWARMS)
    shared: dict[str, Any] = {"agent_id": sender, "swarm_id": swarm}
    draw = chance.random()
    if draw < 0.60:
        shared |= {
            "entry_type": AuditEntryType.MESSAGE,
            "from_agent": sender,
            "to_agent": receiver,
            "message_type": chance.choice(list(MessageType)),
        }
        if chance.random() < 0.1:
            shared |= {"from_swarm": swarm, "to_swarm": chance.choice(SWARMS)}
    elif draw < 0.82:
        shared |= {
            "entry_type": AuditEntryType.CONTEXT_ACCESS,
            "operation": chance.choice(list(OperationType)),
            "session_id": _session(chance),
            "size_bytes": chance.randrange(200_000),
        }
    elif draw < 0.92:
        shared |= {
            "entry_type": AuditEntryType.DECISION,
            "metadata": {
                "decision_type": chance.choice(("approval", "veto", "plan", "handover")),
                "source_citation": f"if://guardian/{chance.randrange(1000)}",
            },
        }
    elif draw < 0.96:
        shared |= {
            "entry_type": AuditEntryType.SECURITY_EVENT,
            "severity": chance.choice(list(SecuritySeverity)),
            "metadata": {
                "event_type": chance.choice(("auth_failure", "rate_limit", "injection_suspected")),
                "details": {"attempts": chance.randrange(9)},
            },
        }
    else:
        shared |= {
            "entry_type": AuditEntryType.PERFORMANCE_METRIC,
            "metadata": {"metric_type": "latency", "value": chance.randrange(900), "unit": "ms"},
        }
    return shared


def _session(chance: Random) -> str:
    return f"session-{chance.randrange(2_000):04d}"


def _entry_id(chance: Random, moment: datetime) -> str:
    """A UUID of version 7 (RFC 9562) from the seed and the entry's own time."""
    stamp = f"{int(moment.timestamp() * 1000):012x}"
    bits = f"{chance.getrandbits(80):020x}"
    variant = "89ab"[int(bits[3], 16) & 3]
    return f"{stamp[:8]}-{stamp[8:]}-7{bits[:3]}-{variant}{bits[4:7]}-{bits[7:19]}"
