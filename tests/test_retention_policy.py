"""A policy's file says how long what is kept; the purge follows it to the day, or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit_storage.lake.lake import Lake
from audit_storage.purge.plan import plan_purge
from audit_storage.purge.policy import PolicyRule, RetentionPolicy, Term
from audit_storage.purge.policy_file import PolicyFileError, load_policy, policy_of
from audit_storage.purge.purge import execute_purge
from audit_storage.purge.receipts import ReceiptBook
from audit_storage.purge.retention import retention_deadline
from claude_max_audit.entry import AuditEntry
from claude_max_audit.settings import Settings
from cold_trail import archive, stored

EntryMaker = Callable[..., AuditEntry]
NOW = datetime(2025, 11, 30, 3, tzinfo=UTC)
DAY = timedelta(days=1)

FILE = """\
# What we keep, and how long.
default_years = 5

[[rule]]
entry_type = "performance_metric"
years = 1

[[rule]]
entry_type = ["security_event", "decision"]
permanent = true

[[rule]]
swarm_id = "build"
days = 200
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "retention.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_is_read_as_it_stands(written: Callable[[str], Path]) -> None:
    path = written(FILE)
    assert load_policy(path, 7) == RetentionPolicy(
        Term(years=5),
        (
            PolicyRule(Term(years=1), ("performance_metric",)),
            PolicyRule(Term(), ("security_event", "decision")),
            PolicyRule(Term(days=200), (), ("build",)),
        ),
        str(path),
    )


def test_without_a_default_or_a_file_the_settings_years_hold(
    settings: Settings, written: Callable[[str], Path]
) -> None:
    assert load_policy(written(""), 7).default == Term(years=7)
    assert policy_of(settings) == RetentionPolicy(Term(years=7))
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "retention.toml").write_text(FILE)
    assert policy_of(settings).default == Term(years=5)
    assert len(policy_of(settings).rules) == 3


@pytest.mark.parametrize(
    ("text", "line", "named", "reason"),
    [
        ("default_years = 7\n[[rule]]\nyears = 0\n", 3, "rule 1.years", "below the floor"),
        ("default_years = 0", 1, "default_years", "below the floor"),
        ("[[rule]]\nyears = 1\n[[rule]]\ndays = 182", 4, "rule 2.days", "183"),
        ("[[rule]]\nyears = -3", 2, "rule 1.years", "below the floor"),
        ("[[rule]]\nyears = 1.5", 2, "rule 1.years", "whole number"),
        ("[[rule]]\nyears = true", 2, "rule 1.years", "whole number"),
        ("default_years = '7'", 1, "default_years", "whole number"),
        ("[[rule]]\nyears = 10000", 2, "rule 1.years", "permanent = true"),
        ("[[rule]]\nyears = 1\ndays = 400", 3, "rule 1.days", "years and days"),
        ("\n[[rule]]\nentry_type = 'message'", 2, "rule 1", "nothing of how long"),
        ("[[rule]]\npermanent = false", 2, "rule 1.permanent", "not true"),
        ("[[rule]]\nyears = 1\nentry_type = 'mesage'", 3, "rule 1.entry_type", "context_access"),
        ("[[rule]]\nyears = 1\nentry_type = []", 3, "rule 1.entry_type", "names nothing"),
        ("[[rule]]\nyears = 1\nswarm_id = ['']", 3, "rule 1.swarm_id", "names nothing"),
        ("[[rule]]\nyears = 1\nswarm = 'x'", 3, "rule 1.swarm", "known are entry_type"),
        ("defualt_years = 7", 1, "defualt_years", "known are default_years, rule"),
        ("[rule]\nyears = 7", 1, "rule", r"\[\[rule\]\]"),
        ("default_years = \n", 1, "", "mend the line"),
        ("default_years = 7\n[[rule]\n", 2, "", "mend the line"),
    ],
)
def test_a_file_that_cannot_be_followed_names_line_key_and_remedy(
    written: Callable[[str], Path], text: str, line: int, named: str, reason: str
) -> None:
    path = written(text)
    with pytest.raises(PolicyFileError, match=reason) as refused:
        load_policy(path, 7)
    assert (refused.value.path, refused.value.line, refused.value.key) == (path, line, named)
    assert str(refused.value).startswith(f"{path}:{line}:{f' {named}:' if named else ''}")
    assert "Nothing is purged" in str(refused.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyFileError, match="UTF-8"):
        load_policy(path, 7)
    with pytest.raises(PolicyFileError, match="cannot be read"):
        load_policy(tmp_path, 7)


def test_a_broken_file_stops_every_purge(settings: Settings, make_entry: EntryMaker) -> None:
    lake = Lake(settings)
    archive(lake, [make_entry(timestamp=NOW - 3000 * DAY)])
    (settings.home / "retention.toml").write_text("[[rule]]\nyears = 0\n")
    with pytest.raises(PolicyFileError):
        plan_purge(lake, NOW, policy=policy_of(settings))
    assert lake.count() == 1


