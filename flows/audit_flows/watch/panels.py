"""The panels of the live view, each drawn from one look. Pure: asks no store, reads no clock.

A panel whose store is away, or that asks somebody to look, has a border that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.box import ROUNDED
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from audit_flows.amounts import age, count, counted, size
from audit_flows.commands.status import JOBS
from audit_flows.entry_view import SEVERITY_STYLES, TYPE_STYLES, said, who
from audit_flows.terminal import one_line, printable
from audit_flows.watch.look import Look
from claude_max_audit.entry import AuditEntry
from claude_max_audit.vocabulary import AuditEntryType

CALM, ASKS, AWAY = "bright_black", "yellow", "red"
"""Borders: all is well, somebody should look, a store does not answer or an alert is on."""

NEAR_FULL = 0.85
"""Share of Redis' maxmemory from which the card asks for a look, as the alert rule does."""

_SHORT = {
    AuditEntryType.MESSAGE: "message",
    AuditEntryType.CONTEXT_ACCESS: "access",
    AuditEntryType.DECISION: "decision",
    AuditEntryType.SECURITY_EVENT: "security",
    AuditEntryType.PERFORMANCE_METRIC: "metric",
}
"""What a line calls an entry that has no narrower word."""

_BARS = "▁▂▃▄▅▆▇█"
_KIND_WIDTH, _WHO_WIDTH = 10, 38
_WHO_SHARE = 0.32
"""Most of a line that names take, so that there is room for what was said."""


def redis_card(look: Look, height: int) -> Panel:
    """What Redis holds and how much of its memory."""
    used, most = look.figure("redis_memory_bytes"), look.figure("redis_memory_max_bytes")
    if not look.up("redis"):
        return _card("Redis", [Text("does not answer", style="red")], AWAY, height)
    lines = [
        _large(f"{look.metrics.total_entries_hot:,}", "entries"),
        Text(counted(int(look.figure("hot_days") or 0), "day")),
        Text(f"{counted(look.metrics.active_agents, 'agent')} active"),
    ]
    share = used / most if used is not None and most else None
    if used is not None:
        lines.append(Text(f"{size(int(used))} of memory"))
    if share is not None:
        lines[-1] = Text(f"{share:.0%} of {size(int(most or 0))}")
    near = share is not None and share >= NEAR_FULL
    return _card("Redis", lines, ASKS if near else CALM, height)


def lake_card(look: Look, height: int) -> Panel:
    """What the lake holds, and what it should hold and does not."""
    if not look.up("lake"):
        return _card("Lake", [Text("does not answer", style="red")], AWAY, height)
    waiting = look.figure("days_not_archived")
    bad = look.figure("quarantined_entries") or 0
    lines = [
        _large(f"{look.metrics.total_entries_cold:,}", "entries"),
        Text(f"{size(int(look.figure('lake_bytes') or 0))}, "
             f"{counted(int(look.figure('lake_files') or 0), 'file')}"),
        _remark(counted(int(waiting), "day") + " not archived", waiting > 0)
        if waiting is not None
        else Text("backlog unknown", style="dim"),
        _remark(f"{count(int(bad))} in quarantine", bad > 0),
    ]  # fmt: skip
    return _card("Lake", lines, ASKS if waiting or bad else CALM, height)


def spool_card(look: Look, height: int) -> Panel:
    """What became of this machine's calls."""
    if not look.up("spool"):
        return _card("Spool", [Text("cannot be read", style="red")], AWAY, height)
    dropped = look.figure("dropped_entries_total") or 0
    rejected = look.figure("spool_rejected_segments") or 0
    lines = [
        _large(f"{look.figure('spooled_entries') or 0:,.0f}", "waiting"),
        Text(f"{size(int(look.figure('spool_bytes') or 0))}, "
             f"{counted(int(look.figure('spool_writers') or 0), 'writer')}"),
        _remark(f"{count(int(dropped))} dropped", dropped > 0),
        _remark(f"{counted(int(rejected), 'segment')} rejected", rejected > 0),
    ]  # fmt: skip
    return _card("Spool", lines, ASKS if dropped or rejected else CALM, height)


def traffic_card(look: Look, rates: Sequence[float], height: int) -> Panel:
    """Entries a second now, and since the view was opened."""
    free = look.figure("disk_free_bytes", "home")
    lines = [
        _large(f"{look.metrics.messages_per_second:,.1f}", "entries/s"),
        Text(sparkline(rates), style="cyan"),
        Text(f"{count(look.metrics.cross_swarm_messages)} cross-swarm"),
        Text("" if free is None else f"{size(int(free))} of disk free"),
    ]
    return _card("Traffic", lines, CALM, height)


def alerts_panel(look: Look, height: int) -> Panel:
    """The critical events of the last hour, newest first."""
    alerts = look.alerts
    title = "Critical, last hour"
    if not alerts.entries:
        told = "none" if alerts.complete else "none seen; not all could be asked"
        style = "green" if alerts.complete else "yellow"
        return _card(title, [Text(told, style=style)], CALM if alerts.complete else ASKS, height)
    grid = _grid((8, None), (None, 1), (None, 1))
    for entry in alerts.entries[: height - 2]:
        event = printable(str(entry.metadata.get("event_type", "")))
        grid.add_row(
            f"{entry.timestamp:%H:%M:%S}", Text(event, style="bold red"), printable(who(entry))
        )
    return _framed(grid, f"{title}: {count(alerts.total_count)}", AWAY, height)


