"""Keys of files: nothing that is there is ever missed, and most files are never opened."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from audit_storage.lake.compaction import compact_closed_months
from audit_storage.lake.key_file import (
    HEADER_BYTES,
    KEY_COLUMNS,
    DamagedKeysError,
    KeyFile,
    encode_keys,
    key_of,
)
from audit_storage.lake.lake import Lake
from audit_storage.lake.view import LakeView
from audit_storage.layout import keys_file
from claude_max_audit.entry import AuditEntry
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import Settings
from cold_trail import archive, purge, stored, verified

EntryMaker = Callable[..., AuditEntry]
NOW = datetime(2026, 2, 20, 3, tzinfo=UTC)
PATH = "month=2025-01/part-1.parquet"


class Bytes:
    """A source in memory, as a mapped file is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_at(self, nbytes: int, offset: int) -> bytes:
        return self.data[offset : offset + nbytes]


def made(rows: int, chance: random.Random) -> tuple[list[str], list[str], bytes]:
    hashes = [sha256(chance.randbytes(4)).hexdigest() for _ in range(rows)]
    ids = [f"id-{number}" for number in range(rows)]
    columns = {name: ["worker", "planner"] for name in KEY_COLUMNS}
    columns |= {"content_hash": hashes, "entry_id": ids}
    return hashes, ids, encode_keys(PATH, rows, columns)


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 1000, 20_000])
def test_every_value_that_is_there_is_found(rows: int) -> None:
    hashes, ids, data = made(rows, random.Random(rows))
    keys = KeyFile(Bytes(data), PATH, rows)
    assert keys.bytes == len(data)
    assert all(keys.may_hold("content_hash", key_of(one)) for one in hashes)
    assert all(keys.may_hold("entry_id", key_of(one)) for one in ids)
    keys.check()


def test_few_values_that_are_not_there_seem_to_be() -> None:
    _, _, data = made(20_000, random.Random(1))
    keys = KeyFile(Bytes(data), PATH, 20_000)
    seeming = sum(keys.may_hold("entry_id", key_of(f"absent-{n}")) for n in range(20_000))
    assert 0 < seeming < 60  # one in a thousand
    assert len(data) / 20_000 < 4.5


def test_any_changed_byte_is_noticed_before_it_hides_an_entry() -> None:
    chance = random.Random(7)
    hashes, ids, data = made(300, chance)
    noticed = 0
    for _ in range(400):
        at = chance.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << chance.randrange(8)
        try:
            keys = KeyFile(Bytes(bytes(changed)), PATH, 300)
            keys.check()
        except DamagedKeysError:
            noticed += 1
            for column, values in (("content_hash", hashes), ("entry_id", ids)):
                for value in values:
                    assert _found_or_refused(bytes(changed), column, value)
    assert noticed == 400


def _found_or_refused(data: bytes, column: str, value: str) -> bool:
    try:
        return KeyFile(Bytes(data), PATH, 300).may_hold(column, key_of(value))
    except DamagedKeysError:
        return True


@pytest.mark.parametrize("left", [0, 10, HEADER_BYTES, HEADER_BYTES + 9, -1])
def test_a_file_that_was_cut_is_refused(left: int) -> None:
    _, _, data = made(300, random.Random(3))
    with pytest.raises(DamagedKeysError):
        KeyFile(Bytes(data[:left]), PATH, 300).check()


def test_keys_of_another_file_are_refused() -> None:
    _, _, data = made(5, random.Random(3))
    with pytest.raises(DamagedKeysError, match="another file"):
        KeyFile(Bytes(data), "month=2025-01/part-2.parquet", 5)
    with pytest.raises(DamagedKeysError, match="another file"):
        KeyFile(Bytes(data), PATH, 6)


@pytest.fixture
def trail(make_entry: EntryMaker) -> list[AuditEntry]:
    """Entries of eight months, with ids and contents that tell no time; some contents twice."""
    chance = random.Random(5)
    return [
        make_entry(
            timestamp=datetime(2025, 4, 2, tzinfo=UTC) + timedelta(days=at, hours=at % 7),
            entry_id=f"{chance.getrandbits(128):032x}",
            content=f"content {at % 200}",
        )
        for at in range(240)
    ]


