"""The Redis commands that a query needs at the least, given the trail's keys.

Called by `hot_queries.py` as what the library is measured against. Two round trips: first the
exact total and the ids of the newest 100, then their JSON. Sets of several kinds are summed
up, intersections are made by Redis (ZINTER), or, in a narrow window, by asking after the
members of the rarest set. Replies are kept as bytes; nothing is decoded into entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claude_max_audit.hot.keys import DAYS, content_key, content_name, content_range
from claude_max_audit.hot.link import Command, RedisLink
from claude_max_audit.hot.members import Window, members_of

PAGE = 100


def one_set(link: RedisLink, window: Window, key: str) -> int:
    """ZCOUNT, ZREVRANGEBYSCORE, 100 HGET."""
    total, ids = link.ask([_count(window, key), _newest(window, key)])
    _fetch(link, ids)
    return int(total)


def several_sets(link: RedisLink, window: Window, keys: Sequence[str]) -> int:
    """A ZCOUNT and a ZREVRANGEBYSCORE for each disjoint set, 100 HGET."""
    commands = [*(_count(window, key) for key in keys)]
    commands += [
        (*_newest(window, key)[:4], "WITHSCORES", *_newest(window, key)[4:]) for key in keys
    ]
    replies = link.ask(commands)
    newest = sorted((m for reply in replies[len(keys) :] for m in members_of(reply)), reverse=True)
    _fetch(link, [entry_id for _, entry_id in newest[:PAGE]])
    return sum(replies[: len(keys)])


def intersection(link: RedisLink, window: Window, keys: Sequence[str]) -> int:
    """One ZINTER, 100 HGET."""
    command = ("ZINTER", len(keys), *keys, "AGGREGATE", "MAX", "WITHSCORES")
    [reply] = link.ask([command])
    found = [m for m in members_of(reply) if window.low <= m[0] <= window.high]
    _fetch(link, [entry_id for _, entry_id in found[-PAGE:]])
    return len(found)


def probed(link: RedisLink, window: Window, keys: Sequence[str]) -> int:
    """A ZCOUNT for each set, ZREVRANGEBYSCORE of the smallest, ZMSCORE of the others, 100 HGET."""
    counts = link.ask([_count(window, key) for key in keys])
    rarest, *others = [key for _, key in sorted(zip(counts, keys, strict=True))]
    [ids] = link.ask([("ZREVRANGEBYSCORE", rarest, window.high_text, window.low_text)])
    for key in others if ids else ():
        [held] = link.ask([("ZMSCORE", key, *ids)])
        ids = [entry_id for entry_id, score in zip(ids, held, strict=True) if score is not None]
    _fetch(link, ids[:PAGE])
    return len(ids)


def content(link: RedisLink, window: Window, content_hash: str) -> int:
    """ZRANGEBYLEX for each day that there is, an HGET for each copy."""
    name = content_name(content_hash)
    bounds = content_range(name, window.low, window.high)
    [days] = link.ask([("ZRANGE", DAYS, 0, -1)])
    replies = link.ask([("ZRANGEBYLEX", content_key(day.decode(), name), *bounds) for day in days])
    copies = [member[28:] for reply in replies for member in reply]
    _fetch(link, copies[-PAGE:])
    return len(copies)


def _count(window: Window, key: str) -> Command:
    return ("ZCOUNT", key, window.low_text, window.high_text)


def _newest(window: Window, key: str) -> Command:
    return ("ZREVRANGEBYSCORE", key, window.high_text, window.low_text, "LIMIT", 0, PAGE)


def _fetch(link: RedisLink, ids: Sequence[Any]) -> None:
    link.ask([("HGET", b"audit:entry:" + entry_id, "json") for entry_id in ids])
