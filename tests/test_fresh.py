"""What is known of the newest messages: the same commands with it as without, whatever is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_max_audit import fresh as freshness
from claude_max_audit.fresh import FreshMessages
from claude_max_audit.hot.batch import BatchPacker, Keeping
from claude_max_audit.recorder import Recorder
from claude_max_audit.vocabulary import AuditEntryType

WRITER = "0123456789abcdef"
Say = Callable[[Recorder, int], bytes]


def message(recorder: Recorder, number: int) -> bytes:
    envelope = (f"a{number % 3}", "b", "inform", f"s{number % 2}", None, None, None)
    return recorder.made_message(envelope, f"say {number}", {"number": number})[1]


def odd_message(recorder: Recorder, number: int) -> bytes:
    envelope = ("a0", "b", "inform", "s0", None, None, None)
    words = {"event_type": f"e{number % 2}", "retention": "permanent"}
    return recorder.made_message(envelope, "same words", words)[1]


def decision(recorder: Recorder, number: int) -> bytes:
    fields = {"content": f"say {number}", "metadata": {"decision_type": "veto"}}
    return recorder.made(AuditEntryType.DECISION, "a0", fields)[1]


def refused(recorder: Recorder, number: int) -> bytes:
    message(recorder, number)
    recorder.take_back()  # The spool was full: the number is used again.
    return message(recorder, number + 100)


SAYS = st.lists(st.sampled_from([message, message, odd_message, decision, refused]), max_size=30)


def packed(batch: list[bytes], keeping: Keeping, fresh: FreshMessages | None) -> bytes:
    packer = BatchPacker(batch, keeping, 0, after=5, fresh=fresh)
    sent = b"".join(packer.parts())
    assert packer.replies == sent.count(b"\r\n*") + 1 if batch else packer.replies == 0
    return sent


@given(says=SAYS, cuts=st.lists(st.integers(0, 30), max_size=4), waits=st.booleans())
def test_batches_are_packed_alike_with_it_and_without(
    says: list[Say], cuts: list[int], waits: bool
) -> None:
    known = FreshMessages()
    recorder = Recorder(WRITER, fresh=known)
    made = [say(recorder, number) for number, say in enumerate(says)]
    # Batches go on, and now and then back to an entry that went before: after a loss.
    start = 0
    for end in [*sorted(cuts), *cuts, len(made)]:
        batch = made[min(start, end) : end]
        assert packed(batch, Keeping(30, waits), known) == packed(batch, Keeping(30, waits), None)
        start = end


def test_messages_in_order_are_all_known() -> None:
    known = FreshMessages()
    recorder = Recorder(WRITER, fresh=known)
    made = [message(recorder, number) for number in range(40)]
    assert sum(known.take(canonical) is not None for canonical in made[6:]) == 34
    assert known.take(made[6]) is None, "once"


def test_what_is_too_old_is_read_from_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "MOST_MESSAGES", 10)
    known = FreshMessages()
    recorder = Recorder(WRITER, fresh=known)
    made = [message(recorder, number) for number in range(40)]
    taken = [known.take(canonical) is not None for canonical in made]
    assert taken == [False] * 30 + [True] * 10


def test_one_that_never_came_holds_up_no_other() -> None:
    known = FreshMessages()
    recorder = Recorder(WRITER, fresh=known)
    made = [message(recorder, number) for number in range(20)]
    assert known.take(made[10]) is None
    known.passed(11)
    assert known.take(made[11]) is not None
