"""The figures that the project set itself to reach, read from the results of the benches.

Called by `run.py`, which prints them, and by `publish.py`, which puts them into the README.
A bench that has not run has no figures. Pure: results in, figures out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]
"""Results by the name of their bench."""


@dataclass(frozen=True)
class Figure:
    """One promise: what was measured, and what it may be at most or must be at least."""

    what: str
    measured: float
    wanted: float
    at_least: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the promise holds in these results."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def cells(self) -> tuple[str, str, str, str]:
        """What, measured, wanted, and whether that is reached, as text."""
        bound = "at least" if self.at_least else "at most"
        return (
            self.what,
            f"{_number(self.measured)}{self.unit}",
            f"{bound} {_number(self.wanted)}{self.unit}",
            "yes" if self.reached else "no",
        )


def figures(results: Results) -> list[Figure]:
    """All figures that the results hold, in the order of the issue that asks for them."""
    readers = {
        "call_latency": _call_latency,
        "throughput": _throughput,
        "loop_pause": _loop_pause,
        "hot_queries": _hot_queries,
        "entry_memory": _entry_memory,
        "redis_away": _redis_away,
        "lake_bytes": _lake_bytes,
        "lake_archive": _lake_archive,
        "lake_queries": _lake_queries,
        "lake_commit": _lake_commit,
        "lake_purge": _lake_purge,
        "lake_export": _lake_export,
        "quality": _quality,
    }
    return [
        figure
        for name, read in readers.items()
        if name in results
        for figure in read(results[name])
    ]


def _call_latency(result: Any) -> Iterator[Figure]:
    for other, most in result["wanted"]["our_mean_of_theirs"].items():
        ratio = result["our_mean_of_theirs"][other]
        yield Figure(f"Mean of `await log_message`, as a part of: {other}", ratio, most)
    p99 = result["microseconds"]["auditor, process"]["p99"]
    yield Figure("p99 of `await log_message`", p99, result["wanted"]["p99"], unit=" µs")


def _throughput(result: Any) -> Iterator[Figure]:
    for who, least in result["wanted_ratio"].items():
        ratio = result["ratio_to_replay"][who]
        what = f"Entries a second of {who}, as a part of `redis-cli --pipe`"
        yield Figure(what, ratio, least, at_least=True)


def _lake_bytes(result: Any) -> Iterator[Figure]:
    wanted, size = result["wanted"], result["content_characters"]
    for key, which in (
        ("made", f"all with contents of {size} characters"),
        ("api_like", f"contents of {size} characters where the library's calls have one"),
    ):
        taken = result[key]["bytes_an_entry"]
        yield Figure(f"Lake: bytes an entry, {which}", taken, wanted["bytes_an_entry"], unit=" B")
    if "real_part_of_json" in result:
        what = "Lake: real events, as a part of their JSON lines"
        yield Figure(what, result["real_part_of_json"], wanted["part_of_json"])


def _lake_archive(result: Any) -> Iterator[Figure]:
    wanted, found = result["wanted"], result["median"]
    held = f"a day of {result['entries']:,}, Redis to lake"
    rate = found["entries_per_second"]
    what = f"Archive: {held}, entries a second"
    yield Figure(what, rate, wanted["entries_per_second"], at_least=True)
    peak = found["peak_mib"]
    yield Figure(f"Archive: {held}, peak memory", peak, wanted["peak_mib"], unit=" MiB")


def _lake_queries(result: Any) -> Iterator[Figure]:
    wanted = result["wanted"]
    held = f"at {result['entries']:,} entries of {result['days']:,} days"
    for name, found in result["questions"].items():
        what = f"Lake {held}: {name}, as a part of DuckDB's time"
        yield Figure(what, found["ratio"], wanted["ratio"])
    lookup = result["questions"]["one content hash, all years"]["ours_ms"]
    yield Figure(f"Lake {held}: one content hash", lookup, wanted["lookup_ms"], unit=" ms")


def _lake_commit(result: Any) -> Iterator[Figure]:
    what = (
        f"A commit of {result['day_entries']:,} entries after {result['days']:,} days, "
        "as a part of one at the beginning"
    )
    yield Figure(what, result["ratio"], result["wanted"])


def _lake_purge(result: Any) -> Iterator[Figure]:
    held = f"the oldest year out of {result['entries']:,}"
    what = f"Purge: {held}, times the rewriting of what stays"
    yield Figure(what, result["ratio"], result["wanted"]["ratio"])
    what = f"Purge: {held}, bytes freed as a part of that year's"
    yield Figure(what, result["freed_of_year"], result["wanted"]["freed_of_year"], at_least=True)


def _lake_export(result: Any) -> Iterator[Figure]:
    held = f"{result['entries']:,} entries to Parquet"
    what = f"Export: {held}, speed as a part of a bare Polars sink"
    yield Figure(what, result["speed_of_sink"], result["wanted"]["speed_of_sink"], at_least=True)
    what = f"Export: {held}, peak memory"
    yield Figure(what, result["peak_mib"], result["wanted"]["peak_mib"], unit=" MiB")


def _loop_pause(result: Any) -> Iterator[Figure]:
    rate = result["asked_entries_per_second"]
    what = f"Longest pause added to the event loop at {rate:,} entries/s"
    yield Figure(what, result["longest_pause_added_ms"], result["limit_ms"], unit=" ms")


def _hot_queries(result: Any) -> Iterator[Figure]:
    large, small = f"{result['entries']:,}", f"{result['entries_smaller']:,}"
    single = {name: q for name, q in result["queries"].items() if " and " not in name}
    several = {name: q for name, q in result["queries"].items() if " and " in name}
    for kind, queries in (("one condition", single), ("combinations", several)):
        for key, against in (
            ("ratio_to_bare", "the bare commands"),
            ("ratio_to_smaller", f"the same at {small}"),
        ):
            worst = max(queries, key=lambda name: queries[name][key])
            what = f"Hot queries at {large}, {kind}, p50 against {against}; the worst is {worst}"
            yield Figure(what, queries[worst][key], result["wanted"][key])


def _entry_memory(result: Any) -> Iterator[Figure]:
    for server, kinds in result["redis"].items():
        for kind, taken in kinds.items():
            what = f"Redis' memory an entry of {result['content_bytes']} bytes, {kind}, {server}"
            yield Figure(what, taken["bytes_an_entry"], result["wanted"], unit=" B")


def _redis_away(result: Any) -> Iterator[Figure]:
    what = f"Memory grown while Redis is away for {result['seconds_away']:.0f} s, and after"
    yield Figure(what, result["memory_grown_mib"], result["limit_mib"], unit=" MiB")


def _quality(result: Any) -> Iterator[Figure]:
    day, years, wanted = result["day"], result["years"], result["wanted"]
    what = f"Quality checks of a day of {day['entries']:,} entries"
    yield Figure(what, day["seconds"], wanted["day_seconds"], unit=" s")
    yield Figure(f"{what}, memory", day["peak_mb"], wanted["day_mb"], unit=" MB")
    what = f"Every id and hash once, {years['entries']:,} entries of seven years"
    yield Figure(what, years["seconds"], wanted["years_seconds"], unit=" s")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
