"""Carries a plan out: pages, totals and walks over the hot store. Reads only.

Totals are exact and pages are in the order (timestamp, entry id), newest first. One
condition costs a few round trips whatever the number of entries. For several conditions
Redis intersects their sets where that is quick; else the rarest is walked and the others
are asked after its members, in chunks, so that Redis is never held up for long. No
temporary key is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Final

from claude_max_audit.entry import epoch_us
from claude_max_audit.hot.entries import load
from claude_max_audit.hot.intersection import SizedKey, intersect, sized
from claude_max_audit.hot.keys import (
    content_key,
    content_name,
    content_range,
    day_key,
    day_of,
    parse_content_member,
)
from claude_max_audit.hot.link import RedisLink
from claude_max_audit.hot.members import (
    Member,
    Members,
    Window,
    growing_chunks,
    members_of,
    without_repeats,
)
from claude_max_audit.hot.plan import Plan, Term, plan_query
from claude_max_audit.hot.view import View
from claude_max_audit.query import Query

_DAYS_AT_ONCE: Final = 32
"""Days whose copies of a content are asked for in one round trip."""


class HotReader:
    """Answers one query from one view of Redis."""

    def __init__(self, link: RedisLink, query: Query, view: View) -> None:
        self._link = link
        self._query = query
        self._window = Window.of(query.span)
        self._members = Members(link, self._window)
        self._days = view.days_within(self._window)
        self.plan: Plan = plan_query(query, view.kinds)

    def count(self) -> int:
        """The exact number of entries that fit."""
        return self.page(0, 0)[0]

    def page(self, limit: int, offset: int) -> tuple[int, list[Member]]:
        """The exact total, and the members from `offset` on, at most `limit`."""
        plan = self.plan
        if plan.is_empty:
            return 0, []
        if plan.ids is not None or plan.contents:
            return _total_and_page(self.walk(), limit, offset)
        if len(plan.terms) > 1:
            return _total_and_page(self._common(), limit, offset)
        if not plan.excluded:
            return self._top(limit, offset)
        total = self._base_count() - self._excluded_count()
        if not limit or offset >= total:
            return total, []
        return total, list(islice(self.walk(), offset, offset + limit))

    def walk(self) -> Iterator[Member]:
        """Every member that fits, newest first, with bounded memory."""
        plan = self.plan
        if plan.is_empty:
            return iter(())
        if plan.ids is not None:
            return iter(self._named(plan.ids))
        if plan.contents:
            terms = [term.keys for term in plan.terms]
            return self._fitting(self._copies(), terms, plan.excluded)
        if not plan.terms:
            return self._fitting(self._walk_days(), (), plan.excluded)
        return self._probed(sized(self._members, plan.terms), plan.excluded)

    def _common(self) -> Iterator[Member]:
        """Every member that fits several terms, newest first, by the cheaper of two ways."""
        terms = sized(self._members, self.plan.terms)
        common = intersect(self._members, terms)
        if common is None:
            return self._probed(terms, self.plan.excluded)
        return self._fitting(iter(common), (), self.plan.excluded)

    def _probed(
        self, terms: Sequence[Sequence[SizedKey]], excluded: Sequence[str]
    ) -> Iterator[Member]:
        """Members of the rarest term that stand in the others too, in chunks."""
        driver, *others = sorted(terms, key=lambda term: sum(one.within for one in term))
        keys = [[one.key for one in term] for term in (driver, *others)]
        if not keys[0]:
            return iter(())
        return self._fitting(self._members.walk(keys[0]), keys[1:], excluded)

    def _top(self, limit: int, offset: int) -> tuple[int, list[Member]]:
        """Total and page of one condition or none: no walk, whatever the number of entries."""
        if self.plan.terms:
            [term] = self.plan.terms
            counts, members = self._top_of_any(term.keys, limit, offset)
            return sum(counts) - self._doubled(term, counts), members
        counts = self._members.counts(map(day_key, self._days))
        return sum(counts), self._top_of_days(counts, limit, offset)

    def _top_of_days(self, counts: Sequence[int], limit: int, offset: int) -> list[Member]:
        """The page of all days, of which only those are read that it lies in."""
        commands = []
        before = 0
        for day, count in zip(self._days, counts, strict=True):
            skip = max(0, offset - before)
            take = min(count, offset + limit - before) - skip
            if take > 0:
                commands.append(self._members.top_command(day_key(day), skip, take))
            before += count
        return list(chain.from_iterable(map(members_of, self._link.ask(commands))))

    def _top_of_any(
        self, keys: Sequence[str], limit: int, offset: int
    ) -> tuple[list[int], list[Member]]:
        """Number of members of each key, and the page of their union."""
        counts = [self._members.count_command(key) for key in keys]
        if len(keys) == 1:
            count, reply = self._link.ask(
                [*counts, self._members.top_command(keys[0], offset, limit)]
            )
            return [count], members_of(reply)
        # A member of the union's newest n has fewer than n before it in any key of its own.
        tops = [self._members.top_command(key, 0, offset + limit) for key in keys]
        replies = self._link.ask([*counts, *tops])
        merged = sorted(chain.from_iterable(map(members_of, replies[len(keys) :])), reverse=True)
        page = list(islice(without_repeats(merged), offset, offset + limit))
        return replies[: len(keys)], page

    def _base_count(self) -> int:
        if not self.plan.terms:
            return sum(self._members.counts(map(day_key, self._days)))
        [term] = self.plan.terms
        return self._count_any(term)

    def _excluded_count(self) -> int:
        """How many of the base are excluded."""
        excluded = Term(self.plan.excluded, self.plan.excluded[:1])
        if not self.plan.terms:
            return self._count_any(excluded)
        terms = sized(self._members, (*self.plan.terms, excluded))
        common = intersect(self._members, terms)
        return sum(1 for _ in (self._probed(terms, ()) if common is None else common))

    def _count_any(self, term: Term) -> int:
        counts = self._members.counts(term.keys)
        return sum(counts) - self._doubled(term, counts)

    def _doubled(self, term: Term, counts: Sequence[int]) -> int:
        """How often the sum of `counts` counts an entry beyond the first time."""
        if not term.doubles or sum(1 for count in counts if count) < 2:
            return 0
        by_size = sorted(zip(counts, term.keys, strict=True))
        smaller = [key for count, key in by_size[:-1] if count]
        few = sum(self._members.counts(term.doubles)) < sum(count for count, _ in by_size[:-1])
        doubled = 0
        for chunk in growing_chunks(self._members.walk(term.doubles if few else smaller)):
            columns = self._members.held(chunk, term.keys)
            for row in zip(*columns, strict=True):
                doubled += max(0, len(row) - row.count(None) - 1)
        return doubled

    def _fitting(
        self,
        members: Iterator[Member],
        terms: Sequence[Sequence[str]],
        excluded: Sequence[str],
    ) -> Iterator[Member]:
        """Those of `members` that stand in some key of each term and in no excluded key."""
        if not terms and not excluded:
            yield from members
            return
        for chunk in growing_chunks(members):
            fitting = chunk
            for term in terms:
                within = self._in_any(fitting, term)
                fitting = [member for member in fitting if member in within]
            without = self._in_any(fitting, excluded)
            yield from (member for member in fitting if member not in without)

    def _in_any(self, members: Sequence[Member], keys: Sequence[str]) -> set[Member]:
        """Those of `members` that stand in any of the keys, each asked after until found."""
        found: set[Member] = set()
        rest = members
        for key in keys:
            if not rest:
                break
            [held] = self._members.held(rest, [key])
            pairs = list(zip(rest, held, strict=True))
            found.update(member for member, score in pairs if score is not None)
            rest = [member for member, score in pairs if score is None]
        return found

    def _walk_days(self) -> Iterator[Member]:
        for day in self._days:
            yield from self._members.walk([day_key(day)])

    def _copies(self) -> Iterator[Member]:
        """Members with one of the contents asked for, newest first, those that are gone left out.

        A day's contents are kept until its last entry is gone, so they are held against the
        day's own members.
        """
        low, high = self._window.low, self._window.high
        names = [content_name(content) for content in self.plan.contents]
        for day_start in range(0, len(self._days), _DAYS_AT_ONCE):
            days = self._days[day_start : day_start + _DAYS_AT_ONCE]
            replies = self._link.ask(
                [
                    ("ZRANGEBYLEX", content_key(day, name), *content_range(name, low, high))
                    for day in days
                    for name in names
                ]
            )
            found = sorted(map(parse_content_member, chain.from_iterable(replies)), reverse=True)
            for _, copies in groupby(found, key=lambda member: day_of(member[0])):
                yield from self._still_there(list(copies))

    def _still_there(self, copies: Sequence[Member]) -> Iterator[Member]:
        """Those of one day's copies that the day still has."""
        day = day_key(day_of(copies[0][0]))
        for chunk in growing_chunks(copies):
            [held] = self._members.held(chunk, [day])
            yield from (m for m, score in zip(chunk, held, strict=True) if score is not None)

    def _named(self, entry_ids: Sequence[str]) -> list[Member]:
        """Members of the entries with these ids that fit the whole query, newest first."""
        found = load(self._link, [entry_id.encode() for entry_id in entry_ids])
        return sorted(
            (
                (epoch_us(entry.timestamp), entry.entry_id.encode())
                for entry in found
                if entry is not None and self._query.matches(entry)
            ),
            reverse=True,
        )


def _total_and_page(members: Iterator[Member], limit: int, offset: int) -> tuple[int, list[Member]]:
    page = list(islice(members, offset + limit))
    total = len(page) + sum(1 for _ in members)
    return total, page[offset:]
