"""Many short lives: forked processes that log three entries each, and end well or at once.

    python short_programs.py REDIS_URL HOME NOTES COUNT

Every other one closes its auditor; the rest end without a farewell, as after `kill -9`.
"""

from __future__ import annotations

import os
import sys

from claude_max_audit import ClaudeMaxAuditor

AT_ONCE = 4


def live(url: str, home: str, notes: str, number: int) -> None:
    """Log three entries and note their ids."""
    made = ClaudeMaxAuditor(redis_url=url, home=home, storage_backend="redis")
    ids = [made.sync.log_message(f"short{number % 7}", "b", content=str(n)) for n in range(3)]
    noted = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(noted, "".join(f"{entry_id}\n" for entry_id in ids).encode())
    if number % 2:
        made.sync.close()


def main() -> None:
    """Fork all of them, a few at a time."""
    url, home, notes, count = sys.argv[1:]
    alive = 0
    for number in range(int(count)):
        if alive == AT_ONCE:
            assert os.wait()[1] == 0
            alive -= 1
        if os.fork() == 0:
            status = 1
            try:
                live(url, home, notes, number)
                status = 0
            finally:
                os._exit(status)
        alive += 1
    for _ in range(alive):
        assert os.wait()[1] == 0


if __name__ == "__main__":
    main()
