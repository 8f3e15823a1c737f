"""What a demonstration runs on: files that were named, the user's transcripts, or a made-up swarm.

A source is read twice: once by the import, and once to know what it holds. What the stores hold
at the end is compared with the second reading, which knows nothing of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from audit_flows.generated_swarm import generate_swarm
from audit_flows.imports.draft import Draft
from audit_flows.imports.importer import read_path

OWN_TRANSCRIPTS = Path(".claude/projects")
"""Where Claude Code keeps its transcripts, below the user's home."""

GENERATED_ENTRIES = 1_500
"""Enough for several days, agents and swarms; few enough to be indexed in seconds."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the entries come from: a path, or without one a swarm that ends at `made_up_until`."""

    told: str
    path: Path | None
    made_up_until: datetime
    grows: bool = False
    """Whether somebody may be writing to it meanwhile, as to the transcript of this session."""

    def drafts(self) -> Iterator[Draft]:
        """Read every entry that the source gives, in its order."""
        if self.path is None:
            yield from generate_swarm(self.made_up_until, entries=GENERATED_ENTRIES)
            return
        for _, found in read_path(self.path):
            yield from found.drafts


@dataclass(slots=True)
class Holdings:
    """What a source holds, counted from the source alone. An event that repeats counts once."""

    ids: set[str] = field(default_factory=set)
    agents: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    severities: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, source: Source) -> Holdings:
        """Read the source to its end."""
        held = cls()
        for draft in source.drafts():
            if draft.entry_id in held.ids:
                continue
            held.ids.add(draft.entry_id)
            held.agents[draft.arguments()["agent_id"]] += 1
            held.types[draft.entry_type.value] += 1
            if draft.severity is not None:
                held.severities[draft.severity.value] += 1
        return held


def choose_source(named: Path | None, now: datetime | None = None) -> Source:
    """Return the path that was named, else the user's own transcripts, else a made-up swarm.

    Raises `FileNotFoundError` when the named path is not there.
    """
    now = now or datetime.now(UTC)
    if named is not None:
        if not named.exists():
            raise FileNotFoundError(f"{named} is not there: name a file or a folder with .jsonl")
        return Source(str(named), named, now)
    own = Path.home() / OWN_TRANSCRIPTS
    if next(own.rglob("*.jsonl"), None) is not None:
        return Source(f"your own transcripts in {own}", own, now, grows=True)
    return Source("a generated swarm: made up, nothing in it happened", None, now)
