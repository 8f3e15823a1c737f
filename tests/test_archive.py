"""Days go from a real Redis into the lake once, whole and checked, however often we are cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import msgspec
import polars as pl
import pytest
import redis

from audit_storage.archive.archive import (
    ArchiveReport,
    LakeDamagedError,
    archive_closed_days,
    archive_day,
    pending_days,
)
from audit_storage.archive.page_proof import prove_page
from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake import transaction as lake_transaction
from audit_storage.lake.canonical import canonical_of
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import entries_of
from audit_storage.lake.transaction import LakeTransaction
from audit_storage.layout import span_of_day
from audit_storage.merkle import root_of
from claude_max_audit.entry import AuditEntry, with_entry_hash
from claude_max_audit.errors import LakeUnavailableError
from claude_max_audit.hot.day_reader import DayPage
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import Query
from claude_max_audit.settings import Settings

MakeEntry = Callable[..., AuditEntry]

# Redis expires by its own clock, so the days are counted back from now.
NOW = datetime.now(UTC)
TODAY = NOW.date()
DAY_1, DAY_2, DAY_3 = (TODAY - timedelta(days=back) for back in (4, 3, 2))
OLD = TODAY - timedelta(days=400)


class Cut(BaseException):
    """Stands for a kill at this instruction."""


class Archive(Protocol):
    def __call__(self, **how: Any) -> ArchiveReport: ...


Fill = Callable[..., list[AuditEntry]]


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def quarantine(settings: Settings) -> Quarantine:
    return Quarantine(settings)


@pytest.fixture
def hot(redis_url: str) -> Iterator[HotStore]:
    store = HotStore.connect(redis_url)
    yield store
    store.close()


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def archive(lake: Lake, hot: HotStore, quarantine: Quarantine) -> Archive:
    def run(**how: Any) -> ArchiveReport:
        return archive_closed_days(lake, how.pop("hot", hot), quarantine, NOW, **how)

    return run


@pytest.fixture
def fill(hot: HotStore, make_entry: MakeEntry) -> Callable[..., list[AuditEntry]]:
    def write(day: date, count: int = 30, **fields: Any) -> list[AuditEntry]:
        start = datetime.combine(day, time(8), tzinfo=UTC)
        entries = [
            make_entry(**{"timestamp": start + timedelta(seconds=number), **fields})
            for number in range(count)
        ]
        hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])
        return entries

    return write


def assert_whole(lake: Lake, expected: Sequence[AuditEntry]) -> None:
    """The lake holds exactly these entries, each once, and their bytes prove themselves."""
    rows = list(lake.scan(Query()))
    found = [entry for frame in rows for entry in entries_of(frame)]
    assert found == sorted(expected, key=lambda e: (e.timestamp, e.entry_id))
    canonical = [text for frame in rows for text in canonical_of(frame)]
    assert canonical == [entry.canonical_bytes() for entry in found]


def seconds_left(raw: redis.Redis, entry: AuditEntry) -> int:
    """Seconds until the hot copy expires; -1: never, -2: it is gone."""
    return int(raw.ttl(f"audit:entry:{entry.entry_id}"))


def assert_released(raw: redis.Redis, entries: Sequence[AuditEntry]) -> None:
    """Every hot copy goes 30 days after its day's end."""
    for entry in entries:
        goes = span_of_day(entry.day).end + timedelta(days=30)
        left = seconds_left(raw, entry)
        assert abs((goes - datetime.now(UTC)).total_seconds() - left) < 60


def assert_kept(raw: redis.Redis, entries: Sequence[AuditEntry]) -> None:
    assert {seconds_left(raw, entry) for entry in entries} == {-1}


def tamper(raw: redis.Redis, entry: AuditEntry, text: bytes) -> None:
    raw.hset(f"audit:entry:{entry.entry_id}", "json", text)


def resealed(entry: AuditEntry, **changed: Any) -> bytes:
    """The full JSON of an entry with other values and a hash that fits them."""
    other = msgspec.structs.replace(entry, entry_hash=None, **changed)
    return with_entry_hash(other.canonical_bytes())


# ---------------------------------------------------------------- what is archived


