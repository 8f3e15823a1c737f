"""`claude-audit watch` as its user sees it: in a pseudo-terminal, against a real Redis and lake."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from audit_flows.cli import main
from audit_flows.commands.status import JOBS
from audit_flows.watch.frame import MIDDLE_LINES
from audit_flows.watch.panels import sparkline
from audit_storage.jobs import JobRecord, JobTable
from audit_storage.lake.lake import Lake
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import Settings
from cold_trail import archive
from shell import without_size

MakeEntry = Callable[..., AuditEntry]
SECONDS = 60.0
"""How long anything may take on a busy machine before the test says that it never came."""
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>])")
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
"""What begins and ends a terminal's other screen, on which the view is drawn."""


class Window:
    """A pseudo-terminal with the command in it."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.sent = ""
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def wait_for(self, words: str, since: int = 0) -> str:
        """Read until the words stand on the screen; returns what came, without its colours."""
        until = monotonic() + SECONDS
        while words not in (seen := plain(self.sent[since:])):
            assert monotonic() < until, f"{words!r} is not in {seen[-3000:]}"
            assert self._read(), f"{words!r} never came: {seen[-3000:]}"
        return seen

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def resize(self, columns: int, lines: int) -> None:
        resize(self._terminal, columns, lines)

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], SECONDS)
        assert ready, f"nothing came: {plain(self.sent)[-3000:]}"
        try:
            data = os.read(self._terminal, 65_536)
        except OSError:  # What Linux says when the other end is closed.
            return False
        self.sent += self._decoder.decode(data)
        return bool(data)


def resize(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def plain(text: str) -> str:
    return _SEQUENCE.sub("", text)


@contextmanager
def watching(
    settings: Settings, *arguments: str, columns: int = 120, lines: int = 40, **place: str
) -> Iterator[Window]:
    ours, theirs = pty.openpty()
    resize(theirs, columns, lines)
    before = termios.tcgetattr(ours)
    where = {"AUDIT_HOME": str(settings.home), "AUDIT_REDIS_URL": str(settings.redis_url)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "audit_flows.cli", "watch", *arguments],
        env={**without_size(os.environ), "TERM": "xterm-256color", **where, **place},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)  # So that its end is seen when the process has gone.
    try:
        yield Window(process, ours)
        assert termios.tcgetattr(ours) == before  # Echo and lines are as they were.
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def hot(settings: Settings) -> Iterator[HotStore]:
    assert settings.redis_url is not None
    hot = HotStore.connect(settings.redis_url)
    yield hot
    hot.close()


def keep(hot: HotStore, *entries: AuditEntry) -> None:
    hot.append_batch([Stamped(entry, entry.canonical_bytes()) for entry in entries])


def test_it_shows_the_trail_and_what_is_new(
    settings: Settings, hot: HotStore, make_entry: MakeEntry
) -> None:
    now = datetime.now(UTC)
    archive(Lake(settings), [make_entry(timestamp=now - timedelta(days=40)) for _ in range(1234)])
    JobTable(settings).record(
        JobRecord("verify", now, now, "failed", error="1 finding"),
    )
    keep(hot, make_entry(timestamp=now - timedelta(minutes=5), content="Look at the build."))
    with watching(settings, "--interval", "0.5") as window:
        window.wait_for("Look at the build.")
        window.wait_for("Newest of 1,235 entries")
        window.wait_for("│ 1,234 entries")
        seen = window.wait_for("ago, never succeeded")
        assert re.search(r"verify +failed +\d+ s ago, never succeeded", seen)
        window.wait_for("reindex")  # The last of those that leave rows in the job table.
        window.wait_for("│ none ")
        alarm = {"event_type": "context_poisoning", "details": {}}
        keep(
            hot,
            make_entry(
                entry_type="security_event",
                severity="critical",
                timestamp=datetime.now(UTC),
                metadata=alarm,
            ),
        )
        window.wait_for("Critical, last hour: 1")
        window.wait_for("context_poisoning")
        window.type(b"q")
        assert window.end() == 0
        assert window.sent.count(ENTER) == window.sent.count(LEAVE) == 1
        assert window.sent.rindex(LEAVE) > window.sent.rindex("Newest")


@pytest.mark.parametrize("way", ["ctrl-c", "SIGTERM"])
def test_it_ends_cleanly_however_it_is_ended(settings: Settings, way: str) -> None:
    with watching(settings) as window:
        window.wait_for("no entries")
        if way == "ctrl-c":
            window.type(b"\x03")
        else:
            window.process.send_signal(signal.SIGTERM)
        assert window.end() == 0
        assert LEAVE in window.sent
        assert "Traceback" not in window.sent


def test_it_takes_the_window_s_new_size(
    settings: Settings, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, *(make_entry(content=f"number {n}.") for n in range(40)))
    with watching(settings, columns=100, lines=30) as window:
        seen = window.wait_for("number 39.")
        assert "╭─ Newest of 40 entries " + "─" * 75 + "╮" in seen
        since = len(window.sent)
        window.resize(70, 20)
        seen = window.wait_for("╭─ Newest of 40 entries " + "─" * 45 + "╮", since)
        assert "0 critical in the last hour" in seen
        window.type(b"q")
        assert window.end() == 0


def test_stores_that_are_away_are_shown(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lake = str(tmp_path / "file")
    with watching(settings, AUDIT_REDIS_URL="redis://127.0.0.1:1", AUDIT_LAKE_URI=lake) as window:
        seen = window.wait_for("not all could be asked")
        assert re.search(r"│ does not answer +││ does not answer ", seen)
        assert "none seen; not all could be asked" in seen
        assert "! Redis at 127.0.0.1:1" in window.wait_for("! Redis")
        window.type(b"q")
        assert window.end() == 0
        assert "Traceback" not in window.sent
        assert "WARNING" not in window.sent


def test_text_of_entries_cannot_act_on_the_terminal(
    settings: Settings, hot: HotStore, make_entry: MakeEntry
) -> None:
    keep(hot, make_entry(content="\x1b[2Jgone\x07 [bold]plain[/bold]", to_agent="agent_b"))
    with watching(settings) as window:
        seen = window.wait_for("plain")
        assert r"\x1b[2Jgone\x07 [bold]plain[/bold]" in seen
        assert "\x1b[2Jgone" not in window.sent
        window.type(b"q")
        assert window.end() == 0


class Piped:
    """The command with its output in a pipe."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self._place = ("--home", str(settings.home), "--redis-url", str(settings.redis_url))
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> str:
        assert main(["watch", *self._place, *arguments]) == code
        return self._capsys.readouterr().out


