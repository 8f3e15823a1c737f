"""`claude-audit status`: what runs, what is where, what waits or is late. Changes nothing.

Exit code 1 when somebody should look: a store or server that does not answer, runs that are late,
entries that wait without a living writer, closed days that are not archived, a job that failed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from audit_flows.amounts import count, counted, size
from audit_flows.running import concerns_about, sizes, what_runs
from audit_flows.terminal import fields, listing
from audit_flows.workplace import Workplace
from claude_max_audit.errors import AuditError
from claude_max_audit.spool.survey import SpoolSurvey, survey_spool
from claude_max_audit.spool.tally import Tally

if TYPE_CHECKING:
    from audit_storage.jobs import JobRecord

JOBS = ("daily-archive", "retention-purge", "data-quality", "verify", "export", "reindex")
"""In the order in which they run at night."""

EXAMPLES = """\
examples:
  claude-audit status
  claude-audit status --json | jq '.spool.waiting'
"""


@dataclass(slots=True)
class Status:
    """What `status` found; `concerns` are the lines that ask somebody to look."""

    home: str
    up: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    redis: dict[str, Any] = field(default_factory=dict)
    spool: dict[str, Any] = field(default_factory=dict)
    lake: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    concerns: list[str] = field(default_factory=list)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing but the form of the output."""
    parser.epilog = EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Look at every store and print what was found."""
    with Workplace.of(args) as place:
        status = look(place, datetime.now(UTC))
        place.terminal.json(asdict(status))
        _show(place, status)
    return 1 if status.concerns else 0


def look(place: Workplace, now: datetime) -> Status:
    """Read everything; what does not answer is a concern, never a failure."""
    settings = place.settings
    status = Status(home=str(settings.home), up=what_runs(settings), sizes=sizes(settings))
    status.concerns += concerns_about(status.up)
    redis_answers = _look_at_redis(place, status, now)
    _look_at_spool(place, status, redis_answers)
    try:
        _look_at_lake(place, status)
        if redis_answers:
            _look_at_backlog(place, status, now)
        _look_at_jobs(place, status)
    except AuditError as failed:
        status.concerns.append(str(failed))
    return status


def _look_at_redis(place: Workplace, status: Status, now: datetime) -> bool:
    embedded = place.settings.redis_url is None
    if embedded and not place.embedded.running():
        status.redis = {"address": place.embedded.url, "embedded": True, "answers": False}
        return False  # It is started when something needs it.
    try:
        place.hot.ping()
        figures = place.hot.figures(now)
    except AuditError as away:
        status.redis = {"answers": False, "embedded": embedded}
        status.concerns.append(str(away))
        return False
    status.redis = {
        "address": place.hot.address,
        "embedded": embedded,
        "answers": True,
        "entries": figures.entries,
        "days": figures.days,
        "agents": figures.active_agents,
    }
    return True


def _look_at_spool(place: Workplace, status: Status, redis_answers: bool) -> None:
    held = place.hot.marked if redis_answers else None
    survey = survey_spool(place.settings.spool_dir, held)
    status.spool = {
        "writers": [{**asdict(one), "tally": _figures(one.tally)} for one in survey.writers],
        "rejected": survey.rejected,
        **_figures(survey.tally),
        "entries": survey.entries,
        "waiting": survey.waiting,
        "bytes": survey.bytes,
    }
    orphaned = sum(writer.waiting or 0 for writer in survey.writers if not writer.alive)
    if orphaned:
        status.concerns.append(
            f"{counted(orphaned, 'entry')} in the spool of processes that ended; the next "
            "process that logs here, or `claude-audit archive`, carries them"
        )
    if survey.tally.dropped:
        status.concerns.append(
            f"{counted(survey.tally.dropped, 'entry')} dropped, because a spool was full and "
            'overflow="drop": `claude-audit search --event-type audit_gap` '
            "names them"
        )
    if survey.rejected:
        status.concerns.append(_rejected(place, survey))


def _figures(tally: Tally) -> dict[str, int]:
    return {**tally._asdict(), "spooled": tally.spooled}


def _rejected(place: Workplace, survey: SpoolSurvey) -> str:
    return (
        f"{counted(len(survey.rejected), 'spool segment')} could not be read to the end; kept "
        f"in {place.settings.spool_dir / 'rejected'}"
    )


def _look_at_lake(place: Workplace, status: Status) -> None:
    from audit_storage.archive.quarantine import Quarantine

    days = place.lake.days()
    files = place.lake.view().files if days else ()
    status.lake = {
        "uri": place.settings.lake_uri,
        "entries": sum(days.values()),
        "days": len(days),
        "first_day": str(min(days)) if days else None,
        "last_day": str(max(days)) if days else None,
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
        "version": place.lake.version() if days else None,
    }
    if bad := sum(Quarantine(place.settings).counts().values()):
        status.lake["quarantined"] = bad
        status.concerns.append(f"{counted(bad, 'entry')} did not fit and lie in quarantine")


def _look_at_backlog(place: Workplace, status: Status, now: datetime) -> None:
    from audit_storage.archive.archive import pending_days
    from audit_storage.archive.quarantine import Quarantine

    backlog = pending_days(place.lake, place.hot, Quarantine(place.settings), now)
    status.lake["not_archived"] = [str(day) for day in backlog]
    if backlog:
        status.concerns.append(
            f"{counted(len(backlog), 'closed day')} not archived, the oldest {backlog[0]}: "
            "run `claude-audit archive`"
        )


def _look_at_jobs(place: Workplace, status: Status) -> None:
    from audit_storage.jobs import JobTable

    history = JobTable(place.settings).history(limit=1_000_000)
    sealed = next((record for record in history if record.merkle_root), None)
    status.lake["newest_root"] = None if sealed is None else sealed.merkle_root
    for job in JOBS:
        newest = next((record for record in history if record.job == job), None)
        if newest is None:
            continue
        status.jobs[job] = _job(newest)
        if newest.error is not None:
            status.concerns.append(f"{job} failed: {newest.error.splitlines()[0]}")


def _job(record: JobRecord) -> dict[str, Any]:
    return {
        "started_at": record.started_at.isoformat(timespec="seconds"),
        "result": record.result,
        "day": None if record.day is None else str(record.day),
        "rows": record.rows,
    }


def _show(place: Workplace, status: Status) -> None:
    place.terminal.show(
        fields(
            [
                ("home", status.home),
                ("up", _up_line(status.up)),
                ("Redis", _redis_line(status.redis)),
                ("spool", _spool_line(status.spool)),
                *([("calls", _calls_line(status.spool))] if status.spool["writers"] else []),
                ("lake", _lake_line(status.lake)),
                ("newest root", status.lake.get("newest_root") or "none: nothing was archived"),
                ("sizes", ", ".join(f"{name} {size(held)}" for name, held in status.sizes.items())),
            ]
        )
    )
    if status.jobs:
        place.terminal.show(
            listing(
                ("last run of", "at (UTC)", "result", "day", ">entries"),
                (
                    (job, ran["started_at"][:16].replace("T", " "), ran["result"],
                     ran["day"] or "", count(ran["rows"]))
                    for job, ran in status.jobs.items()
                ),
            )
        )  # fmt: skip
    for concern in status.concerns:
        place.terminal.show(Text(f"! {concern}", style="yellow"))
    if not status.concerns:
        place.terminal.show(Text("nothing asks for attention", style="green"))


def _up_line(up: dict[str, Any]) -> str:
    if not up:
        return "nothing; `claude-audit up` starts everything"
    worker = "a worker" if up["worker"] else "no worker"
    return (
        f"{up['ui_url']} since {up['since'][:16].replace('T', ' ')}, {worker}, "
        f"{counted(up['running'], 'run')} at work, {up['late']} late (process {up['pid']})"
    )


def _redis_line(redis: dict[str, Any]) -> str:
    if not redis["answers"]:
        return "embedded, not started" if redis["embedded"] else "does not answer"
    told = f"{counted(redis['entries'], 'entry')} of {counted(redis['days'], 'day')}"
    return f"{told}, {counted(redis['agents'], 'agent')} ({redis['address']})"


def _spool_line(spool: dict[str, Any]) -> str:
    if not spool["entries"]:
        return "empty"
    told = f"{counted(spool['entries'], 'entry')} kept, "
    if spool["waiting"] is None:
        told += "which of them wait is known when Redis runs"
    else:
        told += f"{count(spool['waiting'])} of them not in Redis yet"
    return f"{told} ({counted(len(spool['writers']), 'writer')}, {size(spool['bytes'])})"


def _calls_line(spool: dict[str, Any]) -> str:
    """What became of every call of the writers whose folders are here."""
    return (
        f"{count(spool['accepted'])} accepted = {count(spool['written'])} written + "
        f"{count(spool['spooled'])} spooled + {count(spool['dropped'])} dropped"
    )


def _lake_line(lake: dict[str, Any]) -> str:
    if not lake:
        return "does not answer"
    if not lake["entries"]:
        return f"empty ({lake['uri']})"
    return (
        f"{counted(lake['entries'], 'entry')} of {counted(lake['days'], 'day')} up to "
        f"{lake['last_day']}, {size(lake['bytes'])} ({lake['uri']})"
    )