POLICIES = [
    RetentionPolicy(Term(years=7)),
    RetentionPolicy(Term(years=3), (PolicyRule(Term(years=1), ("message",)),)),
    RetentionPolicy(
        Term(years=2),
        (
            PolicyRule(Term(years=4), ("message", "decision"), ("red",)),
            PolicyRule(Term(years=1), ("message",)),
            PolicyRule(Term(), ("decision",), ("blue",)),
            PolicyRule(Term(days=183), (), ("green",)),
        ),
    ),
    RetentionPolicy(Term(), (PolicyRule(Term(years=1), (), ("red", "green")),)),
]


def due(policy: RetentionPolicy, entry: AuditEntry, now: datetime) -> bool:
    """The rule told again in plain words: the longest that matches, else the default."""
    terms = [
        rule.term
        for rule in policy.rules
        if (not rule.entry_types or entry.entry_type in rule.entry_types)
        and (not rule.swarm_ids or {entry.swarm_id, *entry.swarm_ids} & {*rule.swarm_ids})
    ] or [policy.default]
    if entry.retention == "permanent":
        return False
    return all(_over(term, entry.timestamp, now) for term in terms)


def _over(term: Term, moment: datetime, now: datetime) -> bool:
    if term.years is not None:
        return retention_deadline(moment, term.years) < now
    return term.days is not None and moment + term.days * DAY < now


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_what_goes_is_what_the_policy_says_entry_by_entry(
    number: int, settings: Settings, make_entry: EntryMaker
) -> None:
    policy, chance = POLICIES[number], random.Random(number)
    edges = [NOW.replace(year=NOW.year - years) for years in (1, 2, 3, 4, 7)] + [NOW - 183 * DAY]
    entries = [
        make_entry(
            timestamp=chance.choice(edges) + chance.choice([-1, 0, 1]) * timedelta(microseconds=1),
            entry_type=chance.choice(["message", "decision", "context_access"]),
            swarm_id=(swarm := chance.choice(["red", "blue", "green", "unknown"])),
            swarm_ids=tuple(dict.fromkeys([swarm, chance.choice(["red", "blue", swarm])])),
            retention=chance.choice(["standard"] * 5 + ["permanent"]),
        )
        for _ in range(120)
    ]
    lake = Lake(settings)
    archive(lake, entries)
    expected = {entry.entry_id for entry in entries if due(policy, entry, NOW)}
    assert expected
    plan = plan_purge(lake, NOW, policy=policy)
    assert plan.rows == len(expected)
    receipt = execute_purge(lake, ReceiptBook(settings), None, None, plan, NOW, by="test")
    assert stored(lake) == {entry.entry_id for entry in entries} - expected
    assert receipt is not None
    assert (receipt.rows, receipt.policy) == (len(expected), str(policy))
    assert receipt.terms == policy.terms
    assert receipt.policy_sha256 == policy.sha256


def test_the_hash_is_of_what_is_said_and_not_of_how(written: Callable[[str], Path]) -> None:
    one = load_policy(written(FILE), 7)
    rules = FILE.split("[[rule]]")
    other = load_policy(written("[[rule]]".join([rules[0], *reversed(rules[1:])]) + "# more\n"), 7)
    assert one.sha256 == other.sha256
    assert one.sha256 != load_policy(written(FILE.replace("200", "201")), 7).sha256


def test_days_of_a_call_take_the_default_s_place_and_shorten_no_rule(
    settings: Settings, make_entry: EntryMaker
) -> None:
    lake = Lake(settings)
    entries = {
        name: make_entry(timestamp=NOW - days * DAY, entry_type=kind)
        for name, days, kind in [
            ("plain, older", 301, "message"),
            ("plain, younger", 299, "message"),
            ("metric, past both", 366, "performance_metric"),
            ("metric, past the days", 301, "performance_metric"),
            ("short, past its rule", 250, "decision"),
        ]
    }
    archive(lake, entries.values())
    policy = RetentionPolicy(
        Term(years=7),
        (
            PolicyRule(Term(years=1), ("performance_metric",)),
            PolicyRule(Term(days=200), ("decision",)),
        ),
    )
    plan = plan_purge(lake, NOW, policy=policy.for_days(300))
    assert plan.policy == "older than 300 days, 2 rules apart"
    execute_purge(lake, ReceiptBook(settings), None, None, plan, NOW, by="test")
    left = stored(lake)
    assert {name for name, entry in entries.items() if entry.entry_id in left} == {
        "plain, younger",
        "metric, past the days",
        "short, past its rule",
    }
    with pytest.raises(ValueError, match="MIN_RETENTION_DAYS"):
        plan_purge(lake, NOW, policy=policy.for_days(182))
