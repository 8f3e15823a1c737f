"""`claude-audit demo`, run as a user runs it; what it prints is held against the input itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from audit_flows.cli import main
from audit_flows.demo import intake
from audit_flows.demo.home import MARK
from audit_flows.demo.source import GENERATED_ENTRIES, Source
from audit_flows.workplace import Workplace

CLI = str(Path(sys.executable).parent / "claude-audit")


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in `folder` without a model, and with a home that has no transcripts."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AUDIT_")},
        "AUDIT_EMBEDDER": "none",
        "HOME": str(folder),
        "AUDIT_REDIS_URL": "redis://127.0.0.1:1",  # the demo must not use it
    }
    return subprocess.run(
        [CLI, "demo", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=170,
    )


def number(told: str, label: str) -> int:
    """The first number on the line that begins with `label`."""
    found = re.search(rf"^ *{re.escape(label)} +([\d,]+)", told, re.M)
    assert found, f"no {label!r} in:\n{told}"
    return int(found[1].replace(",", ""))


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in told or str(folder) in environ:
            lines.append(told)
    return lines


def events(folder: Path, count: int) -> Path:
    """A file of neutral events: three days, two agents, one line that is no event."""
    path = folder / "events.jsonl"
    lines = [
        json.dumps(
            {
                "source": "test", "seq": n, "session": "s", "swarm": "hive",
                "timestamp": f"2025-11-{28 + n % 3}T12:00:{n:02d}Z",
                "from_agent": "ant" if n % 4 else "bee", "to_agent": "queen",
                "kind": "message", "message_type": "inform", "operation": None,
                "content": f"leaf {n}", "size_bytes": None, "metadata": None,
            }
        )
        for n in range(count)
    ]  # fmt: skip
    path.write_text("\n".join([*lines, "{torn"]) + "\n")
    return path


def test_it_takes_a_file_through_every_store(tmp_path: Path) -> None:
    done = run_demo(tmp_path, str(events(tmp_path, 20)))

    told = done.stdout
    assert done.returncode == 0, told + done.stderr
    assert "21 lines in 1 file: 20 gave entries, 1 were passed over" in told
    assert "not JSON" in told
    assert number(told, "entries in Redis") == 20
    assert number(told, "entries in the lake") == 20
    assert number(told, "entries") == 20  # of the exported file
    assert "agent ant  15 entries, newest first" in told
    assert "severity high or critical  none" in told
    assert "Great Expectations: 20 entries of 3 days, " in told
    assert "20 entries of 3 commits computed anew, 0 findings" in told
    assert "All agree. 20 entries" in told
    assert "Traceback" not in done.stderr
    assert processes_of(tmp_path) == []
    assert (tmp_path / ".demo" / MARK).exists()


def test_without_an_input_it_says_that_its_swarm_is_made_up(tmp_path: Path) -> None:
    done = run_demo(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "a generated swarm: made up" in done.stdout
    assert "All agree." in done.stdout
    assert number(done.stdout, "entries in Redis") >= GENERATED_ENTRIES
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("part", "lines", "entries", "passed_over"),
    [("events", 7548, 7548, 0), ("raw/cclog", 588, 419, 173)],
)
def test_its_totals_are_those_of_the_real_files(
    tmp_path: Path, realdata: Path, part: str, lines: int, entries: int, passed_over: int
) -> None:
    done = run_demo(tmp_path, str(realdata / part))

    told = done.stdout
    assert done.returncode == 0, told + done.stderr
    assert number(told, "input") == lines
    assert f"{lines - passed_over:,} gave entries, {passed_over} were passed over" in told
    assert number(told, "entries in Redis") == entries
    still_open = number(told, "days not over yet")
    assert number(told, "entries in the lake") == entries - still_open
    assert f"All agree. {entries:,} entries" in told


def test_numbers_that_do_not_agree_are_told_and_fail_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The import loses an entry behind the demo's back."""

    def bring_in_all_but_one(place: Workplace, source: Source) -> None:
        for n, draft in enumerate(source.drafts()):
            if n != 3:
                place.auditor.sync.record(**draft.arguments())
        place.auditor.sync.flush_all(60)

    monkeypatch.setenv("AUDIT_EMBEDDER", "none")
    monkeypatch.setattr(intake, "bring_in", bring_in_all_but_one)
    home = tmp_path / "demo"

    assert main(["--home", str(home), "demo", str(events(tmp_path, 10))]) == 1

    told = capsys.readouterr().out
    assert "numbers do not agree:" in told
    assert "entries in Redis, against the input: 9 instead of 10" in told
    assert "All agree" not in told


def test_a_folder_that_no_demo_made_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "mine" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")

    assert main(["--home", str(kept.parent), "demo", str(events(tmp_path, 1))]) == 1

    assert kept.read_text() == "years of work"
    assert "is not a demo's folder and is left alone" in capsys.readouterr().err


def test_an_input_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path / "demo"), "demo", str(tmp_path / "gone")]) == 1
    assert "gone is not there" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
