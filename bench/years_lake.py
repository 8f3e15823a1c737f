"""A lake of made-up years that several benches share: made once, asked and copied many times.

`AUDIT_BENCH_LAKE` names a folder where it is kept between benches and runs; without it each
bench makes its own and removes it. It is made as the archive makes one: a commit a day, each
month compacted when it is over. Benches that change a lake work on a `copy_of` it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

from audit_storage.lake.compaction import CLOSED_DAYS, compact_closed_months
from audit_storage.lake.lake import Lake
from audit_storage.layout import archive_app, local_folder, month_of
from claude_max_audit.settings import load_settings
from swarm_years import YEARS_DAYS, SwarmDay, SwarmYears

SCRATCH = Path(__file__).resolve().parent / "scratch"
FULL_ENTRIES = int(os.environ.get("AUDIT_BENCH_LAKE_ENTRIES", "0"))
"""Entries of the lake at full size, 0 when none is asked for."""

DEFAULT_ENTRIES = FULL_ENTRIES or 200_000
DEFAULT_DAYS = YEARS_DAYS if FULL_ENTRIES else 256
_KEPT = os.environ.get("AUDIT_BENCH_LAKE")
_MARK = "years.json"


@dataclass(frozen=True)
class YearsLake:
    """The lake, the years that it holds, and how long it took to make and to compact."""

    home: Path
    entries: int
    days: int
    seconds: float
    compaction_seconds: float

    @property
    def years(self) -> SwarmYears:
        """What the lake was made of."""
        return SwarmYears(self.entries, self.days)

    def open(self) -> Lake:
        """Open the lake, with nothing of it in memory yet."""
        return Lake(load_settings(home=self.home))

    @property
    def folder(self) -> Path:
        """Where the lake's tables lie."""
        return folder_of(self.open())


def folder_of(lake: Lake) -> Path:
    """Return the folder of a lake on this machine."""
    folder = local_folder(lake.settings.lake_uri)
    assert folder is not None
    return Path(folder)


@contextmanager
def years_lake(entries: int, days: int) -> Iterator[YearsLake]:
    """The lake of that size: the one that is kept, or one for this bench alone."""
    if _KEPT is not None:
        yield _kept(Path(_KEPT).absolute(), entries, days)
        return
    home = SCRATCH / f"years-{os.getpid()}"
    try:
        yield _make(home, entries, days)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _kept(home: Path, entries: int, days: int) -> YearsLake:
    mark = home / _MARK
    if mark.exists():
        found = YearsLake(home, **json.loads(mark.read_text()))
        if (found.entries, found.days) == (entries, days):
            return found
        raise SystemExit(
            f"{home} holds {found.entries} entries of {found.days} days, not {entries} of {days}; "
            "name another folder in AUDIT_BENCH_LAKE, or remove this one"
        )
    if home.exists() and any(home.iterdir()):
        raise SystemExit(f"{home} holds something else, or a lake that was not finished")
    made = _make(home, entries, days)
    told = {name: value for name, value in asdict(made).items() if name != "home"}
    mark.write_text(json.dumps(told))
    return made


def _make(home: Path, entries: int, days: int) -> YearsLake:
    started, compacting = perf_counter(), 0.0
    lake = Lake(load_settings(home=home))
    month = None
    for of_day in SwarmYears(entries, days).each_day():
        if month not in (None, month_of(of_day.day)):
            compacting += _compact(lake, of_day)
            print(f"{of_day.day} {perf_counter() - started:.0f} s", file=sys.stderr)
        month = month_of(of_day.day)
        commit_day(lake, of_day)
    compacting += _compact(lake, of_day, days_later=32)
    lake.vacuum_now()
    return YearsLake(home, entries, days, round(perf_counter() - started, 1), round(compacting, 1))


def _compact(lake: Lake, of_day: SwarmDay, days_later: int = 0) -> float:
    started = perf_counter()
    later = timedelta(days=CLOSED_DAYS + days_later)
    compact_closed_months(lake, datetime.combine(of_day.day, datetime.min.time(), UTC) + later)
    return perf_counter() - started


def commit_day(lake: Lake, of_day: SwarmDay) -> float:
    """Commit a day and read it back, as the archive does; returns the seconds."""
    started = perf_counter()
    with lake.begin(archive_app(of_day.day)) as transaction:
        rows = of_day.of_snapshot(transaction.snapshot)
        transaction.add_rows(month_of(of_day.day), rows)
        transaction.commit()
        transaction.verify(lake.fresh_view())
    return perf_counter() - started


@contextmanager
def copy_of(years: YearsLake, name: str, real: int = 0) -> Iterator[YearsLake]:
    """A lake with the same contents that may be changed. Files that never change are linked, but
    for those of the `real` oldest months, which are copied, so that deleting them frees them."""
    home = years.home.with_name(f"{years.home.name}-{name}-{os.getpid()}")
    months = sorted({file.month for file in years.open().view().files})[:real]
    try:
        for source in [path for path in years.folder.rglob("*") if path.is_file()]:
            target = home / source.relative_to(years.home)
            target.parent.mkdir(parents=True, exist_ok=True)
            linked = source.suffix == ".parquet" and "_delta_log" not in source.parts
            if linked and source.parent.name.removeprefix("month=") not in months:
                target.hardlink_to(source)
            else:
                shutil.copyfile(source, target)
        yield YearsLake(home, years.entries, years.days, years.seconds, years.compaction_seconds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
