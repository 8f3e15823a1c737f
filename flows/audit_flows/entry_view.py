"""How an entry looks on a screen: three lines in a list, everything in full alone.

Text of entries is untrusted; it passes through `printable` on its way to the screen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from audit_flows.terminal import fields, one_line, printable
from claude_max_audit.entry import AuditEntry, content_hash_of, entry_hash_of
from claude_max_audit.vocabulary import AuditEntryType, SecuritySeverity

SEVERITY_STYLES = {
    SecuritySeverity.LOW: "green",
    SecuritySeverity.MEDIUM: "yellow",
    SecuritySeverity.HIGH: "red",
    SecuritySeverity.CRITICAL: "bold red",
}
TYPE_STYLES = {
    AuditEntryType.MESSAGE: "cyan",
    AuditEntryType.CONTEXT_ACCESS: "blue",
    AuditEntryType.DECISION: "magenta",
    AuditEntryType.SECURITY_EVENT: "red",
    AuditEntryType.PERFORMANCE_METRIC: "green",
}


def in_brief(entry: AuditEntry, width: int) -> Text:
    """Return an entry as one indented line: when, who, and the text's beginning."""
    head = f"    {entry.timestamp:%Y-%m-%d %H:%M}  {one_line(who(entry), 36)}"
    view = Text(no_wrap=True, overflow="ellipsis").append(head, style="dim")
    return view.append(f"  {said(entry, max(width - len(head) - 2, 20))}")


def in_list(entry: AuditEntry, width: int) -> Text:
    """Return an entry as three lines: when, what and who; the text's beginning; the citation."""
    view = Text(no_wrap=True, overflow="ellipsis")
    view.append(f"{entry.timestamp:%Y-%m-%d %H:%M:%S}", style="bold")
    view.append("  ")
    view.append(kind_of(entry), style=TYPE_STYLES[entry.entry_type])
    if entry.severity is not None:
        view.append(f" {entry.severity}", style=SEVERITY_STYLES[entry.severity])
    view.append("  " + printable(who(entry)))
    view.append(f"  in {printable(' → '.join(entry.swarm_ids))}\n", style="dim")
    view.append(f"  {said(entry, width - 2)}\n")
    view.append(f"  {entry.citation}", style="dim")
    return view


def kind_of(entry: AuditEntry) -> str:
    """Return the entry's type, with what narrows it: message/request, context_access/read."""
    narrower = entry.message_type or entry.operation
    return f"{entry.entry_type}/{narrower}" if narrower else str(entry.entry_type)


def who(entry: AuditEntry) -> str:
    """Return the agent, and whom it addressed."""
    return f"{entry.agent_id} → {entry.to_agent}" if entry.to_agent else entry.agent_id


def said(entry: AuditEntry, width: int) -> str:
    """Return the content's beginning on one line, or the metadata's where there is none."""
    text = entry.content if entry.content is not None else bytes(entry.metadata_json).decode()
    return one_line(text, width) or "(empty)"


def in_full(entry: AuditEntry) -> Group:
    """Return everything that the entry holds, and whether its hashes fit."""
    parts: list[RenderableType] = [Text(entry.citation, style="bold"), fields(_facts(entry))]
    metadata = entry.metadata
    if metadata:
        parts += [Text("\nmetadata", style="dim"), _indented(json.dumps(metadata, indent=2))]
    if entry.content is not None:
        parts += [Text("\ncontent", style="dim"), _indented(entry.content)]
    return Group(*parts, Text(), fields(_proofs(entry)))


def _facts(entry: AuditEntry) -> Iterator[tuple[str, RenderableType]]:
    yield "happened", entry.timestamp.isoformat()
    yield "recorded", entry.recorded_at.isoformat()
    yield "type", kind_of(entry)
    yield "who", who(entry)
    yield "swarm", " → ".join(entry.swarm_ids)
    if entry.severity is not None:
        yield "severity", Text(entry.severity, style=SEVERITY_STYLES[entry.severity])
    for name in ("session_id", "parent_id", "context_window_size"):
        if (value := getattr(entry, name)) is not None:
            yield name.replace("_", " "), str(value)
    yield "size", f"{entry.size_bytes:,} bytes"
    yield "retention", str(entry.retention)
    yield "writer", f"{entry.writer_id}, entry number {entry.writer_seq}"


def _proofs(entry: AuditEntry) -> Iterator[tuple[str, RenderableType]]:
    content = content_hash_of(entry.content, bytes(entry.metadata_json))
    whole = entry_hash_of(entry.canonical_bytes())
    yield "content hash", _checked(entry.content_hash, content)
    yield "entry hash", _checked(entry.entry_hash or "", whole)


def hashes_fit(entry: AuditEntry) -> bool:
    """Say whether both hashes are those of the bytes."""
    return (
        entry.content_hash == content_hash_of(entry.content, bytes(entry.metadata_json))
        and entry.entry_hash == entry_hash_of(entry.canonical_bytes())
    )


def _checked(told: str, computed: str) -> Text:
    if told == computed:
        return Text.assemble(told, ("  fits", "green"))
    return Text.assemble(told, ("  DOES NOT FIT: the bytes give ", "bold red"), computed)


def _indented(text: str) -> Padding:
    return Padding(Text(printable(text)), (0, 0, 0, 2))
