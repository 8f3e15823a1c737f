"""A query in the lake's own terms: one Polars predicate with the meaning of `Query.matches`.

Pure: builds expressions, reads nothing. An empty column never matches a wanted value, just as
None is never in a tuple of texts.
"""

from __future__ import annotations

import polars as pl

from claude_max_audit.query import BEGINNING, END, Query, Span

_TIME = pl.Datetime("us", "UTC")


def predicate(query: Query) -> pl.Expr | None:
    """Return the filter of a query (words aside); None when every row matches."""
    conditions = [_condition(key, wanted) for key, wanted in query.where.items()]
    if query.cross_swarm is not None:
        many = pl.col("swarm_ids").list.len() > 1
        conditions.append(many if query.cross_swarm else ~many)
    time = span_predicate(query.span)
    if time is not None:
        conditions.append(time)
    return pl.all_horizontal(conditions) if conditions else None


def span_predicate(span: Span) -> pl.Expr | None:
    """Return the filter of a span of time, inclusive at both ends; None when it is open."""
    ends = []
    if span.start != BEGINNING:
        ends.append(pl.col("timestamp") >= pl.lit(span.start, _TIME))
    if span.end != END:
        ends.append(pl.col("timestamp") <= pl.lit(span.end, _TIME))
    return pl.all_horizontal(ends) if ends else None


def _condition(key: str, wanted: tuple[str, ...]) -> pl.Expr:
    if key == "participant":
        return _is_any("agent_id", wanted) | _is_any("to_agent", wanted)
    if key == "swarm_id":
        # A list is only looked into where it can say more than swarm_id does.
        listed = pl.any_horizontal(pl.col("swarm_ids").list.contains(word) for word in wanted)
        return _is_any("swarm_id", wanted) | listed
    return _is_any(key, wanted)


def _is_any(column: str, wanted: tuple[str, ...]) -> pl.Expr:
    """Plain comparisons, because Parquet statistics are used for these."""
    if not wanted:
        return pl.lit(False)
    if len(wanted) == 1:
        return (pl.col(column) == wanted[0]).fill_null(False)
    return pl.col(column).is_in(list(wanted)).fill_null(False)