def test_closed_days_are_archived_in_order_and_the_open_day_is_not(
    archive: Archive, fill: Fill, lake: Lake, hot: HotStore, raw: redis.Redis
) -> None:
    two, one, today = fill(DAY_2), fill(DAY_1, 7), fill(TODAY, 5)
    report = archive()
    assert [(day.day, day.archived) for day in report.days] == [(DAY_1, 7), (DAY_2, 30)]
    assert report.archived == 37
    assert_whole(lake, [*one, *two])
    assert_released(raw, [*one, *two])
    assert_kept(raw, today)
    assert hot.complete_days(lake.days(), NOW) == {DAY_1, DAY_2}


def test_the_report_tells_the_commit(archive: Archive, fill: Fill, lake: Lake) -> None:
    entries = fill(DAY_1)
    [day] = archive().days
    assert day.version == lake.version()
    assert day.snapshot == f"archive/{DAY_1}/1"
    assert (day.files, day.bytes) == (1, sum(file.bytes for file in lake.view().files))
    assert day.merkle_root == root_of(entry.canonical_bytes() for entry in entries).hex()
    assert (day.already, day.quarantined, day.released) == (0, 0, 30)
    assert day.seconds > 0


def test_running_twice_commits_nothing(archive: Archive, fill: Fill, lake: Lake) -> None:
    fill(DAY_1)
    archive()
    version = lake.version()
    assert archive().days == ()
    assert lake.version() == version


def test_nothing_to_do_makes_no_lake(
    archive: Archive, fill: Fill, settings: Settings
) -> None:
    fill(TODAY)
    assert archive() == ArchiveReport()
    assert not Path(settings.lake_uri).exists()


def test_late_entries_of_an_archived_day_join_it(
    archive: Archive, fill: Fill, lake: Lake, raw: redis.Redis
) -> None:
    first = fill(DAY_1)
    archive()
    late = fill(DAY_1, 4, agent_id="late")
    assert_kept(raw, late)
    [day] = archive().days
    assert (day.archived, day.already) == (4, 30)
    assert day.snapshot == f"archive/{DAY_1}/2"
    ordered = sorted(late, key=lambda e: (e.timestamp, e.entry_id))
    assert day.merkle_root == root_of(e.canonical_bytes() for e in ordered).hex()
    assert_whole(lake, [*first, *late])
    assert_released(raw, [*first, *late])
    assert archive().days == ()


def test_days_and_age_narrow_the_choice(
    fill: Fill, lake: Lake, hot: HotStore, quarantine: Quarantine
) -> None:
    for day in (DAY_1, DAY_2, DAY_3):
        fill(day, 2)
    midnight = datetime.combine(DAY_2, time(), tzinfo=UTC)

    def chosen(**how: Any) -> list[date]:
        return pending_days(lake, hot, quarantine, NOW, **how)

    assert chosen() == [DAY_1, DAY_2, DAY_3]
    assert chosen(older_than=midnight) == [DAY_1]
    assert chosen(older_than=midnight - timedelta(microseconds=1)) == []
    assert chosen(older_than=NOW + timedelta(days=9)) == [DAY_1, DAY_2, DAY_3]
    assert chosen(days={DAY_3, TODAY}) == [DAY_3]


def test_entries_older_than_the_hot_days_leave_redis_once_they_are_safe(
    archive: Archive, fill: Fill, lake: Lake, hot: HotStore
) -> None:
    entries = fill(OLD)
    archive()
    assert_whole(lake, entries)
    assert hot.days() == {}
    assert archive().days == ()


def test_progress_and_finished_days_are_told(archive: Archive, fill: Fill) -> None:
    fill(DAY_1)
    fill(DAY_2)
    told: list[tuple[date, int, int]] = []
    finished: list[date] = []
    archive(progress=lambda *step: told.append(step), on_day=lambda d: finished.append(d.day))
    assert told == [(DAY_1, 30, 30), (DAY_2, 30, 30)]
    assert finished == [DAY_1, DAY_2]


def test_a_large_day_is_streamed_in_runs(
    archive: Archive, fill: Fill, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_transaction, "RUN_ROWS", 64)
    monkeypatch.setattr(lake_transaction, "PART_ROWS", 200)
    entries = fill(DAY_1, 1000)
    read = HotStore.read_day
    monkeypatch.setattr(HotStore, "read_day", lambda self, day: read(self, day, chunk=50))
    [day] = archive().days
    assert day.files == 5
    assert day.merkle_root == root_of(e.canonical_bytes() for e in entries).hex()
    assert_whole(lake, entries)


# ---------------------------------------------------------------- what is bad


