"""The command line's own part: help, wrong use, suggestions, exit codes, times, safe output."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.text import Text

from audit_flows import cli
from audit_flows.amounts import counted, size
from audit_flows.cli import COMMANDS, main
from audit_flows.moments import parse_moment
from audit_flows.terminal import PIPED_WIDTH, Terminal, one_line, printable

NOW = datetime(2025, 11, 30, 12, 0, tzinfo=UTC)
HEAVY = (
    "prefect",
    "chromadb",
    "great_expectations",
    "polars",
    "pyarrow",
    "deltalake",
    "onnxruntime",
    "pandas",
    "numpy",
)


def run_cli(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "audit_flows.cli", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in told
        assert command.summary in told
    assert "examples:" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    told = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"claude-audit {name}" in told.split("examples:")[1]
    assert "--home FOLDER" in told


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from audit_flows.cli import main; main([]);"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]; assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    script = (
        f"import sys, importlib; from audit_flows.cli import COMMANDS; name = {name!r};"
        "importlib.import_module('audit_flows.commands.' + COMMANDS[name].module);"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]; assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_met_with_the_nearest_one() -> None:
    done = run_cli("serach")
    assert done.returncode == 2
    assert "did you mean 'search'?" in done.stderr
    done = run_cli("zzz")
    assert done.returncode == 2
    assert "known are " in done.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["search", "--severity", "huge"], "'low', 'medium', 'high', 'critical'"),
        (["search", "--since", "soon"], "not a time; the forms are"),
        (["search", "--since", "2025-02-02", "--until", "2025-01-01"], "runs backwards"),
        (["search", "--citation", "if://x"], "not a citation"),
        (["search", "--limit", "-1"], "must not be negative"),
        (["search", "a", "--text", "b"], "not both"),
        (["log", "message", "--from", "a", "--metadata", "[1]", "x"], "must be a JSON object"),
        (["log", "message", "--from", "a", "--metadata", "{", "x"], "is not JSON"),
        (["log", "message", "--from", "a", "--timestamp", "noon", "x"], "2025-11-30T14:00:00Z"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_wrong_use_is_told_with_the_remedy(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    try:
        code = main([*args, "--home", str(tmp_path / "home")])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_failures_are_one_line_without_a_traceback(tmp_path: Path) -> None:
    in_the_way = tmp_path / "home"
    in_the_way.write_text("a file where the folder should be")
    done = run_cli("metrics", "--home", str(in_the_way))
    assert done.returncode == 1
    assert done.stderr.startswith("claude-audit: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_options_stand_before_or_after_the_command(tmp_path: Path) -> None:
    told = [
        run_cli("--home", str(tmp_path), "redis", "url").stdout,
        run_cli("redis", "url", "--home", str(tmp_path)).stdout,
    ]
    assert told[0] == told[1] == f"unix://{tmp_path}/redis/redis.sock\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    piped = f"{sys.executable} -m audit_flows.cli redis url | true"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True)
    assert done.stderr == ""


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"{cli.PROGRAM} 0.")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("today", date(2025, 11, 30)),
        ("yesterday", date(2025, 11, 29)),
        ("2025-01-31", date(2025, 1, 31)),
        ("90m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2025-11-30T14:00+02:00", NOW),
        ("2025-11-30T12:00", NOW),
    ],
)
def test_times_are_taken_as_people_type_them(text: str, moment: date) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "7", "d", "2025-13-01", "999999w", "2025-11-30T25:00"])
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="the forms are 2025-11-30"):
        parse_moment(text, NOW)


def test_text_from_entries_cannot_act_on_the_terminal() -> None:
    out = io.StringIO()
    hostile = "\x1b[2Jcleared\x07 \u202eesrever [bold]markup[/bold] \x9b31m"
    Terminal(out=out).show(hostile)
    assert "\x1b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    shown = "\\x1b[2Jcleared\\x07 \\x202eesrever [bold]markup[/bold] \\x9b31m"
    assert out.getvalue() == f"{shown}\n"
    assert printable(hostile) == shown


def test_without_a_terminal_lines_are_wide_and_plain() -> None:
    out = io.StringIO()
    terminal = Terminal(out=out)
    assert terminal.width == PIPED_WIDTH
    terminal.show(Text("x " + "y" * 90, style="red"))
    assert out.getvalue() == "x " + "y" * 90 + "\n"


def test_json_mode_prints_nothing_else() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(as_json=True, out=out, err=err)
    terminal.show("for people")
    terminal.remark("by the way")
    terminal.json({"ok": "zwölf"})
    assert out.getvalue() == '{\n  "ok": "zwölf"\n}\n'
    assert err.getvalue() == ""


def test_numbers_read_well() -> None:
    assert [counted(n, "entry") for n in (0, 1, 1376)] == ["0 entries", "1 entry", "1,376 entries"]
    assert counted(2, "day") == "2 days"
    assert [size(n) for n in (812, 2_100_000)] == ["812 B", "2.1 MB"]
    assert one_line("a\n  b" + "c" * 100, 10) == "a bcccccc…"