def jobs_panel(look: Look, height: int) -> Panel:
    """How the newest run of each job ended, and when."""
    if not look.up("jobs"):
        return _card("Jobs", [Text("their table cannot be read", style="red")], AWAY, height)
    grid = _grid((15, None), (9, None), (None, 1))
    failed = 0
    for flow in JOBS:
        ran = look.figure("job_last_run_timestamp_seconds", flow)
        if ran is None:
            grid.add_row(flow, Text("never ran", style="dim"))
            continue
        ago = f"{age(look.at.timestamp() - ran)} ago"
        if look.figure("job_last_run_succeeded", flow):
            grid.add_row(flow, Text("succeeded", style="green"), ago)
            continue
        failed += 1
        well = look.figure("job_last_success_age_seconds", flow)
        told = "never succeeded" if well is None else f"well {age(well)} ago"
        grid.add_row(flow, Text("failed", style="bold red"), f"{ago}, {told}")
    return _framed(grid, "Jobs", AWAY if failed else CALM, height)


def in_one_line(look: Look) -> Text:
    """Alerts and failed jobs where there is no room for their panels."""
    critical = look.alerts.total_count
    failed = [flow for flow in JOBS if look.figure("job_last_run_succeeded", flow) == 0]
    line = Text(no_wrap=True, overflow="ellipsis")
    style = "bold red" if critical else "green"
    line.append(f"  {count(critical)} critical in the last hour", style)
    if failed:
        return line.append(f"   failed: {', '.join(failed)}", "bold red")
    return line.append("   no job failed" if look.up("jobs") else "   jobs unknown", "dim")


def entries_panel(look: Look, height: int, width: int) -> Panel:
    """The newest entries, one a line, as many as there is room for."""
    recent = look.recent
    shown = recent.entries[: height - 2]
    today = all(entry.timestamp.date() == look.at.date() for entry in shown)
    when = "%H:%M:%S" if today else "%y-%m-%d %H:%M"
    names = min(round((width - 4) * _WHO_SHARE), _WHO_WIDTH)
    grid = _grid((8 if today else 14, None), (_KIND_WIDTH, None), (names, None), (None, 1))
    for entry in shown:
        grid.add_row(*_entry(entry, when, names, width))
    whole = "" if recent.complete else ", not all could be asked"
    title = f"Newest of {counted(recent.total_count, 'entry')}{whole}"
    inside = grid if shown else Text("no entries", style="dim")
    return _framed(inside, title, CALM if recent.complete else ASKS, height)


def sparkline(rates: Sequence[float]) -> str:
    """Return rates as bars, the newest last; the highest is the full height."""
    top = max(rates, default=0.0) or 1.0
    return "".join(_BARS[round(rate / top * (len(_BARS) - 1))] for rate in rates)


def _entry(entry: AuditEntry, when: str, names: int, width: int) -> Iterable[Text]:
    """The cells of one entry; text of entries passes through `printable` on its way."""
    yield Text(f"{entry.timestamp:{when}}", style="dim")
    if entry.severity is not None:
        yield Text(f"! {entry.severity}", style=SEVERITY_STYLES[entry.severity])
    else:
        told = entry.message_type or entry.operation or _SHORT[entry.entry_type]
        yield Text(told, style=TYPE_STYLES[entry.entry_type])
    yield Text(one_line(who(entry), names))
    yield _told(entry, width)


def _told(entry: AuditEntry, width: int) -> Text:
    """What was said, or what happened where nothing was said."""
    if entry.content is not None:
        return Text(said(entry, width))
    facts = entry.metadata
    match entry.entry_type:
        case AuditEntryType.SECURITY_EVENT:
            told = f"{facts.get('event_type', '')} {json.dumps(facts.get('details', {}))}"
        case AuditEntryType.PERFORMANCE_METRIC:
            told = " ".join(str(facts.get(name, "")) for name in ("metric_type", "value", "unit"))
        case AuditEntryType.CONTEXT_ACCESS:
            told = f"{size(entry.size_bytes)} of {entry.session_id or 'a session without a name'}"
        case _:
            return Text(said(entry, width), style="dim")
    return Text(one_line(told, width), style="dim")


def _large(number: str, unit: str) -> Text:
    return Text.assemble((number, "bold"), f" {unit}")


def _remark(told: str, asks: bool) -> Text:
    return Text(told, style="yellow" if asks else "dim")


def _card(title: str, lines: Iterable[Text], border: str, height: int) -> Panel:
    told = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
    told.no_wrap, told.overflow = True, "ellipsis"
    return _framed(told, title, border, height)


def _framed(inside: Table | Text, title: str, border: str, height: int) -> Panel:
    return Panel(
        inside,
        title=Text(title, style="bold" if border == CALM else f"bold {border}"),
        title_align="left",
        box=ROUNDED,
        border_style=border,
        padding=(0, 1),
        height=height,
    )


def _grid(*columns: tuple[int | None, int | None]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for width, ratio in columns:
        grid.add_column(width=width, ratio=ratio, no_wrap=True, overflow="ellipsis")
    return grid
