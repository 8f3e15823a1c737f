"""At every step of what writes the lake something goes wrong; the rows stay the model's.

The steps are found by running each operation once and watching where it meets the system. A case
is one fault at one step, in this process or in one that is killed with SIGKILL. At once after it
nothing may be lost and the verifier must find the lake whole; after one more run, lake, Redis,
index, holds and exports are exactly what they would be without the fault.

`make test` tries a short form, each place in the code once; `make fault` every step and fault.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit_storage.archive.quarantine import Quarantine
from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.receipts import ReceiptBook
from boundary import Boundary, Step
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.keys import entry_key
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import parse_query
from claude_max_audit.settings import Settings, load_settings
from cold_trail import archive, stored, verified
from conftest import EntryMaker, RedisServer
from fault_table import (
    EXPORT,
    FAULTS,
    HELD,
    NOW,
    OPERATIONS,
    PURGED_AT,
    Case,
    days_ago,
    faults_at,
    run,
    run_into,
    steps_of,
)

FULL = os.environ.get("FAULTS") == "full"

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fault_table"])
"""Processes that are forked off one that has imported everything and started no thread."""

CUTOFF = PURGED_AT.replace(year=PURGED_AT.year - 7)


class Trail:
    """Settings with a lake and a Redis, and what must be in them."""

    def __init__(self, home: Path, server: RedisServer) -> None:
        self.settings = load_settings(environ={}, home=home, redis_url=server.url)
        self.server = server
        make: Callable[..., AuditEntry] = EntryMaker()
        self.fresh = [make(timestamp=days_ago(day)) for day in (3, 3, 2) for _ in range(2)]
        """In Redis, to be archived: two closed days."""
        self.old = [
            make(
                timestamp=days_ago(day),
                content=f"{day}",
                agent_id=HELD if number and day == 45 else "agent_a",
                retention="permanent" if number == 0 and day > 41 else "standard",
            )
            for day in (45, 44, 41, 39, 33)
            for number in range(2)
        ]
        """In the lake, in October: five files; the purge takes one whole, of two a part."""
        self.rejected = make(timestamp=days_ago(3), content="damaged")

    @property
    def due(self) -> set[str]:
        return {
            one.entry_id
            for one in self.old
            if one.timestamp < CUTOFF and one.retention == "standard"
        }

    @property
    def held(self) -> set[str]:
        return {one.entry_id for one in self.old if one.agent_id == HELD}

    def copy(self, home: Path) -> Trail:
        """The same trail in a folder of its own, with Redis as it was."""
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.settings.home, home)
        copied = Trail.__new__(Trail)
        copied.__dict__.update(self.__dict__)
        copied.settings = load_settings(environ={}, home=home, redis_url=self.settings.redis_url)
        return copied

    def prepare(self, operation: str) -> None:
        """Bring it to where the operation begins."""
        damaged = [self.rejected] if operation == "archive" else []
        with self.server.client() as client:
            client.flushall()
            hot = HotStore.connect(self.settings.redis_url or "")
            entries = [*self.fresh, *self.old, *damaged]
            hot.append_batch([Stamped(one, one.canonical_bytes()) for one in entries])
            for one in damaged:
                text = msgspec.json.encode({"entry_id": one.entry_id, "no": "entry"})
                client.hset(entry_key(one.entry_id), "json", text)
            hot.close()
        if operation == "purge":
            EntryIndex(self.settings, None).add(self.old)
        if operation == "release":
            self._hold()
        self.settings.exports.mkdir(exist_ok=True)

    def _hold(self) -> None:
        query = parse_query({"agent_id": HELD})
        HoldBook(self.settings).place(query, by="a", reason="b", now=NOW)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Trail:
    """A trail whose lake is copied for each case."""
    trail = Trail(tmp_path_factory.mktemp("faults") / "home", redis_server)
    archive(Lake(trail.settings), trail.old)
    return trail


def in_redis(settings: Settings, entries: list[AuditEntry]) -> set[str]:
    hot = HotStore.connect(settings.redis_url or "")
    held = hot.existing([one.entry_id for one in entries])
    hot.close()
    return held


def ids(entries: list[AuditEntry]) -> set[str]:
    return {one.entry_id for one in entries}


def happen(case: Case, settings: Settings) -> None:
    """Run the operation into its fault, and make sure that it came there."""
    if case.fault.startswith("killed"):
        process = CONTEXT.Process(target=run_into, args=(case, settings))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, "it did not come to this step"
        return
    assert run_into(case, settings), "it did not come to this step"


def nothing_is_lost(case: Case, trail: Trail) -> None:
    held = stored(Lake(trail.settings))
    everything = ids(trail.fresh) | ids(trail.old)
    kept = everything - trail.due if case.operation == "purge" else everything
    assert kept <= held | in_redis(trail.settings, trail.fresh)
    assert held <= everything
    export_is_whole_or_absent(trail)
    report = verified(Lake(trail.settings))
    assert report.whole, report.findings


def export_is_whole_or_absent(trail: Trail) -> bool:
    path = trail.settings.exports / EXPORT
    if not path.exists():
        return False
    expected = sorted((*trail.fresh, *trail.old), key=lambda one: (one.timestamp, one.entry_id))
    assert path.read_text() == "".join(f"{one.to_json()}\n" for one in expected)
    return True


def all_is_done(case: Case, trail: Trail) -> None:
    DONE[case.operation](trail)
    report = verified(Lake(trail.settings))
    assert report.whole, report.findings


def archive_is_done(trail: Trail) -> None:
    assert stored(Lake(trail.settings)) == ids(trail.fresh) | ids(trail.old)
    rejected = Quarantine(trail.settings).list()
    assert [one.entry_id for one in rejected] == [trail.rejected.entry_id]
    # Their thirty days are over by Redis' clock, so what is released is gone at once.
    assert in_redis(trail.settings, [*trail.fresh, *trail.old, trail.rejected]) == set()


def compaction_is_done(trail: Trail) -> None:
    lake = Lake(trail.settings)
    assert stored(lake) == ids(trail.old)
    assert len(lake.view().files) == 1
    assert lake.build_lookup() == 0


def purge_is_done(trail: Trail) -> None:
    lake, settings = Lake(trail.settings), trail.settings
    kept = ids(trail.old) - trail.due
    assert stored(lake) == kept
    assert in_redis(settings, trail.old) == kept
    index = EntryIndex(settings, None)
    assert index.missing("2025-10", ids(trail.old)) == trail.due
    assert sum(one.rows for one in ReceiptBook(settings).receipts()) == len(trail.due)
    listed = {file.path for file in lake.view().files}
    folder = Path(lake.uri)
    there = {str(path.relative_to(folder)) for path in folder.glob("month=*/*.parquet")}
    assert there - listed == orphans(folder, there - listed)


def orphans(folder: Path, paths: set[str]) -> set[str]:
    """Files that no version ever named: a killed run's, which wait a day for their vacuum."""
    log = "".join(one.read_text() for one in sorted(folder.glob("_delta_log/*.json")))
    return {path for path in paths if path not in log.replace("%3D", "=")}


