"""The retention policy: how long entries of which type and swarm are kept. Pure.

`purge/policy_file.py` reads it from a file, the purge asks it for one `DueRule` at a given
instant. Of several rules that match an entry the one that keeps it longest holds, whatever their
order; the default holds where none matches. Nothing lowers the floor of 183 days. An entry
marked permanent stays, and so does one under a legal hold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from audit_storage.purge.due import DueRule, Exemption
from audit_storage.purge.retention import (
    check_cutoff,
    cutoff_by_days,
    cutoff_by_years,
    retention_deadline,
)
from claude_max_audit.entry import as_utc
from claude_max_audit.query import BEGINNING, END


@dataclass(frozen=True, slots=True)
class Term:
    """How long: calendar years, or whole days, or for ever where neither is given."""

    years: int | None = None
    days: int | None = None

    def cutoff(self, now: datetime) -> datetime:
        """Return the instant before which an entry's time is over at `now`, never too late."""
        if self.years is not None:
            return check_cutoff(cutoff_by_years(now, self.years), now)
        return BEGINNING if self.days is None else cutoff_by_days(now, self.days)

    def deadline(self, timestamp: datetime) -> datetime | None:
        """Return the aware UTC instant until which an entry of `timestamp` is kept; None: ever."""
        if self.years is not None:
            return retention_deadline(timestamp, self.years)
        if self.days is None:
            return None
        left = END - as_utc(timestamp)
        return END if timedelta(days=self.days) > left else END - left + timedelta(days=self.days)

    def __str__(self) -> str:
        if self.years is not None:
            return f"{self.years} calendar year{'s' if self.years > 1 else ''}"
        return "for ever" if self.days is None else f"{self.days} days"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule. Empty `entry_types` means every type, empty `swarm_ids` every swarm."""

    term: Term
    entry_types: tuple[str, ...] = ()
    swarm_ids: tuple[str, ...] = ()

    def fits(self, entry_type: str, swarm_ids: Collection[str]) -> bool:
        """Say whether it is about an entry of this type in these swarms."""
        of_type = not self.entry_types or entry_type in self.entry_types
        return of_type and (not self.swarm_ids or not set(self.swarm_ids).isdisjoint(swarm_ids))


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """The default and the rules. `default_days` is given where a caller named days instead."""

    default: Term
    rules: tuple[PolicyRule, ...] = ()
    source: str | None = None
    """The file that it was read from."""

    def for_days(self, older_than_days: int) -> RetentionPolicy:
        """Return this policy for a call that names days: they take the default's place, and no
        rule lets anything go earlier than they do."""
        return replace(self, default=Term(days=older_than_days))

    def due_rule(self, now: datetime) -> DueRule:
        """Return what is due at `now`; raises `ValueError` below the floor."""
        cutoff = self.default.cutoff(now)
        # Days that a caller named bound the rules too; the file's own default does not.
        bound = cutoff if self.default.days is not None else None
        kept = [
            Exemption(
                rule.entry_types,
                rule.swarm_ids,
                min(end, bound) if bound is not None else end,
            )
            for rule in self.rules
            for end in [rule.term.cutoff(now)]
        ]
        return DueRule(cutoff, tuple(kept))

    def applying(
        self, entry_type: str, swarm_ids: Collection[str], now: datetime
    ) -> tuple[Term, PolicyRule | None]:
        """Return how long such an entry is kept, and by which rule; None: by the default."""
        fitting = [rule for rule in self.rules if rule.fits(entry_type, swarm_ids)]
        if not fitting:
            return self.default, None
        longest = min(fitting, key=lambda rule: rule.term.cutoff(now))
        return longest.term, longest

    def as_dict(self) -> dict[str, Any]:
        """Return the policy as plain JSON values, rules in one order whatever the file's."""
        rules = [
            {
                "entry_type": sorted(rule.entry_types),
                "swarm_id": sorted(rule.swarm_ids),
                "keep": str(rule.term),
            }
            for rule in self.rules
        ]
        return {"default": str(self.default), "rules": sorted(rules, key=str)}

    @property
    def terms(self) -> str:
        """What the policy says as JSON text; a comment or another order changes nothing."""
        return msgspec.json.encode(self.as_dict(), order="deterministic").decode()

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the terms."""
        return terms_sha256(self.terms)

    def __str__(self) -> str:
        told = str(self.default) if self.default.days is None else f"older than {self.default}"
        more = len(self.rules)
        return f"{told}, {more} rule{'s' if more > 1 else ''} apart" if more else told


def terms_sha256(terms: str) -> str:
    """Return the SHA-256 (hex) by which a receipt names a policy's terms."""
    return sha256(terms.encode()).hexdigest()
