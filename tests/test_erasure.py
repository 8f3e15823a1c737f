"""A purged entry is in no file any more: every byte under the home is searched for it.

The whole way as a user goes it: logged, archived and purged by the command line, with the home's
own Redis and its append-only file, both indexes, quarantine and holds.
"""

from __future__ import annotations

import json
import os
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis

from audit_flows.cli import main
from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.ephemeral_api import EphemeralApi
from audit_flows.prefect_home import API_URL_VARIABLE, prefect_environment
from audit_flows.stores import open_stores
from audit_storage.index.index import EntryIndex
from audit_storage.lake.lake import Lake
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.hot.keys import entry_key
from claude_max_audit.settings import Settings, load_settings
from cold_trail import stored, verified
from shared_model import share_model

OLD = datetime(2016, 3, 1, 12, tzinfo=UTC)
YOUNG = datetime(2025, 11, 1, 12, tzinfo=UTC)
STORES = ("redis", "lake/entries", "chroma/words", "chroma/vectors")


@dataclass(frozen=True)
class Marked:
    """An entry, and words of it that nothing else on this machine has."""

    entry_id: str
    tokens: tuple[str, ...]

    @property
    def traces(self) -> list[bytes]:
        """Halves, because a compressed file may cut a word in two."""
        return [half.encode() for token in self.tokens for half in (token[:8], token[8:])]


def token() -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))


class Home:
    """A trail with all that belongs to it, and what its files hold."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings = settings
        self.server = EmbeddedRedis(settings.redis_dir)
        self._capsys = capsys

    def json(self, *arguments: str, code: int = 0) -> Any:
        self._capsys.readouterr()
        assert main([*arguments, "--json"]) == code, self._capsys.readouterr()
        return json.loads(self._capsys.readouterr().out)

    def log(self, auditor: ClaudeMaxAuditor, at: datetime, **more: Any) -> Marked:
        text, agent, note = token(), token(), token()
        logged = auditor.sync.log_message(
            agent, "b", "inform", f"it says {text} here",
            swarm_id=more.pop("swarm_id", "s"), timestamp=at, metadata={"note": note}, **more,
        )  # fmt: skip
        return Marked(str(logged), (text, agent, note))

    def files_with(self, *traces: bytes, within: str = ".") -> list[str]:
        """The files that hold any of these, as they are or unpacked."""
        return sorted(
            str(path.relative_to(self.settings.home))
            for path in (self.settings.home / within).rglob("*")
            if path.is_file() and any(trace in data for data in unpacked(path) for trace in traces)
        )


def unpacked(path: Path) -> Iterator[bytes]:
    """A file's bytes, and of Parquet everything that a reader would see of it."""
    try:
        yield path.read_bytes()
    except FileNotFoundError:  # a server's own temporary file
        return
    if path.name.endswith(".parquet"):
        yield repr(pq.read_table(path).to_pylist()).encode()


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Home]:
    settings = load_settings(environ={}, home=tmp_path / "home")
    share_model(settings.home)
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    home = Home(settings, capsys)
    with EphemeralApi(settings.prefect_dir, {**os.environ, **prefect_environment(settings)}) as api:
        monkeypatch.setenv(API_URL_VARIABLE, api.url())
        try:
            yield home
        finally:
            home.server.stop()


def damage(home: Home, entry: Marked) -> None:
    """Let the entry's bytes no longer fit its hash, as a disk or a hand might."""
    with redis.Redis.from_url(home.server.url) as client:
        text = client.hget(entry_key(entry.entry_id), "json")
        assert isinstance(text, bytes)
        client.hset(entry_key(entry.entry_id), "json", text.replace(b"it says", b"it said"))


def carry_spools(home: Home) -> None:
    """What a process that ended leaves in its spool goes with the next one, seconds later."""
    deadline = monotonic() + 60
    while any((home.settings.home / "spool").glob("*/*.*")):
        assert monotonic() < deadline
        with open_stores(home.settings) as stores:
            _ = stores.hot


def test_what_is_purged_is_in_no_byte_of_any_file(home: Home) -> None:
    home.server.start()
    later = OLD + timedelta(days=70)
    auditor = ClaudeMaxAuditor(redis_url=home.server.url)
    alone = [home.log(auditor, OLD + timedelta(minutes=n)) for n in range(3)]
    beside = [home.log(auditor, later + timedelta(minutes=n)) for n in range(3)]
    held = home.log(auditor, later, swarm_id="held")
    permanent = home.log(auditor, later, retention="permanent")
    young = home.log(auditor, YOUNG)
    rejected, held_too = home.log(auditor, OLD), home.log(auditor, OLD, swarm_id="held")
    auditor.sync.flush_all()
    auditor.sync.close()
    due, kept = [*alone, *beside], [held, permanent, young]
    damage(home, rejected)
    damage(home, held_too)
    home.json("archive", code=1)  # two did not fit
    assert {one["entry_id"] for one in home.json("quarantine")} == {
        rejected.entry_id, held_too.entry_id,
    }  # fmt: skip
    hold = home.json("hold", "place", "--swarm", "held", "--reason", "case 17", "--by", "counsel")
    for one in due:  # what is searched for can be found
        places = home.files_with(*one.traces, one.entry_id.encode())
        assert all(any(path.startswith(store) for path in places) for store in STORES), places
        in_log = [
            path for one in alone for path in home.files_with(one.tokens[1].encode())
            if "_delta_log" in path
        ]  # fmt: skip
        assert in_log, "the log's statistics name the first and the last agent of a file"
    assert home.files_with(*rejected.traces, within="lake/quarantine")

    plan = home.json("purge")["plan"]
    assert (plan["rows"], plan["held_kept"], plan["permanent_kept"]) == (len(due), 1, 1)
    assert plan["held"][0]["rows"] == 1
    assert [name.partition("/")[0] for name in plan["rejected"]] == [str(OLD.date())]
    receipt = home.json("purge", "--execute", "--by", "J. Doe")["receipt"]
    carry_spools(home)

    for one in [*due, rejected]:
        assert home.files_with(*one.traces) == [], one
    for one in due:
        outlived = home.files_with(one.entry_id.encode())
        assert outlived
        assert {path.rpartition("/")[0] for path in outlived} == {"lake/purged"}
    assert [one["entry_id"] for one in home.json("quarantine")] == [held_too.entry_id]
    assert home.files_with(*held_too.traces, within="lake/quarantine")
    for one in kept:
        assert home.files_with(*one.traces, within="lake/entries"), one
    assert stored(Lake(home.settings)) == {one.entry_id for one in kept}
    told = (receipt["rows"], receipt["by"], len(receipt["rejected"]), receipt["holds"])
    assert told == (len(due), "J. Doe", 1, plan["held"])
    assert home.json("purge", "--receipts") == [receipt]
    assert receipt["holds"][0]["hold_id"] == hold["hold_id"]
    assert_whole(home, kept)


def assert_whole(home: Home, kept: list[Marked]) -> None:
    report = verified(Lake(home.settings))
    assert report.whole, report.findings
    index = EntryIndex.open(home.settings)
    try:
        for one in kept:
            assert next(iter(index.search(one.tokens[0]))).entry_id == one.entry_id
        assert index.count() == len(kept)
    finally:
        index.close()
    home.json("reconcile")
