"""The commands of retention, run for real: holds, the policy, the quarantine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_flows.cli import main
from audit_storage.archive.archive import archive_closed_days
from audit_storage.archive.quarantine import Quarantine, Rejected
from audit_storage.lake.lake import Lake
from audit_storage.purge.holds import HoldBook
from audit_storage.purge.plan import plan_purge
from claude_max_audit.entry import AuditEntry
from claude_max_audit.hot.store import HotStore, Stamped
from claude_max_audit.settings import Settings
from cold_trail import archive

MakeEntry = Callable[..., AuditEntry]
NOW = datetime.now(UTC)
OLD = datetime(2016, 2, 29, 12, tzinfo=UTC)


class Shell:
    """A shell whose environment names one trail."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def run(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        try:
            ended: object = main(arguments)
        except SystemExit as stopped:
            ended = stopped.code
        assert ended == code, self._capsys.readouterr()
        told = self._capsys.readouterr()
        self.err = told.err
        return told.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture
def shell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    assert settings.redis_url is not None
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))
    monkeypatch.setenv("AUDIT_REDIS_URL", settings.redis_url)
    return Shell(capsys)


@pytest.fixture
def old(settings: Settings, make_entry: MakeEntry) -> list[AuditEntry]:
    """Four entries that are past their retention, of two swarms."""
    entries = [
        make_entry(timestamp=OLD + timedelta(minutes=n), swarm_id="red" if n % 2 else "blue")
        for n in range(4)
    ]
    archive(Lake(settings), entries)
    return entries


def test_a_hold_is_placed_listed_shown_and_released(
    shell: Shell, settings: Settings, old: list[AuditEntry]
) -> None:
    placed = shell.json(
        "hold", "place", "--swarm", "red", "--until", "2020-01-01",
        "--reason", "case 17", "--by", "counsel",
    )  # fmt: skip
    assert (placed["placed_by"], placed["reason"], placed["entries"]) == ("counsel", "case 17", 2)
    assert placed["query"] == {"swarm_id": "red", "end": "2020-01-01T23:59:59.999999+00:00"}
    [held] = plan_purge(Lake(settings), NOW, years=7).held
    assert (held.hold_id, held.rows) == (placed["hold_id"], 2)

    begun = placed["hold_id"][:8]
    told = shell.run("hold", "list")
    assert begun in told
    assert "swarm_id red, until 2020-01-01" in told
    assert "1 active hold, 0 released" in told
    assert "2 entries in the lake now" in shell.run("hold", "show", begun)

    assert "settled" in shell.run("hold", "release", begun, "--reason", "settled", "--by", "judge")
    assert "0 active holds, 1 released" in shell.run("hold", "list")
    [released] = shell.json("hold", "list", "--all")
    assert (released["released_by"], released["release_reason"]) == ("judge", "settled")
    assert "none any more; 2 match" in shell.run("hold", "show", begun)
    assert plan_purge(Lake(settings), NOW, years=7).rows == 4


def test_a_hold_of_everything_must_be_said(shell: Shell, settings: Settings) -> None:
    shell.run("hold", "place", "--reason", "case 17", code=2)
    assert "nothing says what to hold" in shell.err
    shell.run("hold", "place", "--everything", "--swarm", "red", "--reason", "x", code=2)
    assert "leave it or the filters out" in shell.err
    assert HoldBook(settings).holds() == []
    assert shell.json("hold", "place", "--everything", "--reason", "x")["query"] == {}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("place", "--swarm", "red"), 2, "--reason"),
        (("place", "--swarm", "red", "--reason", " "), 2, "--reason is empty"),
        (("place", "--swarm", "red", "--reason", "x", "--by", ""), 2, "--by is empty"),
        (("place", "--since", "2025-01-02", "--until", "2025-01-01", "--reason", "x"), 2, "back"),
        (("place", "--text", "words", "--reason", "x"), 2, "--text"),
        (("release", "no-such-hold", "--reason", "x"), 1, "there is no hold 'no-such-hold'"),
        (("show", ""), 1, "there is no hold ''"),
        ((), 2, "ACTION"),
    ],
)
def test_what_cannot_be_held_is_told(
    shell: Shell, settings: Settings, arguments: tuple[str, ...], code: int, told: str
) -> None:
    shell.run("hold", *arguments, code=code)
    assert told in shell.err
    assert HoldBook(settings).holds() == []


def test_a_hold_is_released_once_and_by_a_name_that_fits_one(shell: Shell) -> None:
    ids = [shell.json("hold", "place", "--agent", "a", "--reason", "x")["hold_id"] for _ in "ab"]
    shell.run("hold", "release", ids[0], "--reason", "over")
    shell.run("hold", "release", ids[0], "--reason", "over", code=1)
    assert f"hold {ids[0]} was released on" in shell.err
    assert shell.json("hold", "show", ids[1])["released_at"] is None