def other_id(entry: AuditEntry) -> dict[str, str]:
    stranger = f"{entry.entry_id[:-4]}0000"
    return {"entry_id": stranger, "citation": f"if://audit/message/{stranger}"}


def eastern(entry: AuditEntry) -> bytes:
    """The entry with `recorded_at` written in another zone, sealed."""
    canonical = entry.canonical_bytes()
    start = canonical.index(b'"recorded_at":"')
    zone = canonical.index(b"Z", start)
    return with_entry_hash(canonical[:zone] + b"+02:00" + canonical[zone + 1 :])


BAD: dict[str, tuple[str, Callable[[AuditEntry], bytes]]] = {
    "cut off": ("it cannot be read", lambda e: e.to_json().encode()[:-30]),
    "not utf-8": ("it cannot be read", lambda e: e.to_json().encode().replace(b"green", b"gr\xff")),
    "unknown word": ("it cannot be read", lambda e: resealed(e).replace(b'"inform"', b'"infirm"')),
    "a field left out": (
        "it cannot be read",
        lambda e: with_entry_hash(e.canonical_bytes().replace(b'"agent_id":"agent_a",', b"")),
    ),
    "a field that is null": (
        "it cannot be read",
        lambda e: with_entry_hash(e.canonical_bytes().replace(b'"agent_a"', b"null", 1)),
    ),
    "a field that is new": (
        "it cannot be read",
        lambda e: with_entry_hash(e.canonical_bytes()[:-1] + b',"colour":"red"}'),
    ),
    "an empty field spelt out": (
        "not in canonical form",
        lambda e: with_entry_hash(
            e.canonical_bytes().replace(b',"content_hash"', b',"operation":null,"content_hash"', 1)
        ),
    ),
    "changed content": (
        "entry_hash does not agree",
        lambda e: e.to_json().encode().replace(b"green", b"red"),
    ),
    "changed hash": (
        "entry_hash does not agree",
        lambda e: e.to_json().encode().replace((e.entry_hash or "").encode(), b"0" * 64),
    ),
    "resealed content": (
        "content_hash does not agree",
        lambda e: resealed(e, content="The build is red."),
    ),
    "spaces": (
        "not in canonical form",
        lambda e: with_entry_hash(e.canonical_bytes().replace(b'":', b'": ', 1)),
    ),
    "another day": (
        "is not of",
        lambda e: resealed(e, timestamp=e.timestamp + timedelta(days=1)),
    ),
    "another zone": ("not written in UTC", eastern),
    "another's citation": (
        "citation",
        lambda e: resealed(e, citation=other_id(e)["citation"]),
    ),
    "another type's citation": (
        "citation",
        lambda e: resealed(e, citation=e.citation.replace("message", "decision")),
    ),
    "another id": (
        "kept under the id of another entry",
        lambda e: resealed(e, **other_id(e)),
    ),
    "huge number": ("too large", lambda e: resealed(e, size_bytes=2**63)),
    "negative number": ("negative", lambda e: resealed(e, writer_seq=-1)),
    "metadata no object": (
        "it cannot be read",
        lambda e: with_entry_hash(
            e.canonical_bytes().replace(b'"metadata":{}', b'"metadata":[1]')
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_entry_goes_to_quarantine_and_the_rest_to_the_lake(
    archive: Archive, fill: Fill, lake: Lake, quarantine: Quarantine, raw: redis.Redis, case: str
) -> None:
    entries = fill(DAY_1)
    reason, damage = BAD[case]
    bad = entries.pop(11)
    text = damage(bad)
    assert text != bad.to_json().encode()
    assert prove_page(DayPage([bad.entry_id.encode()], [text]), DAY_1, "x") is None
    tamper(raw, bad, text)
    [day] = archive().days
    assert (day.archived, day.quarantined, day.released) == (29, 1, 30)
    assert_whole(lake, entries)
    [kept] = quarantine.list(DAY_1)
    assert kept.text == text
    assert reason in kept.reason
    assert_released(raw, [*entries, bad])
    assert archive().days == (), "a bad entry must not bring the day back every night"


def test_an_entry_copied_over_another_is_archived_once(
    archive: Archive, fill: Fill, lake: Lake, quarantine: Quarantine, raw: redis.Redis
) -> None:
    entries = fill(DAY_1)
    overwritten = entries.pop(3)
    tamper(raw, overwritten, entries[20].to_json().encode())
    [day] = archive().days
    assert (day.archived, day.quarantined) == (29, 1)
    assert_whole(lake, entries)
    assert "kept under the id of another" in quarantine.list()[0].reason


def test_one_entry_moved_in_time_does_not_harm_its_neighbours(
    archive: Archive, fill: Fill, lake: Lake, raw: redis.Redis
) -> None:
    entries = fill(DAY_1)
    moved = entries.pop(3)
    text = resealed(moved, timestamp=span_of_day(DAY_1).end)
    tamper(raw, moved, text)
    entries.append(AuditEntry.from_json(text))
    [day] = archive().days
    assert day.archived == 30
    assert day.merkle_root == root_of(e.canonical_bytes() for e in entries).hex()
    assert_whole(lake, entries)


def test_a_hot_entry_that_differs_from_the_archived_one_is_kept_aside(
    archive: Archive, fill: Fill, lake: Lake, quarantine: Quarantine, raw: redis.Redis
) -> None:
    entries = fill(DAY_1)
    archive()
    content = "Something else."
    text = resealed(
        entries[5], content=content, content_hash=sha256(content.encode()).hexdigest()
    )
    tamper(raw, entries[5], text)
    late = fill(DAY_1, 1)
    [day] = archive().days
    assert (day.archived, day.already, day.quarantined) == (1, 29, 1)
    assert_whole(lake, [*entries, *late])
    assert "the lake holds another entry" in quarantine.list()[0].reason


def test_a_day_of_bad_entries_alone_is_kept_and_let_go(
    archive: Archive, fill: Fill, lake: Lake, quarantine: Quarantine, raw: redis.Redis
) -> None:
    for entry in fill(DAY_1, 3):
        tamper(raw, entry, b"nonsense " + entry.entry_id.encode())
    [day] = archive().days
    assert (day.archived, day.quarantined, day.version) == (0, 3, None)
    assert len(quarantine.list()) == 3
    assert lake.count() == 0


# ---------------------------------------------------------------- when we are cut


def _cut(*_: Any, **__: Any) -> Any:
    raise Cut


def _after(method: Any) -> Any:
    """The effect happens, the answer does not arrive."""

    def persisted_then_cut(*given: Any, **named: Any) -> Any:
        method(*given, **named)
        raise Cut

    return persisted_then_cut


def _second_chunk(scan: Any) -> Any:
    def cut(self: HotStore, day: date) -> Iterator[DayPage]:
        yield next(scan(self, day, chunk=10))
        raise Cut

    return cut


FAULTS: dict[str, tuple[type, str, Callable[[Any], Any]]] = {
    "reading": (HotStore, "read_day", _second_chunk),
    "before quarantine": (Quarantine, "add", lambda _: _cut),
    "after quarantine": (Quarantine, "add", _after),
    "before the commit": (LakeTransaction, "commit", lambda _: _cut),
    "after the commit": (LakeTransaction, "commit", _after),
    "after reading back": (LakeTransaction, "verify", _after),
    "before the release": (HotStore, "release_day", lambda _: _cut),
    "after the release": (HotStore, "release_day", _after),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cut_anywhere_loses_nothing_and_doubles_nothing(
    archive: Archive,
    fill: Fill,
    lake: Lake,
    quarantine: Quarantine,
    hot: HotStore,
    raw: redis.Redis,
    fault: str,
) -> None:
    entries = fill(DAY_1)
    bad = entries.pop(7)
    tamper(raw, bad, b"nonsense")
    owner, name, how = FAULTS[fault]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, how(getattr(owner, name)))
        with pytest.raises(Cut):
            archive()
    if fault != "after the release":
        assert_kept(raw, entries)
    archive()
    assert_whole(lake, entries)
    assert [one.text for one in quarantine.list()] == [b"nonsense"]
    assert_released(raw, [*entries, bad])
    assert hot.complete_days(lake.days(), NOW) == {DAY_1}
    version = lake.version()
    assert archive().days == ()
    assert lake.version() == version


def test_a_failure_between_days_keeps_the_days_before_it(
    archive: Archive, fill: Fill, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fill(DAY_1), fill(DAY_2)
    finished: list[date] = []

    def stop(report: Any) -> None:
        finished.append(report.day)
        raise Cut

    with pytest.raises(Cut):
        archive(on_day=stop)
    assert finished == [DAY_1]
    assert_whole(lake, first)
    archive()
    assert_whole(lake, [*first, *second])


def test_rows_that_do_not_read_back_are_never_released(
    archive: Archive, fill: Fill, lake: Lake, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = fill(DAY_1)
    commit = LakeTransaction.commit

    def damaged(self: LakeTransaction, *given: Any, **named: Any) -> Any:
        done = commit(self, *given, **named)
        [file] = Path(lake.uri).rglob("part-*.parquet")
        rows = pl.read_parquet(file, hive_partitioning=False)
        rows.with_columns(content=pl.lit("changed on disk")).write_parquet(file)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(LakeTransaction, "commit", damaged)
        with pytest.raises(LakeUnavailableError, match="differ"):
            archive()
    assert_kept(raw, entries)
    # The next run finds the ids in the lake, but does not take that for an archive.
    with pytest.raises(LakeDamagedError, match="nothing of the day was released"):
        archive()
    assert_kept(raw, entries)


def test_entries_that_come_during_the_archive_are_not_released_unread(
    archive: Archive, fill: Fill, lake: Lake, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = fill(DAY_1)
    late: list[AuditEntry] = []
    release = HotStore.release_day

    def and_then(self: HotStore, *given: Any) -> int:
        late.extend(fill(DAY_1, 3, agent_id="late") if not late else [])
        return release(self, *given)

    monkeypatch.setattr(HotStore, "release_day", and_then)
    archive()
    assert_released(raw, entries)
    assert_kept(raw, late)
    archive()
    assert_whole(lake, [*entries, *late])
    assert_released(raw, [*entries, *late])


def test_old_entries_that_come_during_the_archive_are_not_lost(
    archive: Archive, fill: Fill, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = fill(OLD)
    late: list[AuditEntry] = []
    release = HotStore.release_day

    def and_then(self: HotStore, *given: Any) -> int:
        late.extend(fill(OLD, 3, agent_id="late") if not late else [])
        return release(self, *given)

    monkeypatch.setattr(HotStore, "release_day", and_then)
    archive()
    archive()
    assert_whole(lake, [*entries, *late])


def test_two_archives_at_once_write_each_entry_once(
    fill: Fill, settings: Settings, hot: HotStore, raw: redis.Redis
) -> None:
    entries = [*fill(DAY_1, 200), *fill(DAY_2, 200)]
    together = threading.Barrier(2, timeout=30)

    def run(_: int) -> ArchiveReport:
        own = HotStore.connect(str(settings.redis_url))
        try:
            together.wait()
            return archive_closed_days(Lake(settings), own, Quarantine(settings), NOW)
        finally:
            own.close()

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(run, range(2)))
    assert sum(report.archived for report in reports) == 400
    lake = Lake(settings)
    assert_whole(lake, entries)
    assert_released(raw, entries)
    assert hot.complete_days(lake.days(), NOW) == {DAY_1, DAY_2}


def test_an_archive_that_is_overtaken_reads_again_and_finds_nothing_left(
    fill: Fill, lake: Lake, settings: Settings, hot: HotStore, quarantine: Quarantine
) -> None:
    entries = fill(DAY_1)
    overtaken: list[date] = []

    def other_first(day: date, *_: int) -> None:
        if not overtaken:
            overtaken.append(day)
            archive_day(Lake(settings), hot, quarantine, day, NOW)

    report = archive_day(lake, hot, quarantine, DAY_1, NOW, progress=other_first)
    assert overtaken == [DAY_1]
    assert (report.archived, report.already) == (0, 30)
    assert_whole(lake, entries)


# ---------------------------------------------------------------- the index


class Collected:
    """An index that keeps what it is given, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.entries: list[AuditEntry] = []
        self.fails = fails

    def add(self, entries: list[AuditEntry]) -> None:
        if self.fails:
            raise OSError("no space left on device")
        self.entries += entries


def test_the_index_gets_new_entries_once(archive: Archive, fill: Fill) -> None:
    index = Collected()
    entries = fill(DAY_1)
    archive(index=index)
    assert index.entries == entries
    late = fill(DAY_1, 2)
    archive(index=index)
    assert index.entries[30:] == late


def test_an_index_that_fails_is_reported_and_the_archive_stands(
    archive: Archive, fill: Fill, lake: Lake, raw: redis.Redis
) -> None:
    entries = fill(DAY_1)
    report = archive(index=Collected(fails=True))
    assert report.index_behind == (DAY_1,)
    assert report.days[0].index_error == "OSError: no space left on device"
    assert_whole(lake, entries)
    assert_released(raw, entries)
