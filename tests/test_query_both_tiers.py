"""One meaning of a query, wherever its entries are: in Redis, in the lake, or in both.

The same queries go to every arrangement of the tiers and are held against a plain list: the
page, its order, the exact total, the export's stream. Where one tier holds everything it is
asked by itself as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine
from audit_storage.export.chronicle import read_chronicle
from audit_storage.lake.lake import Lake
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.search.search import search_both
from audit_storage.verify.commit_records import CommitRecords
from audit_storage.verify.verify import verify
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query, Span
from claude_max_audit.settings import Settings, load_settings
from claude_max_audit.vocabulary import (
    AuditEntryType,
    MessageType,
    OperationType,
    Retention,
    SecuritySeverity,
)
from conftest import RedisServer
from hot_trail import AGENTS, SWARMS, newest_first, stamped, varied_entries
from s3_server import S3Server

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
"""Real time, because Redis lets copies expire by its own clock."""

TODAY = NOW.replace(hour=0)
DAYS, APART = 12, 4
FIRST = TODAY - timedelta(days=(DAYS - 1) * APART)
ENTRIES = varied_entries(400, seed=11, days=DAYS, first=FIRST, apart=APART)
LATE = varied_entries(60, seed=12, days=DAYS, first=FIRST, apart=APART)
"""Come when the days that they are of were archived already."""

MICROSECOND, HALF_HOUR = timedelta(microseconds=1), timedelta(minutes=30)

VALUES: dict[str, Sequence[str]] = {
    "agent_id": (*AGENTS, "*", "nobody"),
    "to_agent": (*AGENTS, "mayor*"),
    "participant": (*AGENTS, "nobody"),
    "swarm_id": (*SWARMS, "elsewhere", "s"),
    "entry_type": tuple(AuditEntryType),
    "message_type": tuple(MessageType),
    "operation": tuple(OperationType),
    "severity": tuple(SecuritySeverity),
    "retention": tuple(Retention),
    "event_type": ("auth_failure", "other*", "7"),
    "decision_type": ("approval", "veto"),
    "session_id": ("x", "y", "z*"),
    "content_hash": (*dict.fromkeys(e.content_hash for e in ENTRIES[:12]), "0" * 64),
    "entry_id": (*(e.entry_id for e in (*ENTRIES[:10], *LATE[:5])), "none"),
}


@dataclass
class Tiers:
    """Where the entries are, and the list that every answer is held against."""

    lake: Lake
    hot: HotStore | None
    settings: Settings
    model: list[AuditEntry]
    alone: tuple[str, ...] = ()
    """Tiers of which each holds everything, and so must answer alike by itself."""

    def log(self, entries: Sequence[AuditEntry]) -> None:
        assert self.hot is not None
        self.hot.append_batch(stamped(entries))

    def archive(self, older_than: datetime | None = None) -> None:
        assert self.hot is not None
        report = archive_closed_days(
            self.lake, self.hot, Quarantine(self.settings), NOW, older_than=older_than
        )
        assert report.quarantined == 0


def in_redis_only(tiers: Tiers) -> None:
    tiers.log(ENTRIES)
    tiers.alone = ("redis",)


def in_the_lake_only(tiers: Tiers) -> None:
    with tiers.lake.begin("test") as transaction:
        transaction.add(ENTRIES)
        transaction.commit()
    assert tiers.hot is not None
    tiers.hot.close()
    tiers.hot = None
    tiers.alone = ("lake",)


def in_a_compacted_lake_beside_an_empty_redis(tiers: Tiers) -> None:
    for part in (ENTRIES[::3], ENTRIES[1::3], ENTRIES[2::3]):
        with tiers.lake.begin("test") as transaction:
            transaction.add(part)
            transaction.commit()
    for month in {file.month for file in tiers.lake.view().files}:
        tiers.lake.compact_month(month)
    tiers.lake.vacuum_now()
    tiers.alone = ("lake",)


def archived_up_to_today(tiers: Tiers) -> None:
    """Past 30 days in the lake alone, since then in both, today's in Redis alone."""
    tiers.log(ENTRIES)
    tiers.archive()


