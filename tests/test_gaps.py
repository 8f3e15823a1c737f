"""Numbers that the lake lacks, told by the archive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.gaps import Gap, gaps_between, writers_with_gaps
from audit_storage.archive.quarantine import Quarantine
from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import Settings


@given(held=st.sets(st.integers(min_value=1, max_value=60), min_size=1))
def test_gaps_are_exactly_what_is_missing_between_first_and_last(held: set[int]) -> None:
    frame = pl.DataFrame({"writer_id": ["w"] * len(held), "writer_seq": sorted(held)})
    told = {n for gap in gaps_between(frame) for n in range(gap.first_seq, gap.last_seq + 1)}
    assert told == set(range(min(held), max(held) + 1)) - held


def test_gaps_of_two_writers_are_not_mixed() -> None:
    frame = pl.DataFrame({"writer_id": ["a", "b", "a", "b", "b"], "writer_seq": [1, 5, 4, 9, 5]})
    assert gaps_between(frame) == (Gap("a", 2, 3), Gap("b", 6, 8))


@given(
    held=st.dictionaries(
        st.sampled_from("abc"),
        st.sets(st.integers(min_value=1, max_value=12), min_size=1),
        min_size=1,
    ),
    data=st.data(),
)
def test_the_writers_of_a_gap_are_found_however_files_divide_the_numbers(
    held: dict[str, set[int]], data: st.DataObject
) -> None:
    numbers = [(writer, number) for writer, mine in held.items() for number in mine]
    files: list[list[tuple[str, int]]] = [[], [], []]
    for one in numbers:
        for file in data.draw(st.sets(st.sampled_from(range(3)), min_size=1)):
            files[file].append(one)
    schema = {"writer_id": pl.String, "writer_seq": pl.Int64}
    found = writers_with_gaps([pl.DataFrame(f, schema=schema, orient="row") for f in files])
    expected = {
        (writer, min(mine), max(mine))
        for writer, mine in held.items()
        if len(mine) < max(mine) - min(mine) + 1
    }
    assert set(found.select("writer_id", "low", "high").rows()) == expected


def test_the_archive_tells_what_a_writer_numbered_and_the_lake_lacks(
    settings: Settings, redis_url: str, make_entry: Callable[..., AuditEntry]
) -> None:
    now = datetime.now(UTC)
    monday, tuesday = now - timedelta(days=4), now - timedelta(days=3)
    entries = [
        make_entry(timestamp=monday, writer_id="whole", writer_seq=1),
        make_entry(timestamp=tuesday, writer_id="whole", writer_seq=2),
        make_entry(timestamp=monday, writer_id="whole", writer_seq=3),
        make_entry(timestamp=monday, writer_id="lossy", writer_seq=10),
        make_entry(timestamp=tuesday, writer_id="lossy", writer_seq=12),
        make_entry(timestamp=monday, writer_id="lossy", writer_seq=15),
    ]
    hot = HotStore.connect(redis_url)
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])
    report = archive_closed_days(Lake(settings), hot, Quarantine(settings), now)
    by_day = {day.day: day.gaps for day in report.days}
    # On Monday night Tuesday's entries were not in the lake yet.
    assert by_day[monday.date()] == (Gap("lossy", 11, 14), Gap("whole", 2, 2))
    assert by_day[tuesday.date()] == ()
    late = make_entry(timestamp=monday, writer_id="lossy", writer_seq=16)
    hot.append_batch([Stamped(late, late.canonical_bytes())])
    again = archive_closed_days(Lake(settings), hot, Quarantine(settings), now)
    assert again.gaps == (Gap("lossy", 11, 11), Gap("lossy", 13, 14))
    hot.close()
