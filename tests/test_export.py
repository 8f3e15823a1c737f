"""An export holds every match once and in order, in one file that is whole or not there."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_storage.atomic_file import PARTIAL_SUFFIX
from audit_storage.export.export import ExportReport, default_name, export_trail
from audit_storage.export.formats import EXPORT_SCHEMA, FORMATS
from audit_storage.lake.lake import Lake
from audit_storage.lake.schema import entries_of
from claude_max_audit.entry import ENTRY_FIELDS, AuditEntry
from claude_max_audit.errors import LakeUnavailableError, RedisUnavailableError
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.query import Query, parse_query
from claude_max_audit.settings import Settings

EntryMaker = Callable[..., AuditEntry]
NOON = datetime(2025, 11, 29, 12, tzinfo=UTC)
ODD_TEXTS = [
    "plain",
    "",
    'with "quotes", commas',
    "two\nlines\r\nand\rmore",
    "=HYPERLINK(\"x\")",
    "nul \x00, line separator \u2028, astral \U0001f5ff",
    " leading and trailing ",
]


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def hot(redis_url: str) -> Iterator[HotStore]:
    store = HotStore.connect(redis_url)
    yield store
    store.close()


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    return folder


def archive(lake: Lake, entries: list[AuditEntry], app: str = "archive/2025-11-29") -> None:
    """Commit entries to the lake."""
    with lake.begin(app) as transaction:
        transaction.add(entries)
        transaction.commit()


def heat(hot: HotStore, entries: list[AuditEntry]) -> None:
    """Write entries to Redis."""
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


def run(lake: Lake, hot: HotStore | None, path: Path, **options: Any) -> ExportReport:
    """Export to `path` in the format that its ending names."""
    query = options.pop("query", Query())
    form = options.pop("format", path.name.partition(".")[2])
    return export_trail(lake, hot, query, form, path, exports_dir=path.parent, **options)


def plain_bytes(path: Path) -> bytes:
    """The file's bytes, decompressed if its ending says so."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = pa.input_stream(pa.py_buffer(data), compression="zstd").read()
    return data


def read_back(path: Path) -> list[AuditEntry]:
    """Read an export of any format but csv."""
    data = plain_bytes(path)
    if ".jsonl" in path.suffixes:
        return [AuditEntry.from_json(line) for line in data.splitlines()]
    if ".json" in path.suffixes:
        objects = msgspec.json.decode(data, type=list[msgspec.Raw])
        return [AuditEntry.from_json(bytes(one)) for one in objects]
    return entries_of(pl.read_parquet(path))


@pytest.fixture
def odd(make_entry: EntryMaker) -> list[AuditEntry]:
    """Entries of every kind, with texts that formats trip over."""
    entries = [
        make_entry(content=text, metadata={"note": text}, timestamp=NOON + timedelta(seconds=at))
        for at, text in enumerate(ODD_TEXTS)
    ]
    kinds = ["context_access", "decision", "security_event", "performance_metric"]
    entries += [
        make_entry(entry_type=kind, timestamp=NOON + timedelta(minutes=1, microseconds=at))
        for at, kind in enumerate(kinds)
    ]
    crossing = make_entry(
        swarm_id="a", swarm_ids=("a", 'b"'), timestamp=NOON + timedelta(hours=1), parent_id="p"
    )
    return [*entries, crossing]


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "jsonl.zst", "json.zst"])
def test_a_file_reads_back_as_the_same_entries(
    form: str, lake: Lake, exports: Path, odd: list[AuditEntry]
) -> None:
    archive(lake, odd[::-1])
    report = run(lake, None, exports / f"out.{form}")
    assert read_back(report.path) == odd
    assert report.rows == len(odd)


def test_jsonl_lines_are_the_entries_own_json(
    lake: Lake, exports: Path, odd: list[AuditEntry]
) -> None:
    archive(lake, odd)
    report = run(lake, None, exports / "out.jsonl")
    assert report.path.read_text().split("\n") == [*(entry.to_json() for entry in odd), ""]


def test_csv_holds_every_field_verbatim(lake: Lake, exports: Path, odd: list[AuditEntry]) -> None:
    archive(lake, odd)
    path = run(lake, None, exports / "out.csv").path
    with path.open(encoding="utf-8", newline="") as text:
        records = list(csv.DictReader(text))
    assert list(records[0]) == list(ENTRY_FIELDS)
    for record, entry in zip(records, odd, strict=True):
        assert record["content"] == (entry.content or "")
        assert record["metadata"] == bytes(entry.metadata_json).decode()
        assert json.loads(record["swarm_ids"]) == list(entry.swarm_ids)
        assert record["timestamp"].endswith("Z")
        assert datetime.fromisoformat(record["timestamp"]) == entry.timestamp
        assert record["entry_hash"] == entry.entry_hash
        assert record["size_bytes"] == str(entry.size_bytes)
    assert path.read_bytes().endswith(b"\r\n")