def test_a_hold_keeps_what_redis_alone_has_and_would_let_go(
    shell: Shell, settings: Settings, make_entry: MakeEntry
) -> None:
    assert settings.redis_url is not None
    alone = HotStore.connect(settings.redis_url, keeps_until_archived=False)
    yesterday = NOW - timedelta(days=1)
    held, other = (make_entry(timestamp=yesterday, swarm_id=swarm) for swarm in ("red", "blue"))
    alone.append_batch([Stamped(one, one.canonical_bytes()) for one in (held, other)])
    placed = shell.json("hold", "place", "--swarm", "red", "--reason", "case 17")
    assert placed["kept_in_redis"] == 1
    assert _expires(alone, held.entry_id) is False
    assert _expires(alone, other.entry_id) is True
    assert shell.json("hold", "place", "--swarm", "red", "--reason", "again")["kept_in_redis"] == 0
    # Whoever comes before the other expires finds both by the day's own set.
    archive_closed_days(Lake(settings), alone, Quarantine(settings), NOW)
    assert Lake(settings).count() == 2
    alone.close()


def _expires(hot: HotStore, entry_id: str) -> bool:
    [left] = hot._link.ask([("TTL", f"audit:entry:{entry_id}")])
    return bool(left > 0)


POLICY = """\
default_years = 7

[[rule]]
entry_type = "performance_metric"
swarm_id = ["build", "review"]
days = 200

[[rule]]
swarm_id = "red"
permanent = true
"""


def test_the_policy_says_what_is_kept_and_from_when_it_is_due(
    shell: Shell, settings: Settings
) -> None:
    assert shell.json("policy")["source"] is None
    settings.home.mkdir(exist_ok=True)
    file = settings.home / "retention.toml"
    file.write_text(POLICY)
    told = shell.json("policy")
    assert (told["source"], told["floor_days"]) == (str(file), 183)
    assert told["default"]["keep"] == "7 calendar years"
    assert [rule["keep"] for rule in told["rules"]] == ["200 days", "for ever"]
    assert told["rules"][1]["due_before"] is None
    shown = shell.run("policy")
    assert "200 days" in shown
    assert "never" in shown


@pytest.mark.parametrize(
    ("asked", "kept", "rule", "until"),
    [
        (("--type", "decision", "--at", "2024-02-29"), "7 calendar years", None, "2031-03-01"),
        (("--type", "decision", "--at", "2020-02-28"), "7 calendar years", None, "2027-02-28"),
        (("--swarm", "red", "--at", "2024-02-29"), "for ever", 2, None),
        (("--type", "performance_metric", "--swarm", "build", "--at", "2025-12-31"),
         "200 days", 1, "2026-07-19"),
        (("--type", "performance_metric", "--swarm", "build", "--swarm", "red"), "for ever", 2,
         None),
    ],
)  # fmt: skip
def test_the_policy_answers_for_one_entry(
    shell: Shell, tmp_path: Path, asked: tuple[str, ...], kept: str, rule: int | None,
    until: str | None,
) -> None:  # fmt: skip
    file = tmp_path / "draft.toml"
    file.write_text(POLICY)
    answer = shell.json("policy", "--check", str(file), *asked)["entry"]
    assert (answer["kept"], answer["rule"]) == (kept, rule)
    assert answer["until"] == (None if until is None else f"{until}T00:00:00+00:00")


def test_a_policy_below_the_floor_is_refused_with_its_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "draft.toml"
    file.write_text(POLICY.replace("200", "182"))
    shell.run("policy", "--check", str(file), code=1)
    assert f"{file}:6: rule 1.days: 182 is below the floor" in shell.err
    shell.run("policy", "--at", "soon", code=2)
    assert "--at: 'soon' is not a time" in shell.err


@pytest.fixture
def rejected(settings: Settings) -> list[Rejected]:
    day = date(2025, 11, 30)
    told = [
        Rejected(day, "an-id", "entry_hash does not agree", b'{"entry_id":"an-id"}', NOW),
        Rejected(day + timedelta(days=1), None, "it cannot be read", b"\xff\x1b[2J", NOW),
    ]
    quarantine = Quarantine(settings)
    for one in told:
        quarantine.add(one.day, [one])
    return quarantine.list()


def test_the_quarantine_is_listed_and_shown(shell: Shell, rejected: list[Rejected]) -> None:
    told = shell.run("quarantine")
    assert all(one.reason in told and one.text_hash[:12] in told for one in rejected)
    assert "2 entries in quarantine" in told
    assert "1 entry in quarantine" in shell.run("quarantine", "list", "--day", "2025-11-30")
    assert [one["entry_id"] for one in shell.json("quarantine", "--day", "2025-11-30", "list")] == [
        "an-id"
    ]
    shown = shell.run("quarantine", "show", rejected[1].text_hash[:12])
    assert "\x1b" not in shown
    assert "it cannot be read" in shown
    assert shell.json("quarantine", "show", "an-id")["text"] == '{"entry_id":"an-id"}'
    shell.run("quarantine", "show", "other", code=1)
    assert "nothing in quarantine is named 'other'" in shell.err


def test_the_quarantine_is_exported_byte_for_byte(
    shell: Shell, rejected: list[Rejected], tmp_path: Path
) -> None:
    file = tmp_path / "bad.jsonl"
    assert shell.json("quarantine", "export", "-o", str(file))["rows"] == 2
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [base64.b64decode(line["base64"]) for line in lines] == [one.text for one in rejected]
    assert [line["text"] for line in lines] == ['{"entry_id":"an-id"}', None]
    assert shell.run("quarantine", "export") == file.read_text()
    shell.run("quarantine", "export", "-o", str(file), code=1)
    assert "exists" in shell.err


def test_an_empty_quarantine_says_so(shell: Shell) -> None:
    assert "nothing is in quarantine" in shell.run("quarantine")
    assert shell.json("quarantine") == []
