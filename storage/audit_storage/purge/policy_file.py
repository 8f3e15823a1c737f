"""The retention policy's file: read, checked to the last key, refused with the line and the remedy.

`{home}/retention.toml`, in TOML:

    default_years = 7

    [[rule]]
    entry_type = "performance_metric"    # or a list; left out: every type
    swarm_id = ["build", "review"]       # or one; left out: every swarm
    years = 1                            # or: days = 200, or: permanent = true

A file that would let anything go before it is 183 days old is refused, and so is one that says
something nobody knows: a rule that is not understood must not be passed over.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from audit_storage.purge.policy import PolicyRule, RetentionPolicy, Term
from claude_max_audit.errors import TerminalError
from claude_max_audit.settings import MIN_RETENTION_DAYS, Settings
from claude_max_audit.vocabulary import AuditEntryType

POLICY_FILE = "retention.toml"
"""Name of the policy's file in the trail's home."""

_TYPES = tuple(kind.value for kind in AuditEntryType)
_TERMS = ("years", "days", "permanent")
_RULE_KEYS = ("entry_type", "swarm_id", *_TERMS)
_MOST_YEARS = 9_998


class PolicyFileError(TerminalError):
    """A policy's file cannot be followed; nothing is purged until it is mended."""

    def __init__(self, path: Path, line: int | None, key: str, reason: str, remedy: str) -> None:
        self.path = path
        self.line = line
        self.key = key
        at = f"{path}:{line}" if line else str(path)
        named = f" {key}:" if key else ""
        super().__init__(f"{at}:{named} {reason}; {remedy}. Nothing is purged until it is mended.")


def policy_of(settings: Settings, older_than_days: int | None = None) -> RetentionPolicy:
    """Return the policy of `{home}/retention.toml`, or the settings' years where there is none.

    With `older_than_days` these take the default's place. Raises `PolicyFileError`.
    """
    path = settings.home / POLICY_FILE
    if path.exists():
        policy = load_policy(path, settings.cold_storage_years)
    else:
        policy = RetentionPolicy(Term(years=settings.cold_storage_years))
    return policy if older_than_days is None else policy.for_days(older_than_days)


def load_policy(path: Path, default_years: int) -> RetentionPolicy:
    """Read and check a policy's file; `default_years` holds where the file names no default.

    Raises `PolicyFileError`, which names the file, the line, the key and the remedy.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise PolicyFileError(
            path, None, "", f"it cannot be read ({unreadable})", "make it a readable UTF-8 file"
        ) from unreadable
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as broken:
        found = re.search(r"\(at line (\d+)", str(broken))
        line = int(found[1]) if found else None
        raise PolicyFileError(path, line, "", f"no TOML ({broken})", "mend the line") from broken
    return _PolicyFile(path, text, told).policy(default_years)


class _PolicyFile:
    """One file while it is checked; knows the line of every key."""

    def __init__(self, path: Path, text: str, told: Mapping[str, Any]) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._told = told

    def policy(self, default_years: int) -> RetentionPolicy:
        self._refuse_unknown(self._told, ("default_years", "rule"), None)
        default = Term(years=self._whole("default_years", default_years, None))
        rules = self._told.get("rule", [])
        if not isinstance(rules, list) or not all(isinstance(one, dict) for one in rules):
            self._refuse("rule", None, "rules are not a list", "begin each rule with [[rule]]")
        checked = tuple(self._rule(rule, number) for number, rule in enumerate(rules))
        return RetentionPolicy(default, checked, str(self._path))

    def _rule(self, rule: Mapping[str, Any], number: int) -> PolicyRule:
        self._refuse_unknown(rule, _RULE_KEYS, number)
        types = self._words(rule, "entry_type", number)
        for word in types:
            if word not in _TYPES:
                known = f"known are {', '.join(_TYPES)}"
                self._refuse("entry_type", number, f"{word!r} is no entry type", known)
        return PolicyRule(self._term(rule, number), types, self._words(rule, "swarm_id", number))

    def _term(self, rule: Mapping[str, Any], number: int) -> Term:
        given = [key for key in _TERMS if key in rule]
        if len(given) != 1:
            what = f"it has {' and '.join(given)}" if given else "it says nothing of how long"
            self._refuse(given[1] if given else "", number, what, f"give one of {_either(_TERMS)}")
        if given == ["years"]:
            return Term(years=self._whole("years", rule["years"], number))
        if given == ["days"]:
            return Term(days=self._whole("days", rule["days"], number))
        if rule["permanent"] is not True:
            self._refuse("permanent", number, "it is not true", "give true, or years instead")
        return Term()

    def _whole(self, key: str, default: Any, number: int | None) -> int:
        value = self._told.get(key, default) if number is None else default
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(key, number, f"{value!r} is no whole number", "give a whole number")
        least, most = (MIN_RETENTION_DAYS, 10**6) if key == "days" else (1, _MOST_YEARS)
        if value < least:
            floor = f"nothing may go before it is {MIN_RETENTION_DAYS} days old"
            remedy = f"give {least} or more"
            if key != "days":
                remedy += f", or `days = {MIN_RETENTION_DAYS}` or more in a rule"
            self._refuse(key, number, f"{value} is below the floor: {floor}", remedy)
        if value > most:
            self._refuse(key, number, f"{value} is past the calendar", "give permanent = true")
        return value

    def _words(self, rule: Mapping[str, Any], key: str, number: int) -> tuple[str, ...]:
        if key not in rule:
            return ()
        value = rule[key] if isinstance(rule[key], list) else [rule[key]]
        if not value or not all(isinstance(word, str) and word for word in value):
            remedy = "give one text or a list of texts, or leave the key out to match every one"
            self._refuse(key, number, f"{rule[key]!r} names nothing", remedy)
        return tuple(dict.fromkeys(value))

    def _refuse_unknown(
        self, table: Mapping[str, Any], known: Sequence[str], number: int | None
    ) -> None:
        for key in table:
            if key not in known:
                self._refuse(key, number, "nobody knows this key", f"known are {_either(known)}")

    def _refuse(self, key: str, number: int | None, reason: str, remedy: str) -> NoReturn:
        named = key if number is None else ".".join(filter(None, (f"rule {number + 1}", key)))
        raise PolicyFileError(self._path, self._line_of(key, number), named, reason, remedy)

    def _line_of(self, key: str, number: int | None) -> int | None:
        """Find a key's line: the first of its name after the rule's own [[rule]]."""
        start = 0
        if number is not None:
            headers = [n for n, line in enumerate(self._lines) if re.match(r"\s*\[\[", line)]
            start = headers[number] if number < len(headers) else 0
        if key:
            spelled = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(key)}["']?\s*[=\].]""")
            for at in range(start, len(self._lines)):
                if spelled.match(self._lines[at]):
                    return at + 1
        return start + 1 if number is not None else None


def _either(words: Sequence[str]) -> str:
    return ", ".join(words)
