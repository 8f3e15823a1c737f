"""What the Redis server says of itself: its memory, and the most that it may take.

Asked by the metrics endpoint and by `claude-audit watch`. Reads one section of INFO, which costs
the server the same whatever it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from claude_max_audit.hot.link import RedisLink


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """Bytes that the server uses, and its `maxmemory`; 0 is no limit of its own."""

    memory_bytes: int
    max_memory_bytes: int


def server_figures(link: RedisLink) -> ServerFigures:
    """Ask the server; raises `RedisRefusedError` where INFO is not allowed."""
    told: bytes = link.ask([("INFO", "memory")])[0]
    lines = (line.partition(":") for line in told.decode().splitlines())
    facts = {name: value for name, _, value in lines}
    return ServerFigures(int(facts["used_memory"]), int(facts.get("maxmemory", 0)))
