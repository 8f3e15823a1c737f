"""Makes Redis write its own files anew, so that they no longer hold what was forgotten.

The purge calls it after it removed entries: an append-only file keeps every command until it is
rewritten, and a snapshot what was there when it was taken. Redis does the work in a process of its
own and goes on answering. Where a server forbids it, that is told and the purge goes on: the
entries are gone from the data, and its operator sees to the files.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from claude_max_audit.errors import RedisRefusedError
from claude_max_audit.hot.link import Command, RedisLink

REWRITE_SECONDS: Final = 600.0
"""How long a rewriting may take: some gigabytes a minute, and a purge runs at night."""

_POLL_SECONDS: Final = 0.05

_BUSY: Final = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")

_log = logging.getLogger("claude_max_audit")


def rewrite_files(link: RedisLink, seconds: float = REWRITE_SECONDS) -> bool:
    """Rewrite the append-only file and the snapshot, whichever this server keeps.

    Returns when both hold only what Redis holds, or False, after a warning, when the server
    does not let us or is not done in time. Raises `RedisUnavailableError`. May be repeated.
    """
    deadline = time.monotonic() + seconds
    try:
        if _info(link).get("aof_enabled") == "1":
            _rewrite(link, ("BGREWRITEAOF",), "aof_last_bgrewrite_status", deadline)
        [kept] = link.ask([("CONFIG", "GET", "save")])
        if _is_set(kept):
            _rewrite(link, ("BGSAVE",), "rdb_last_bgsave_status", deadline)
    except (RedisRefusedError, TimeoutError) as why:
        _log.warning(
            "what was purged is gone from Redis' data, but perhaps not from its files yet (%s): "
            "have them rewritten by BGREWRITEAOF, or BGSAVE where it takes snapshots",
            why,
        )
        return False
    return True


def _rewrite(link: RedisLink, command: Command, status: str, deadline: float) -> None:
    # One that is at work may have begun before the entries went.
    _wait(link, deadline)
    while True:
        try:
            link.ask([command])
            break
        except RedisRefusedError as refused:
            if "in progress" not in refused.reason:
                raise
            _wait(link, deadline)  # Somebody else was faster.
    _wait(link, deadline)
    told = _info(link).get(status)
    if told != "ok":
        raise RedisRefusedError(link.address, f"{command[0]} ended with {told}")


def _wait(link: RedisLink, deadline: float) -> None:
    """Wait until Redis writes none of its files in the background."""
    while any(_info(link).get(name) == "1" for name in _BUSY):
        if time.monotonic() > deadline:
            raise TimeoutError("it is still at it")
        time.sleep(_POLL_SECONDS)


def _info(link: RedisLink) -> dict[str, str]:
    [told] = link.ask([("INFO", "persistence")])
    lines = (line.partition(":") for line in told.decode().splitlines())
    return {name: value for name, _, value in lines}


def _is_set(reply: object) -> bool:
    """Say whether CONFIG GET told of a value: a list (RESP2) or a map (RESP3) of names to it."""
    values = list(reply.values()) if isinstance(reply, dict) else list(reply)[1:]  # type: ignore[call-overload]
    return any(values)