def archived_in_part(tiers: Tiers) -> None:
    """The oldest days in the lake alone, some in both, the newest in Redis alone."""
    tiers.log(ENTRIES)
    tiers.archive(older_than=TODAY - timedelta(days=10))


def archived_into_a_bucket(tiers: Tiers) -> None:
    """Like the one before, with the lake in an object store, compacted, with its key files."""
    tiers.log(ENTRIES)
    tiers.archive(older_than=TODAY - timedelta(days=10))
    for month in {file.month for file in tiers.lake.view().files}:
        tiers.lake.compact_month(month)
    tiers.lake.vacuum_now()
    assert tiers.lake.build_lookup() > 0


def with_late_entries(tiers: Tiers) -> None:
    """Days of the lake of which Redis has a few more, and copies of what the lake has."""
    tiers.log(ENTRIES)
    tiers.archive()
    tiers.log(LATE)
    tiers.log(ENTRIES[:200])
    tiers.model = [*ENTRIES, *LATE]


def with_a_redis_that_lost_some(tiers: Tiers) -> None:
    """Archived days of which Redis has only a part."""
    tiers.log(ENTRIES)
    tiers.archive()
    assert tiers.hot is not None
    archived = [entry.entry_id for entry in ENTRIES if entry.timestamp < TODAY]
    assert tiers.hot.forget(archived[::3]) > 0


ARRANGEMENTS: tuple[Callable[[Tiers], None], ...] = (
    in_redis_only,
    in_the_lake_only,
    in_a_compacted_lake_beside_an_empty_redis,
    archived_up_to_today,
    archived_in_part,
    archived_into_a_bucket,
    with_late_entries,
    with_a_redis_that_lost_some,
)


@pytest.fixture(scope="module", params=ARRANGEMENTS, ids=lambda one: one.__name__)
def tiers(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tiers]:
    redis_server.client().flushall()
    home = load_settings(environ={}, home=tmp_path_factory.mktemp("tiers"))
    if request.param is archived_into_a_bucket:
        s3: S3Server = request.getfixturevalue("s3_server")
        home = replace(home, lake_uri=f"s3://{s3.new_bucket()}", lake_options=s3.variables)
    made = Tiers(Lake(home), HotStore.connect(redis_server.url), home, list(ENTRIES))
    request.param(made)
    yield made
    if made.hot is not None:
        made.hot.close()


