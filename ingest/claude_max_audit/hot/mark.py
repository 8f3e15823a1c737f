"""The mark: Redis holds every entry of one writer up to this number.

`audit:writer:{writer_id}` moves with the last command of every batch, and only if it stands
where the batch begins or beyond: a batch that arrives after a loss leaves it where the loss
has put it. So the sentence is true at every moment, whoever sent the batch and however late
it comes, for the living writer as for those who adopt its spool. Redis keeps and replicates
commands in order; a server that restarted behind, was emptied, or took over from a master
that was ahead shows a lower mark, or none. Nothing else reads the key.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, NamedTuple

from claude_max_audit.errors import RedisBehindError
from claude_max_audit.hot.keys import writer_key

MARK_SECONDS: Final = 3_600
"""How long a mark outlives its writer's last batch: far longer than segments are kept."""

NO_MARK: Final = -1

_MOVE = """\
local held = tonumber(redis.call('GET', KEYS[1]) or -1)
if held >= tonumber(ARGV[1]) then
  if held < tonumber(ARGV[2]) then redis.call('SET', KEYS[1], ARGV[2]) end
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return held"""


class Mark(NamedTuple):
    """A batch's mark: from `after`, which Redis must hold already, on to the batch's last.

    With `after` 0 the batch stands on nothing that came before it.
    """

    writer_id: str
    after: int
    last: int

    def command(self) -> tuple[str, ...]:
        """Move the mark if that is true, and say where it stood (`NO_MARK` if nowhere)."""
        numbers = (str(self.after), str(self.last), str(MARK_SECONDS))
        return ("EVAL", _MOVE, "1", writer_key(self.writer_id), *numbers)


def first_mark(writer_id: str) -> tuple[str, ...]:
    """The command before a batch with `after` 0: Redis holds all up to nothing.

    If Redis is emptied in the middle of the batch, this is gone too, and the batch's last
    command finds no mark.
    """
    return ("SET", writer_key(writer_id), "0", "EX", str(MARK_SECONDS), "NX")


def mark_of(reply: bytes | None) -> int:
    """The number that stands for a mark; 0 where there is none."""
    return int(reply) if reply is not None else 0


class MarkWatch:
    """One living writer's marks: what the next batch stands on, and whether Redis lost any."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._answered = 0
        self._answered_at = monotonic()
        self._sent = 0

    def next_after(self) -> int:
        """The number up to which Redis must hold all when the next batch arrives."""
        if self._sent == self._answered and self._may_have_expired():
            return 0
        return self._sent

    def sent(self, mark: Mark) -> None:
        """Note that a batch with this mark is on its way."""
        self._sent = mark.last

    def answered(self, mark: Mark, found: int) -> None:
        """Note a batch's answer; raises `RedisBehindError` if the mark stood before it."""
        if found < mark.after:
            raise self._behind(found)
        self._answered, self._answered_at = mark.last, monotonic()

    def give_up(self) -> None:
        """Note that what has no answer will be sent again."""
        self._sent = self._answered

    def check(self, found: int) -> None:
        """Compare where the mark stands now; raises `RedisBehindError`."""
        if found < self._answered and not (found == 0 and self._may_have_expired()):
            raise self._behind(found)

    def _may_have_expired(self) -> bool:
        return monotonic() - self._answered_at > MARK_SECONDS / 2

    def _behind(self, found: int) -> RedisBehindError:
        """What is missing; the batches after this stand on what was found."""
        held = max(found, 0)
        behind = RedisBehindError(self._address, self._answered, held)
        self._answered = self._sent = held
        self._answered_at = monotonic()
        return behind
