"""The automations as they are defined; that they fire is for tests/test_up.py."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from uuid import UUID

from prefect.events.schemas.automations import EventTrigger

from audit_flows.automations import LEAST_DEAD_AFTER_SECONDS, Thresholds, automations
from audit_flows.run_in_process import JOBS
from audit_flows.supervisor.parts_of_prefect import HEARTBEAT_SECONDS

ALARM, BLOCK = UUID(int=1), str(UUID(int=2))


def test_nothing_is_sent_without_a_block() -> None:
    def kinds(block: str | None) -> set[str]:
        made = automations(Thresholds(), ALARM, block)
        return {action.type for one in made for action in one.actions}

    assert kinds(None) == {"run-deployment", "change-flow-run-state"}
    assert kinds(BLOCK) == {"run-deployment", "change-flow-run-state", "send-notification"}


def test_only_runs_of_our_jobs_are_touched() -> None:
    for one in automations(Thresholds(), ALARM, BLOCK):
        assert isinstance(one.trigger, EventTrigger)
        trigger: dict[str, Any] = one.trigger.model_dump(mode="json")
        if trigger["match"] == {"prefect.resource.id": "audit.*"}:
            continue  # What the job `health` emits.
        related = trigger["match_related"]
        [names] = [
            spec["prefect.resource.name"]
            for spec in (related if isinstance(related, list) else [related])
            if spec["prefect.resource.role"] == "flow"
        ]
        assert set(names) <= set(JOBS)


def test_a_definition_has_the_same_mark_in_every_process_and_another_when_it_changes() -> None:
    program = (
        "from uuid import UUID\n"
        "from audit_flows.automations import Thresholds, automations\n"
        f"for one in automations(Thresholds(), UUID(int=1), {BLOCK!r}): print(one.description)\n"
    )
    ours = [one.description for one in automations(Thresholds(), ALARM, BLOCK)]
    theirs = subprocess.check_output([sys.executable, "-c", program], text=True).splitlines()
    assert ours == theirs

    slower = [
        one.description
        for one in automations(Thresholds(dead_after_seconds=300), ALARM, BLOCK)
    ]
    assert sum(one != other for one, other in zip(ours, slower, strict=True)) == 1


def test_a_run_is_heard_of_before_it_counts_as_dead() -> None:
    assert HEARTBEAT_SECONDS < LEAST_DEAD_AFTER_SECONDS < Thresholds().dead_after_seconds
