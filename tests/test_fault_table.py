"""At every step of archive, compaction and purge something goes wrong; the rows stay the model's.

Each case: one fault at one step, in this process or in one that is killed with SIGKILL. At once
after it nothing may be lost and the verifier must find the lake whole; after one more run, lake
and Redis are exactly what they would be without the fault.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake.lake import Lake
from audit_storage.purge.receipts import ReceiptBook
from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import LakeUnavailableError, RedisUnavailableError
from claude_max_audit.hot.keys import entry_key
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import Settings, load_settings
from cold_trail import archive, stored, verified
from conftest import EntryMaker, RedisServer
from fault_table import CASES, PURGED_AT, Case, be_killed, days_ago, faulty, run

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

    def fill_redis(self) -> None:
        with self.server.client() as client:
            client.flushall()
            hot = HotStore.connect(self.settings.redis_url or "")
            entries = [*self.fresh, *self.old, self.rejected]
            hot.append_batch([Stamped(one, one.canonical_bytes()) for one in entries])
            text = msgspec.json.encode({"entry_id": self.rejected.entry_id, "no": "entry"})
            client.hset(entry_key(self.rejected.entry_id), "json", text)
            hot.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Trail:
    """A trail whose lake is copied for each case."""
    trail = Trail(tmp_path_factory.mktemp("faults") / "home", redis_server)
    archive(Lake(trail.settings), trail.old)
    return trail


@pytest.fixture
def trail(prepared: Trail, tmp_path: Path) -> Trail:
    home = tmp_path / "home"
    shutil.copytree(prepared.settings.home, home)
    copied = Trail.__new__(Trail)
    copied.__dict__.update(prepared.__dict__)
    copied.settings = load_settings(environ={}, home=home, redis_url=prepared.settings.redis_url)
    copied.fill_redis()
    return copied


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
        process = CONTEXT.Process(target=be_killed, args=(case, settings))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        return
    with faulty(case, settings) as reached, suppress(LakeUnavailableError, RedisUnavailableError):
        run(case.operation, settings)
    assert reached.times == 1


def nothing_is_lost(case: Case, trail: Trail) -> None:
    held = stored(Lake(trail.settings))
    everything = ids(trail.fresh) | ids(trail.old)
    kept = everything - trail.due if case.operation == "purge" else everything
    assert kept <= held | in_redis(trail.settings, trail.fresh)
    assert held <= everything
    report = verified(Lake(trail.settings))
    assert report.whole, report.findings


def all_is_done(case: Case, trail: Trail) -> None:
    lake, settings = Lake(trail.settings), trail.settings
    if case.operation == "archive":
        assert stored(lake) == ids(trail.fresh) | ids(trail.old)
        assert [one.entry_id for one in Quarantine(settings).list()] == [trail.rejected.entry_id]
        # Their thirty days are over by Redis' clock, so what is released is gone at once.
        assert in_redis(settings, [*trail.fresh, *trail.old, trail.rejected]) == set()
    elif case.operation == "compaction":
        assert stored(lake) == ids(trail.old)
        assert len(lake.view().files) == 1
        assert lake.build_lookup() == 0
    else:
        assert stored(lake) == ids(trail.old) - trail.due
        assert in_redis(settings, trail.old) == ids(trail.old) - trail.due
        assert sum(one.rows for one in ReceiptBook(settings).receipts()) == len(trail.due)
        listed = {file.path for file in lake.view().files}
        folder = Path(lake.uri)
        there = {str(path.relative_to(folder)) for path in folder.glob("month=*/*.parquet")}
        assert there - listed == orphans(folder, there - listed)


def orphans(folder: Path, paths: set[str]) -> set[str]:
    """Files that no version ever named: a killed run's, which wait a day for their vacuum."""
    log = "".join(one.read_text() for one in sorted(folder.glob("_delta_log/*.json")))
    return {path for path in paths if path not in log.replace("%3D", "=")}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_after_a_fault_the_rows_are_the_model_s(case: Case, trail: Trail) -> None:
    happen(case, trail.settings)
    nothing_is_lost(case, trail)
    run(case.operation, trail.settings)
    all_is_done(case, trail)
    report = verified(Lake(trail.settings))
    assert report.whole, report.findings


def test_the_table_tells_how_many_cases_it_has(capsys: pytest.CaptureFixture[Any]) -> None:
    counts = Counter(case.operation for case in CASES)
    with capsys.disabled():
        told = ", ".join(f"{operation} {number}" for operation, number in counts.items())
        print(f"\nfault table: {len(CASES)} cases ({told})")
    assert set(counts) == {"archive", "compaction", "purge"}