def test_the_arrangements_are_what_they_say(
    tiers: Tiers, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["tiers"].__name__
    archived = tiers.lake.days()
    held = {} if tiers.hot is None else tiers.hot.days()
    whole = set() if tiers.hot is None else tiers.hot.complete_days(archived, NOW)
    both = set(archived) & set(held)
    assert {
        "in_redis_only": not archived and len(held) == DAYS,
        "in_the_lake_only": len(archived) == DAYS and tiers.hot is None,
        "in_a_compacted_lake_beside_an_empty_redis": len(archived) == DAYS and not held,
        "archived_up_to_today": whole == both and len(archived) > len(both) > 3,
        "archived_in_part": whole == both and len(set(held) - both) == 3,
        "archived_into_a_bucket": whole == both and len(set(held) - both) == 3,
        "with_late_entries": both > whole and len(held) == DAYS,
        "with_a_redis_that_lost_some": len(both - whole) > 3,
    }[name], (sorted(archived), sorted(held), sorted(whole))
    found = search_both(tiers.lake, tiers.hot, Query(), 1, 0, NOW)
    tiers_asked = {"in_redis_only": "redis", "in_the_lake_only": "lake"}
    assert found.source == tiers_asked.get(name, "redis+lake")


def check(tiers: Tiers, query: Query, limit: int = 2_000, offset: int = 0) -> int:
    """Hold the answers of both tiers, and of each that has everything, against the list."""
    expected = newest_first(entry for entry in tiers.model if query.matches(entry))
    page, asked = expected[offset : offset + limit], query.as_dict()
    found = search_both(tiers.lake, tiers.hot, query, limit, offset, NOW)
    assert found.complete, found.missing
    assert found.total_count == len(expected), asked
    assert found.entries == page, asked
    if "redis" in tiers.alone:
        assert tiers.hot is not None
        alone = tiers.hot.page(query, limit, offset)
        assert (alone.total, list(alone.entries)) == (len(expected), page), asked
        assert tiers.hot.count(query) == len(expected), asked
    if "lake" in tiers.alone:
        alone = tiers.lake.page(query, limit, offset)
        assert (alone.total, list(alone.entries)) == (len(expected), page), asked
        assert tiers.lake.count_matches(query) == len(expected), asked
    return len(expected)


def check_stream(tiers: Tiers, query: Query) -> None:
    """The export's stream has the same entries, oldest first."""
    expected = newest_first(entry for entry in tiers.model if query.matches(entry))[::-1]
    frames = list(read_chronicle(tiers.lake, tiers.hot, query))
    streamed = [entry_id for frame in frames for entry_id in frame.get_column("entry_id")]
    assert streamed == [entry.entry_id for entry in expected], query.as_dict()


@pytest.mark.parametrize("key", VALUES)
def test_each_value_of_each_key_and_any_of_several(tiers: Tiers, key: str) -> None:
    values = tuple(map(str, VALUES[key]))
    assert sum(check(tiers, Query(where={key: (value,)})) for value in values) > 0
    check(tiers, Query(where={key: values[:3]}), limit=7, offset=4)
    check(tiers, Query(where={key: values}))
    check_stream(tiers, Query(where={key: values[:3]}))


@pytest.mark.parametrize("cross_swarm", [True, False])
def test_messages_that_cross_swarms_and_those_that_do_not(
    tiers: Tiers, cross_swarm: bool
) -> None:
    assert check(tiers, Query(cross_swarm=cross_swarm)) > 0
    assert check(tiers, Query(cross_swarm=cross_swarm, where={"agent_id": ("a",)})) > 0
    check_stream(tiers, Query(cross_swarm=cross_swarm))


def test_pages_tile_the_whole_trail(tiers: Tiers) -> None:
    total = len(tiers.model)
    for size in (1, 97, total):
        offsets = range(0, total, size) if size > 1 else (0, 1, total - 1)
        for offset in offsets:
            assert check(tiers, Query(), size, offset) == total
    for limit, offset in ((0, 0), (10, total), (10, total + 1_000)):
        check(tiers, Query(), limit, offset)
    check_stream(tiers, Query())


def test_spans_include_both_ends_and_cross_days_and_tiers(tiers: Tiers) -> None:
    moments = sorted({entry.timestamp for entry in tiers.model})
    for place in (0, len(moments) // 3, len(moments) // 2, -1):
        at = moments[place]
        assert check(tiers, Query(span=Span(at, at))) > 0
        for span in (
            Span(at + MICROSECOND, at + 3 * APART * timedelta(days=1) - MICROSECOND),
            Span(end=at - MICROSECOND),
            Span(start=at),
            Span(at - timedelta(days=31), at),
        ):
            check(tiers, Query(span=span))
            check(tiers, Query(span=span), limit=5, offset=3)
            check_stream(tiers, Query(span=span))


def any_queries() -> st.SearchStrategy[Query]:
    """Up to three keys with up to four values each, a flag, a span."""
    conditions = {
        key: st.lists(st.sampled_from(list(map(str, values))), min_size=1, max_size=4, unique=True)
        for key, values in VALUES.items()
    }
    where = st.lists(st.sampled_from(sorted(VALUES)), max_size=3, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({key: conditions[key].map(tuple) for key in keys})
    )
    moments = st.builds(
        lambda half_hours, ticks: FIRST + half_hours * HALF_HOUR + ticks * MICROSECOND,
        st.integers(-48, DAYS * APART * 48),
        st.integers(-1, 1),
    )
    spans = st.one_of(
        st.just(Span()),
        st.tuples(moments, moments).map(lambda pair: Span(min(pair), max(pair))),
    )
    return st.builds(
        Query, where=where, span=spans, cross_swarm=st.sampled_from([None, None, True, False])
    )


@given(query=any_queries(), limit=st.integers(0, 60), offset=st.integers(0, 40))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_combination_fits_the_definition(
    tiers: Tiers, query: Query, limit: int, offset: int
) -> None:
    check(tiers, query, limit, offset)


@given(query=any_queries())
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_stream_of_any_combination_fits_the_definition(tiers: Tiers, query: Query) -> None:
    check_stream(tiers, query)


class TrailMachine(RuleBasedStateMachine):
    """Batches, archives, losses and compactions in any order; the answers stay those of a list."""

    server: RedisServer
    homes: Callable[[], Path]

    @initialize()
    def start(self) -> None:
        self.server.client().flushall()
        home = load_settings(environ={}, home=self.homes())
        self.tiers = Tiers(Lake(home), HotStore.connect(self.server.url), home, [])
        self.waiting = iter(varied_entries(400, seed=21, days=DAYS, first=FIRST, apart=APART))

    @rule(count=st.integers(1, 40))
    def log(self, count: int) -> None:
        batch = [entry for entry, _ in zip(self.waiting, range(count), strict=False)]
        self.tiers.log(batch)
        self.tiers.model += batch

    @precondition(lambda self: self.tiers.model)
    @rule(start=st.integers(0, 300), count=st.integers(1, 60))
    def log_again(self, start: int, count: int) -> None:
        """A batch whose answer was lost, perhaps long after its day was archived."""
        self.tiers.log(self.tiers.model[start : start + count])

    @rule(days_back=st.integers(0, DAYS * APART))
    def archive(self, days_back: int) -> None:
        self.tiers.archive(older_than=TODAY - timedelta(days=days_back))

    @rule()
    def lose_redis(self) -> None:
        """A Redis that starts empty: what was not archived is gone from the model as well."""
        self.server.client().flushall()
        kept = self.tiers.lake.existing([entry.entry_id for entry in self.tiers.model])
        self.tiers.model = [entry for entry in self.tiers.model if entry.entry_id in kept]

    @precondition(lambda self: self.tiers.model)
    @rule(step=st.integers(2, 5))
    def lose_archived_copies(self, step: int) -> None:
        assert self.tiers.hot is not None
        ids = [entry.entry_id for entry in self.tiers.model]
        self.tiers.hot.forget(sorted(self.tiers.lake.existing(ids))[::step])

    @rule()
    def compact(self) -> None:
        for month in {file.month for file in self.tiers.lake.view().files}:
            self.tiers.lake.compact_month(month)
        self.tiers.lake.vacuum_now()

    @rule(query=any_queries(), limit=st.integers(0, 30), offset=st.integers(0, 20))
    def ask(self, query: Query, limit: int, offset: int) -> None:
        check(self.tiers, query, limit, offset)

    @invariant()
    def everything_is_found_once(self) -> None:
        check(self.tiers, Query())
        check_stream(self.tiers, Query())

    def teardown(self) -> None:
        if not hasattr(self, "tiers"):
            return
        assert self.tiers.hot is not None
        self.tiers.hot.close()
        home = self.tiers.settings
        report = verify(Lake(home), CommitRecords(home), ReceiptBook(home))
        assert report.findings == ()


def test_answers_stay_right_whatever_happens_to_the_tiers(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    class Machine(TrailMachine):
        server = redis_server

        def homes(self) -> Path:
            return tmp_path_factory.mktemp("machine")

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