def test_zstandard_gives_back_the_plain_file(
    lake: Lake, exports: Path, odd: list[AuditEntry]
) -> None:
    archive(lake, odd)
    for form in ("jsonl", "json", "csv"):
        plain = run(lake, None, exports / f"plain.{form}").path.read_bytes()
        packed = run(lake, None, exports / f"packed.{form}.zst").path
        assert packed.read_bytes().startswith(b"\x28\xb5\x2f\xfd"), "RFC 8878's magic number"
        assert plain_bytes(packed) == plain


def test_csv_tells_an_empty_text_from_a_missing_one(
    lake: Lake, exports: Path, make_entry: EntryMaker
) -> None:
    archive(lake, [make_entry(content=""), make_entry(entry_type="performance_metric")])
    frame = pl.read_csv(run(lake, None, exports / "out.csv").path, infer_schema=False)
    assert frame.get_column("content").to_list() == ["", None]


def test_parquet_has_the_lake_s_types(lake: Lake, exports: Path, odd: list[AuditEntry]) -> None:
    archive(lake, odd)
    assert pq.read_schema(run(lake, None, exports / "out.parquet").path).equals(EXPORT_SCHEMA)


@pytest.mark.parametrize("form", FORMATS)
def test_no_match_gives_an_empty_but_valid_file(form: str, lake: Lake, exports: Path) -> None:
    report = run(lake, None, exports / f"out.{form}")
    assert report.rows == 0
    if form.startswith("csv"):
        assert plain_bytes(report.path) == (",".join(ENTRY_FIELDS) + "\r\n").encode()
    else:
        assert read_back(report.path) == []


@pytest.mark.parametrize("form", FORMATS)
def test_the_manifest_describes_the_file(
    form: str, lake: Lake, exports: Path, odd: list[AuditEntry]
) -> None:
    archive(lake, odd)
    query = parse_query({"agent_id": "agent_a"}, (date(2025, 11, 1), None))
    report = run(lake, None, exports / f"out.{form}", query=query)
    manifest = json.loads(report.manifest_path.read_text())
    assert report.manifest_path.name == f"out.{form}.manifest.json"
    assert manifest["sha256"] == sha256(report.path.read_bytes()).hexdigest() == report.sha256
    assert manifest["size_bytes"] == report.path.stat().st_size
    assert manifest["rows"] == len(odd)
    assert manifest["query"] == {"agent_id": "agent_a", "start": "2025-11-01T00:00:00+00:00"}
    assert manifest["sources"] == ["lake"]
    assert manifest["lake_version"] == lake.version()
    assert manifest["first_timestamp"] == "2025-11-29T12:00:00.000000Z"
    assert manifest["last_timestamp"] == "2025-11-29T13:00:00.000000Z"


def test_filters_and_span_choose_the_rows(
    lake: Lake, exports: Path, make_entry: EntryMaker
) -> None:
    entries = [make_entry(swarm_id=name) for name in ("alpha", "beta", "alpha", "alpha")]
    archive(lake, entries)
    span = (entries[0].timestamp, entries[2].timestamp)
    query = parse_query({"swarm_id": "alpha"}, span)
    assert read_back(run(lake, None, exports / "out.jsonl", query=query).path) == [
        entries[0],
        entries[2],
    ]


def test_hot_and_cold_are_merged_without_duplicates(
    lake: Lake, hot: HotStore, exports: Path, make_entry: EntryMaker
) -> None:
    hours = [make_entry(timestamp=NOON + timedelta(hours=at)) for at in range(-60, 60)]
    archive(lake, hours[:40])  # before all that is hot
    archive(lake, hours[50:70:2])  # a day with late entries
    heat(hot, hours[45:])  # archived ones among them
    expected = sorted(hours[:40] + hours[45:], key=lambda e: (e.timestamp, e.entry_id))
    report = run(lake, hot, exports / "out.jsonl")
    assert read_back(report.path) == expected
    assert json.loads(report.manifest_path.read_text())["sources"] == ["redis", "lake"]
    narrow = parse_query({}, (hours[30].timestamp, hours[66].timestamp))
    assert read_back(run(lake, hot, exports / "narrow.jsonl", query=narrow).path) == [
        entry for entry in expected if entry.timestamp in narrow.span
    ]