@pytest.fixture
def piped(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Piped:
    return Piped(settings, capsys)


@pytest.mark.parametrize("arguments", [("--once",), ()])
def test_a_pipe_gets_one_frame_without_colour(
    piped: Piped, hot: HotStore, make_entry: MakeEntry, arguments: tuple[str, ...]
) -> None:
    keep(hot, make_entry(content="Look at the build."))
    told = piped.run(*arguments)
    assert "Look at the build." in told
    assert "\x1b" not in told
    assert "quits" not in told
    assert {len(line) for line in told.splitlines()[1:]} == {100}


def test_a_frame_of_a_trail_that_is_away_names_why(piped: Piped) -> None:
    told = piped.run("--once", "--redis-url", "redis://127.0.0.1:1", code=1)
    assert "! Redis" in told
    assert "127.0.0.1:1" in told


def test_watching_starts_no_redis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "new"
    assert main(["watch", "--home", str(home), "--once"]) == 1
    assert "does not answer" in capsys.readouterr().out
    assert not (home / "redis" / "redis.sock").exists()


def test_an_interval_that_is_none_is_wrong_use(piped: Piped) -> None:
    piped.run("--interval", "0", code=2)


def test_there_is_a_line_for_each_job() -> None:
    assert len(JOBS) + 2 == MIDDLE_LINES


def test_bars_go_by_the_highest() -> None:
    assert sparkline([0.0, 1.0, 7.0, 3.5]) == "▁▂█▅"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""
