"""A program whose children log for themselves, as pre-forking servers and worker pools do.

    python children_program.py METHOD REDIS_URL HOME

A program of its own, because other libraries of the test process do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

from claude_max_audit import ClaudeMaxAuditor

CHILDREN = 2
ENTRIES = 3


def child_logs(url: str, home: str, agent: str) -> None:
    """Log, and leave the rest to the end of the process."""
    made = ClaudeMaxAuditor(home=home, redis_url=url, storage_backend="redis")
    for number in range(ENTRIES):
        made.sync.log_message(agent, "b", content=str(number))


def main() -> None:
    """Log one entry, then have the children log theirs."""
    method, url, home = sys.argv[1:]
    made = ClaudeMaxAuditor(home=home, redis_url=url, storage_backend="redis")
    made.sync.log_message("parent", "b", content="before")
    context: Any = multiprocessing.get_context(method)
    children = [
        context.Process(target=child_logs, args=(url, home, f"c{n}")) for n in range(CHILDREN)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    if any(child.exitcode != 0 for child in children):
        raise SystemExit("a child failed")


if __name__ == "__main__":
    main()