@pytest.fixture
def lake(settings: Settings, trail: list[AuditEntry]) -> Lake:
    lake = Lake(settings)
    with lake.begin("writer/import") as transaction:
        transaction.add(trail)
        transaction.commit()
    return lake


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened for a question."""
    paths: list[str] = []
    rows_of = LakeView.rows_of

    def watch(self: LakeView, files: list[object]) -> pl.LazyFrame:
        paths.extend(file.path for file in files)  # type: ignore[attr-defined]
        return rows_of(self, files)  # type: ignore[arg-type]

    monkeypatch.setattr(LakeView, "rows_of", watch)
    return paths


def by_hash(entry: AuditEntry) -> Query:
    return parse_query({"content_hash": entry.content_hash})


def expected(trail: list[AuditEntry], query: Query) -> list[AuditEntry]:
    found = [entry for entry in trail if query.matches(entry)]
    return sorted(found, key=lambda entry: (entry.timestamp, entry.entry_id), reverse=True)


def test_a_hash_and_an_id_are_found_in_the_only_files_that_have_them(
    lake: Lake, trail: list[AuditEntry], opened: list[str]
) -> None:
    assert compact_closed_months(lake, NOW).keyed == len(lake.view().files) == 8
    for entry in trail[::17]:
        query = by_hash(entry)
        matches = expected(trail, query)
        opened.clear()
        page = lake.page(query, 10, 0)
        assert (list(page.entries), page.total) == (matches, len(matches))
        months = {f"{one.timestamp:%Y-%m}" for one in matches}
        assert {path[6:13] for path in opened} == months
        assert lake.count_matches(query) == len(matches)
        opened.clear()
        assert lake.find([entry.entry_id]) == {entry.entry_id: entry}
        assert [path[6:13] for path in opened] == [f"{entry.timestamp:%Y-%m}"]
    opened.clear()
    assert lake.page(parse_query({"content_hash": "0" * 64}), 10, 0).total == 0
    assert lake.existing(["f" * 32]) == set()
    assert opened == []


def test_without_keys_or_with_damaged_ones_the_answers_are_the_same(
    lake: Lake, trail: list[AuditEntry], settings: Settings
) -> None:
    queries = [by_hash(entry) for entry in trail[::41]]
    answers = [lake.page(query, 10, 0) for query in queries]
    assert [list(page.entries) for page in answers] == [expected(trail, q) for q in queries]
    lake.build_lookup()
    assert [lake.page(query, 10, 0) for query in queries] == answers
    for file in sorted(Path(settings.lake_uri, "lookup").iterdir()):
        data = file.read_bytes()
        file.write_bytes(data[:HEADER_BYTES] + bytes(len(data) - HEADER_BYTES))
    assert [Lake(settings).page(query, 10, 0) for query in queries] == answers
    for file in sorted(Path(settings.lake_uri, "lookup").iterdir()):
        file.unlink()
    assert [Lake(settings).page(query, 10, 0) for query in queries] == answers


def test_missing_and_damaged_keys_are_made_anew(
    lake: Lake, settings: Settings, trail: list[AuditEntry], opened: list[str]
) -> None:
    assert lake.build_lookup() == 8
    assert lake.build_lookup() == 0
    one, other, *_ = sorted(Path(settings.lake_uri, "lookup").iterdir())
    good = one.read_bytes()
    one.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    other.unlink()
    assert lake.build_lookup() == 2
    assert one.read_bytes() == good
    opened.clear()
    assert lake.page(parse_query({"content_hash": "0" * 64}), 10, 0).total == 0
    assert opened == []


def test_many_ids_at_once_are_read_and_not_looked_up(
    lake: Lake, trail: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.build_lookup()
    monkeypatch.setattr("audit_storage.lake.lookup.MOST_VALUES", 100)
    ids = [entry.entry_id for entry in trail]
    assert lake.existing(ids) == {*ids}


def test_keys_leave_with_their_entries(
    settings: Settings, trail: list[AuditEntry]
) -> None:
    lake, trail = Lake(settings), trail[::12]
    archive(lake, trail)
    compact_closed_months(lake, NOW)
    folder = Path(settings.lake_uri, "lookup")
    (folder / "half-written.keys").write_bytes(b"")
    before = {file.name for file in folder.iterdir()}
    cutoff = datetime(2025, 7, 10, tzinfo=UTC)
    purge(lake, cutoff.replace(year=2032))
    kept = {file.path for file in lake.view().files}
    left = {file.name for file in folder.iterdir()}
    assert left < before
    assert left <= {keys_file(path).rpartition("/")[2] for path in kept}
    assert stored(lake) == {one.entry_id for one in trail if one.timestamp >= cutoff}
    assert compact_closed_months(lake, NOW).keyed == len(kept) - len(left)
    assert verified(lake).whole
