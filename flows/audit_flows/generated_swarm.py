"""A made-up swarm for demonstrations: plausible traffic that says of itself that it is made up.

Every entry has `metadata["generated"] = True`. The same seed and end give the same entries,
ids included, whenever and wherever they are made. Nothing here is measured or observed, and
no number derived from it may be shown as if it were.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from random import Random
from typing import Any

from audit_flows.imports.draft import Draft
from audit_flows.imports.draft_id import draft_id
from claude_max_audit.entry import as_utc
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)

DEFAULT_ENTRIES = 4_000
"""Enough for pages, days and charts to look like something, little enough for seconds."""

DEFAULT_DAYS = 5
"""Closed days before the last one: the archive has several days to take."""

DEFAULT_SEED = 20_251_130

_QUIET_END = timedelta(minutes=15)
"""The last task starts this long before the end, so that nothing happens after it."""

_SWARMS = {
    "swarm_research": ("literature", "survey", "benchmark", "interview"),
    "swarm_engineering": ("parser", "scheduler", "storage", "release"),
    "swarm_operations": ("billing", "incident", "capacity", "onboarding"),
}
_WORKERS = 4
_VERBS = ("Check", "Summarise", "Compare", "Draft", "Extract", "Review", "Test", "Rank")
_OBJECTS = (
    "the open questions on {}", "last week's findings on {}", "the changes to {}",
    "the risks of the {} plan", "all documents tagged {}", "the failing cases of {}",
)  # fmt: skip
_RESULTS = (
    "Done: {n} items, {k} of them need a second look.",
    "Finished with {n} sources; {k} contradict each other and are listed at the end.",
    "{n} cases pass, {k} fail for a reason that I can name.",
)
_FAULTS = (
    "The tool timed out after {n} seconds; nothing was changed.",
    "The document has no section {k}; I stop instead of guessing.",
)
_SECURITY: tuple[tuple[SecuritySeverity, str, str], ...] = (
    (SecuritySeverity.LOW, "rate_limit_approaching", "requests_per_minute"),
    (SecuritySeverity.MEDIUM, "rate_limit_violation", "requests_per_minute"),
    (SecuritySeverity.MEDIUM, "anomalous_pattern", "identical_requests"),
    (SecuritySeverity.HIGH, "unauthorized_access", "refused_reads"),
    (SecuritySeverity.HIGH, "auth_failure", "failed_attempts"),
    (SecuritySeverity.CRITICAL, "context_poisoning", "altered_chunks"),
)
_SECURITY_WEIGHTS = (40, 25, 15, 10, 8, 2)
_METRICS = (("response_latency", "ms"), ("tokens_per_second", "1/s"), ("queue_depth", "tasks"))


def generate_swarm(
    end: datetime,
    *,
    seed: int = DEFAULT_SEED,
    days: int = DEFAULT_DAYS,
    entries: int = DEFAULT_ENTRIES,
) -> Iterator[Draft]:
    """Yield drafts in the order of time, from `days` UTC days before `end`'s day up to `end`.

    `end` is taken as UTC when it has no zone. A task is told to its end, so there may be a
    few more than `entries`. Raises `ValueError` when there is nothing to generate.
    """
    if days < 1 or entries < 1:
        raise ValueError(f"days and entries must be at least 1, got {days} and {entries}")
    story = _Story(as_utc(end), seed, days)
    while len(story.told) < entries:
        story.tell_task()
    yield from sorted(story.told, key=lambda draft: (draft.timestamp, draft.entry_id))


class _Story:
    """What has been made up so far. `told` grows by whole tasks."""

    def __init__(self, end: datetime, seed: int, days: int) -> None:
        self.told: list[Draft] = []
        self._end = end
        self._start = datetime.combine(end.date(), time(), UTC) - timedelta(days=days)
        self._seed = seed
        self._chance = Random(f"{seed}/{end.isoformat()}")
        self._tasks = 0
        self._events = 0

    def tell_task(self) -> None:
        """Add one task from its request to what came of it, and what happened beside it."""
        self._tasks += 1
        swarm = self._chance.choice(list(_SWARMS))
        topic = self._chance.choice(_SWARMS[swarm])
        moment = self._some_moment()
        coordinator = _coordinator(swarm)
        worker = f"haiku_worker_{swarm.removeprefix('swarm_')}_{self._chance.randint(1, _WORKERS)}"
        session = f"generated_{topic}_{self._tasks:05d}"
        verb, thing = self._chance.choice(_VERBS), self._chance.choice(_OBJECTS)
        order = f"{verb} {thing.format(topic)}."
        self._say(moment, swarm, coordinator, worker, MessageType.REQUEST, order, session)
        for _ in range(self._chance.randint(1, 4)):
            moment = self._later(moment, 20)
            self._touch(moment, swarm, worker, topic, session)
        moment = self._later(moment, 60)
        self._finish(moment, swarm, coordinator, worker, session)
        if self._tasks % 3 == 0:
            self._decide(self._later(moment, 30), swarm, coordinator, order, session)
        if self._tasks % 4 == 0:
            self._measure(self._later(moment, 10), swarm, worker, session)
        if self._tasks % 7 == 0:
            self._tell_other_swarm(self._later(moment, 40), swarm, topic, session)
        if self._tasks % 9 == 0:
            self._alarm(self._later(moment, 5), swarm, worker, session)

    def _finish(
        self, moment: datetime, swarm: str, coordinator: str, worker: str, session: str
    ) -> None:
        """End a task: mostly an answer, sometimes an error, an escalation or a hold."""
        numbers = {"n": self._chance.randint(3, 90), "k": self._chance.randint(1, 9)}
        fate = self._chance.random()
        if fate < 0.85:
            text, kind = self._chance.choice(_RESULTS).format(**numbers), MessageType.RESPONSE
        elif fate < 0.95:
            text, kind = self._chance.choice(_FAULTS).format(**numbers), MessageType.ERROR
        else:
            text, kind = "This needs a decision that is not mine.", MessageType.ESCALATE
        self._say(moment, swarm, worker, coordinator, kind, text, session)
        if kind is MessageType.ESCALATE:
            held = "Hold this context until a human has answered."
            after = self._later(moment, 15)
            self._say(after, swarm, coordinator, worker, MessageType.HOLD, held, session)

    def _say(
        self, moment: datetime, swarm: str, sender: str, addressee: str, kind: MessageType,
        text: str, session: str, to_swarm: str | None = None,
    ) -> None:  # fmt: skip
        crossing = {} if to_swarm is None else {"from_swarm": swarm, "to_swarm": to_swarm}
        self._add(
            AuditEntryType.MESSAGE,
            sender,
            moment,
            {"priority": self._chance.choice(("low", "normal", "high"))},
            swarm_id=swarm,
            to_agent=addressee,
            message_type=kind,
            content=text,
            session_id=session,
            **crossing,
        )

    def _touch(
        self, moment: datetime, swarm: str, worker: str, topic: str, session: str
    ) -> None:
        operation = self._chance.choices(tuple(OperationType), weights=(70, 12, 15, 3))[0]
        size = int(self._chance.lognormvariate(9, 1.2))
        notes = {"context": f"{topic}/{self._chance.randint(1, 40):02d}"}
        self._add(
            AuditEntryType.CONTEXT_ACCESS, worker, moment, notes,
            swarm_id=swarm, session_id=session, operation=operation, size_bytes=size,
        )  # fmt: skip

    def _decide(
        self, moment: datetime, swarm: str, coordinator: str, order: str, session: str
    ) -> None:
        approved = self._chance.random() < 0.8
        kept = {"retention": Retention.PERMANENT.value} if self._chance.random() < 0.1 else {}
        notes = {
            "decision_type": "governance_approval" if approved else "governance_rejection",
            "source_citation": f"if://generated/order/{session}",
            "confidence_score": round(self._chance.uniform(0.5, 0.99), 2),
            **kept,
        }
        reason = "all constraints are satisfied" if approved else "the evidence is too thin"
        self._add(
            AuditEntryType.DECISION, coordinator, moment, notes,
            swarm_id=swarm, session_id=session, content=f"{order} Decided because {reason}.",
        )  # fmt: skip

    def _measure(self, moment: datetime, swarm: str, worker: str, session: str) -> None:
        metric, unit = self._chance.choice(_METRICS)
        value = round(self._chance.lognormvariate(4, 0.7), 1)
        notes = {"metric_type": metric, "value": value, "unit": unit}
        self._add(
            AuditEntryType.PERFORMANCE_METRIC, worker, moment, notes,
            swarm_id=swarm, session_id=session,
        )  # fmt: skip

    def _tell_other_swarm(self, moment: datetime, swarm: str, topic: str, session: str) -> None:
        other = self._chance.choice([name for name in _SWARMS if name != swarm])
        text = f"For your work: our latest on {topic} is ready to read."
        self._say(
            moment, swarm, _coordinator(swarm), _coordinator(other), MessageType.INFORM, text,
            session, other,
        )  # fmt: skip

    def _alarm(self, moment: datetime, swarm: str, worker: str, session: str) -> None:
        """Add a security event; the first ones show every kind once."""
        kind = (
            _SECURITY[self._events]
            if self._events < len(_SECURITY)
            else self._chance.choices(_SECURITY, weights=_SECURITY_WEIGHTS)[0]
        )
        self._events += 1
        severity, event_type, counted = kind
        details = {counted: self._chance.randint(3, 90), "observed_seconds": 60}
        self._add(
            AuditEntryType.SECURITY_EVENT, worker, moment,
            {"event_type": event_type, "details": details},
            swarm_id=swarm, session_id=session, severity=severity,
        )  # fmt: skip

    def _add(
        self,
        entry_type: AuditEntryType,
        agent_id: str,
        moment: datetime,
        notes: dict[str, Any],
        **fields: Any,
    ) -> None:
        number = len(self.told)
        self.told.append(
            Draft(
                entry_type=entry_type,
                agent_id=agent_id,
                entry_id=draft_id(
                    moment, "generated", self._seed, self._end.isoformat(), number
                ),
                timestamp=moment,
                metadata={**notes, "generated": True},
                **fields,
            )
        )

    def _some_moment(self) -> datetime:
        """Some moment of the span, most of them by day."""
        span = self._end - _QUIET_END - self._start
        for _ in range(3):
            moment = self._start + self._chance.random() * span
            if 7 <= moment.hour < 19:
                break
        return moment

    def _later(self, moment: datetime, seconds: int) -> datetime:
        return moment + timedelta(seconds=self._chance.uniform(1, seconds))


def _coordinator(swarm: str) -> str:
    return f"sonnet_coordinator_{swarm.removeprefix('swarm_')}"
