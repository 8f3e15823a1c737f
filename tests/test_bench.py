"""The benches measure what they say: the same traffic, answers that agree, figures read right."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

import bare_query
import hot_queries
import lake_commit
import lake_export
import lake_purge
import lake_queries
import publish
import run
import years_lake
from audit_storage.archive.inspection import inspect
from audit_storage.lake.schema import as_frame, entries_of
from claude_max_audit.entry import with_entry_hash
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.store import HotStore
from claude_max_audit.vocabulary import AuditEntryType
from cold_trail import verified
from figures import Figure
from swarm_years import CONTENT_CHARACTERS, SwarmYears
from traffic import CONTENT_BYTES, messages, traffic

BENCH = Path(run.__file__).parent


def test_the_same_seed_gives_the_same_traffic_of_every_type() -> None:
    first, again = list(traffic(400)), list(traffic(400))
    assert [s.entry.entry_id for s in first] == [s.entry.entry_id for s in again]
    assert [s.entry.content for s in first] == [s.entry.content for s in again]
    assert {s.entry.entry_id for s in first}.isdisjoint(s.entry.entry_id for s in traffic(400, 2))
    assert len({s.entry.entry_type for s in first}) == 5
    times = [s.entry.timestamp for s in first]
    assert times == sorted(times)
    for entry in [s.entry for s in (*first, *messages(20))]:
        assert entry.content is not None
        assert len(entry.content.encode()) == CONTENT_BYTES
    copies = Counter(s.entry.content_hash for s in first)
    assert max(copies.values()) > 1, "some contents are passed on"


def test_bare_commands_and_the_library_agree(redis_url: str) -> None:
    hot, link = HotStore.connect(redis_url), RedisLink.open(redis_url)
    hot.append_batch(list(traffic(3_000)))
    store = hot_queries.Store(3_000, hot, link)
    for name, (make, span) in hot_queries.QUESTIONS.items():
        for number in range(3):
            store.ask(name, make(Random(number), span), bare_first=number % 2 == 0)
    assert all(len(times) == 3 for times in store.library_ms.values())
    wrong = hot_queries.Case(
        hot_queries.by_agent(Random(1), hot_queries.EVER).query,
        lambda link, window: bare_query.one_set(link, window, "audit:agent:nobody"),
    )
    with pytest.raises(AssertionError, match="totals differ"):
        store.ask("agent", wrong, bare_first=True)
    hot.close()
    link.close()


@pytest.mark.parametrize("name", run.BENCHES)
def test_every_bench_is_a_program_that_tells_what_it_does(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{name}.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"## {name}" in (BENCH / "README.md").read_text()
    assert done.stdout.startswith("usage: ")


def test_the_years_of_a_seed_are_always_the_same_true_entries() -> None:
    years, again = SwarmYears(30_000, 400), SwarmYears(30_000, 400)
    day = years.day(200)
    assert day.rows.equals(again.day(200).rows), "a day does not depend on those before it"
    assert not day.rows.equals(SwarmYears(30_000, 400, seed=2).day(200).rows)
    entries = [inspect(with_entry_hash(line), day.day).entry for line in day.lines()]
    stored = entries_of(as_frame(day.of_snapshot("archive/x/1")))
    assert entries == stored
    assert {len(entry.content or "") for entry in entries} == {CONTENT_CHARACTERS}
    assert {entry.entry_type for entry in entries} == set(AuditEntryType)
    writers: dict[str, list[int]] = {}
    for entry in entries:
        writers.setdefault(entry.writer_id, []).append(entry.writer_seq)
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in writers.values())


def test_the_years_have_their_rhythm_and_agents_come_and_go() -> None:
    years = SwarmYears(40_000, 400)
    days = list(years.each_day())
    frame = pl.concat([as_frame(day.rows) for day in days])
    assert frame.height == 40_000
    assert frame["timestamp"].is_sorted()
    weekdays = frame.group_by(pl.col("timestamp").dt.weekday()).len().sort("timestamp")["len"]
    assert min(weekdays[:5]) > 1.5 * max(weekdays[5:])
    first, last = (set(days[at].rows["agent_id"].to_pylist()) for at in (0, -1))
    assert first - last
    assert last - first
    repeated = 1 - frame["content_hash"].n_unique() / frame.height
    assert 0.05 < repeated < 0.2
    assert 10 < (frame["retention"] == "permanent").sum() < 100


def test_the_benches_of_the_lake_find_the_same_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(years_lake, "_KEPT", str(tmp_path / "years"))
    for bench in (years_lake, lake_commit, lake_export):
        monkeypatch.setattr(bench, "SCRATCH", tmp_path)
    questions = lake_queries.measure(1_000, 70, 1)["questions"]
    assert isinstance(questions, dict)
    assert all(found["entries"] for found in questions.values())
    commit = lake_commit.measure(1_000, 70, 1)
    assert commit["ratio"] > 0
    purge = lake_purge.measure(1_000, 70, 1)
    assert 0 < purge["rows"] < 1_000
    assert purge["freed_of_year"] > 0
    with years_lake.years_lake(1_000, 70) as years:
        assert verified(years.open()).whole
        for name in lake_export.WAYS:
            assert lake_export.one_way(name, years.home, tmp_path)["rows"] == 1_000
    with pytest.raises(SystemExit, match="name another folder"), years_lake.years_lake(1, 70):
        pass


def test_a_figure_knows_whether_it_is_reached() -> None:
    assert Figure("x", 0.5, 0.5).reached
    assert not Figure("x", 0.51, 0.5).reached
    assert Figure("x", 0.6, 0.6, at_least=True).reached
    assert not Figure("x", 0.59, 0.6, at_least=True).reached
    assert Figure("x", 2378, 2200, unit=" B").cells() == ("x", "2,378 B", "at most 2,200 B", "no")


def kept_results() -> dict[str, Any]:
    result = {
        "what": "bytes",
        "entries": 10,
        "content_bytes": 600,
        "redis": {"6.2": {"mixed": {"allocator": "libc", "bytes_an_entry": 2104, "by_key": {}}}},
        "wanted": 2200,
    }
    return {"entry_memory": {**run.machine(), "bench": "entry_memory", "result": result}}


def test_results_are_published_between_the_markers_and_nowhere_else() -> None:
    made = publish.section(kept_results())
    [row] = [line for line in made.splitlines() if "2,104 B" in line]
    assert row.endswith("| at most 2,200 B | yes |")
    readme = f"above\n{publish.BEGIN}\nold\n{publish.END}\nbelow\n"
    once = publish.publish(readme, made)
    assert once.startswith("above\n")
    assert once.endswith("\nbelow\n")
    assert "old" not in once
    assert publish.publish(once, made) == once
    with pytest.raises(SystemExit, match=r"put these lines in"):
        publish.publish("no markers", made)


def test_the_readme_has_a_place_for_results() -> None:
    readme = publish.README.read_text()
    assert readme.count(publish.BEGIN) == readme.count(publish.END) == 1
