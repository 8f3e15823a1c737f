"""Which rows a purge may take at one instant: the rule in the lake's own terms. Pure.

Made of a policy by `purge/policy.py`, carried out by the purge. A row is due when it is marked
standard, happened before the cutoff that holds for it, and no hold protects it; whatever is
unclear stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from audit_storage.lake.query import predicate
from audit_storage.purge.holds import LegalHold, held_by
from claude_max_audit.query import Query
from claude_max_audit.vocabulary import Retention

_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Exemption:
    """Entries with a cutoff of their own: of these types and swarms, where any are named."""

    entry_types: tuple[str, ...]
    swarm_ids: tuple[str, ...]
    cutoff: datetime

    def matches(self) -> pl.Expr:
        """Return the rows that it is about."""
        where = {"entry_type": self.entry_types, "swarm_id": self.swarm_ids}
        condition = predicate(Query(where={key: words for key, words in where.items() if words}))
        return pl.lit(True) if condition is None else condition


@dataclass(frozen=True, slots=True)
class DueRule:
    """The cutoffs at one instant, aware UTC: of several that are about a row the earliest."""

    cutoff: datetime
    exemptions: tuple[Exemption, ...] = ()

    @property
    def latest(self) -> datetime:
        """The instant after which nothing at all is due."""
        return max([self.cutoff, *(one.cutoff for one in self.exemptions)])

    @property
    def earliest(self) -> datetime:
        """The instant before which everything that is not permanent is due."""
        return min([self.cutoff, *(one.cutoff for one in self.exemptions)])

    def is_past(self) -> pl.Expr:
        """Return the rows whose time is over, permanent ones among them."""
        cutoff = pl.lit(self.cutoff, _TIME)
        if self.exemptions:
            matched = [
                pl.when(one.matches()).then(pl.lit(one.cutoff, _TIME)) for one in self.exemptions
            ]
            cutoff = pl.coalesce(pl.min_horizontal(matched), cutoff)
        before = pl.col("timestamp") < cutoff
        # The plain bound lets the files' statistics leave out what is too young.
        return (before & (pl.col("timestamp") < pl.lit(self.latest, _TIME))).fill_null(False)

    def is_standard(self) -> pl.Expr:
        """Return the rows whose time is over and that are plainly marked standard."""
        standard = pl.col("retention") == Retention.STANDARD.value
        return (standard & self.is_past()).fill_null(False)

    def is_due(self, holds: Sequence[LegalHold]) -> pl.Expr:
        """Return the rows that go: past their time, standard, and under none of the holds."""
        held = held_by(holds)
        return self.is_standard() if held is None else self.is_standard() & ~held
