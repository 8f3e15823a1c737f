"""A program that logs until it is killed or told to stop, and notes every id it was given.

    python writer_program.py REDIS_URL HOME NOTES AGENT DURABILITY

An id is in the file NOTES before the next call to `log_message`. When a file NOTES.stop
appears, the program writes all it has and ends.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress

from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.errors import AuditError


def main() -> None:
    """Log in bursts; see the module."""
    url, home, notes, agent, durability = sys.argv[1:]
    made = ClaudeMaxAuditor(
        redis_url=url, home=home, storage_backend="redis", durability=durability
    )
    noted = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while not os.path.exists(f"{notes}.stop"):
        for _ in range(random.randint(1, 20)):
            content = f"{agent} says {number} " + "x" * random.randint(0, 900)
            entry_id = made.sync.log_message(agent, "b", content=content, swarm_id="s")
            os.write(noted, f"{entry_id}\n".encode())
            number += 1
        time.sleep(0.002)
    while len(made.batch_queue):
        with suppress(AuditError):
            made.sync.flush_all(5)
    made.sync.close()


if __name__ == "__main__":
    main()