def test_equal_times_are_ordered_by_id(
    lake: Lake, hot: HotStore, exports: Path, make_entry: EntryMaker
) -> None:
    together = [make_entry(timestamp=NOON) for _ in range(9)]
    archive(lake, together[1::2])
    heat(hot, together)
    assert read_back(run(lake, hot, exports / "out.jsonl").path) == sorted(
        together, key=lambda entry: entry.entry_id
    )


def test_a_day_archived_during_the_export_is_not_lost(
    lake: Lake, hot: HotStore, exports: Path, make_entry: EntryMaker
) -> None:
    entries = [make_entry(timestamp=NOON + timedelta(days=at)) for at in range(4)]
    heat(hot, entries)
    moved = False

    def archive_the_rest(_: int) -> None:
        nonlocal moved
        if not moved:
            moved = True
            archive(lake, entries[1:])
            hot.forget([entry.entry_id for entry in entries[1:]])

    report = run(lake, hot, exports / "out.jsonl", progress=archive_the_rest)
    assert moved
    assert read_back(report.path) == entries


def test_a_file_that_exists_is_refused_and_kept(lake: Lake, exports: Path) -> None:
    path = exports / "audit_export.jsonl"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        run(lake, None, path)
    assert path.read_text() == "precious"
    assert [one.name for one in exports.iterdir()] == ["audit_export.jsonl"]


def test_overwrite_replaces_file_and_manifest(
    lake: Lake, exports: Path, make_entry: EntryMaker
) -> None:
    path = exports / "audit_export.jsonl"
    run(lake, None, path)
    archive(lake, [make_entry()])
    report = run(lake, None, path, overwrite=True)
    assert report.rows == len(read_back(path)) == 1
    assert json.loads(report.manifest_path.read_text())["rows"] == 1


def test_an_unreadable_redis_leaves_no_file(lake: Lake, exports: Path, tmp_path: Path) -> None:
    away = HotStore.connect(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(RedisUnavailableError):
        run(lake, away, exports / "out.jsonl")
    away.close()
    assert list(exports.iterdir()) == []


def test_a_lake_that_breaks_midway_leaves_no_file_and_an_old_one_alone(
    lake: Lake, exports: Path, settings: Settings, make_entry: EntryMaker
) -> None:
    archive(lake, [make_entry(timestamp=NOON)])
    archive(lake, [make_entry(timestamp=NOON + timedelta(days=40))], "archive/2026-01-08")
    path = exports / "out.csv"
    before = run(lake, None, path).path.read_bytes()
    for broken in Path(settings.lake_uri).glob("entries/month=2026-01/*.parquet"):
        broken.write_bytes(b"no parquet")
    with pytest.raises(LakeUnavailableError):
        run(lake, None, path, overwrite=True)
    assert path.read_bytes() == before
    assert len(list(exports.iterdir())) == 2


def test_what_a_killed_export_left_is_swept(lake: Lake, exports: Path) -> None:
    (exports / f".0123456789abcdef{PARTIAL_SUFFIX}").write_bytes(b"half")
    run(lake, None, exports / "out.jsonl")
    assert sorted(one.name for one in exports.iterdir()) == [
        "out.jsonl",
        "out.jsonl.manifest.json",
    ]


def test_without_a_path_the_file_is_named_after_its_swarm(lake: Lake, tmp_path: Path) -> None:
    query = parse_query({"swarm_id": "../swarm primary"})
    folder = tmp_path / "made" / "anew"
    report = export_trail(lake, None, query, "csv", None, exports_dir=folder)
    assert report.path.parent == folder
    assert report.path.name.startswith("audit-___swarm_primary-2")
    assert default_name(Query(), "json", NOON) == "audit-all-20251129T120000000000Z.json"


def test_bad_arguments_name_the_remedy(lake: Lake, exports: Path) -> None:
    with pytest.raises(ValueError, match="known are jsonl, json, csv, parquet"):
        run(lake, None, exports / "out.xml")
    with pytest.raises(ValueError, match="leave text_query out"):
        run(lake, None, exports / "out.csv", query=parse_query({"text_query": "x"}))
    with pytest.raises(FileNotFoundError, match="create it"):
        run(lake, None, exports / "missing" / "out.csv")
    with pytest.raises(IsADirectoryError, match="path of a file"):
        run(lake, None, exports, format="csv")
    (exports / "file").write_text("x")
    with pytest.raises(OSError, match="choose another output path"):
        run(lake, None, exports / "file" / "out.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_explained(lake: Lake, exports: Path) -> None:
    exports.chmod(0o500)
    with pytest.raises(PermissionError, match="may not write"):
        run(lake, None, exports / "out.csv")