def export_is_done(trail: Trail) -> None:
    path = trail.settings.exports / EXPORT
    assert export_is_whole_or_absent(trail)
    manifest = json.loads(path.with_name(f"{EXPORT}.manifest.json").read_text())
    assert manifest["rows"] == len(trail.fresh) + len(trail.old)
    assert manifest["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert {one.name for one in path.parent.iterdir()} == {EXPORT, f"{EXPORT}.manifest.json"}


def hold_is_done(trail: Trail) -> None:
    assert HoldBook(trail.settings).active()
    run("purge", trail.settings)
    assert stored(Lake(trail.settings)) == (ids(trail.old) - trail.due) | trail.held


def release_is_done(trail: Trail) -> None:
    [hold] = HoldBook(trail.settings).holds()
    assert not hold.active
    run("purge", trail.settings)
    assert stored(Lake(trail.settings)) == ids(trail.old) - trail.due


def reindex_is_done(trail: Trail) -> None:
    index = EntryIndex(trail.settings, None)
    assert index.counts() == {"2025-10": len(trail.old)}
    assert index.missing("2025-10", ids(trail.old)) == set()


DONE: dict[str, Callable[[Trail], None]] = {
    "archive": archive_is_done,
    "compaction": compaction_is_done,
    "purge": purge_is_done,
    "export": export_is_done,
    "hold": hold_is_done,
    "release": release_is_done,
    "reindex": reindex_is_done,
}


def cases_of(operation: str, steps: dict[Step, Boundary]) -> Iterator[Case]:
    """Every step with every fault; in short, every place in the code with one fault in turn."""
    turn = cycle(range(len(FAULTS)))
    seen = set()
    for step, boundary in steps.items():
        faults = faults_at(step, boundary)
        if FULL:
            yield from (Case(operation, step, fault) for fault in faults)
        elif step[:2] not in seen:
            seen.add(step[:2])
            yield Case(operation, step, faults[next(turn) % len(faults)])


@pytest.mark.timeout(3 * 3600 if FULL else 600)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_after_a_fault_the_rows_are_the_model_s(
    operation: str, prepared: Trail, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    home = tmp_path / "home"
    trail = prepared.copy(home)
    trail.prepare(operation)
    cases = list(cases_of(operation, steps_of(operation, trail.settings)))
    wrong = [told for case in cases if (told := outcome(case, prepared, home))]
    record_property("fault cases", (operation, len(cases), len({case.step[:2] for case in cases})))
    assert not wrong, "\n".join(wrong)


def outcome(case: Case, prepared: Trail, home: Path) -> str | None:
    """Try one case; returns what was wrong after it, None if nothing was."""
    trail = prepared.copy(home)
    trail.prepare(case.operation)
    try:
        happen(case, trail.settings)
        nothing_is_lost(case, trail)
        finish(case, trail)
        all_is_done(case, trail)
    except Exception as failed:
        return f"{case}: {type(failed).__name__}: {failed}"
    return None


def finish(case: Case, trail: Trail) -> None:
    """One more run; an export that is there already is refused, and that is right."""
    try:
        run(case.operation, trail.settings)
    except FileExistsError:
        assert case.operation == "export"
        assert export_is_whole_or_absent(trail)
