"""Messages from a stencil: byte for byte what encoding each of them whole would give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_max_audit import recorder as recording
from claude_max_audit.entry import AuditEntry
from claude_max_audit.recorder import ENVELOPE_FIELDS, Recorder, encode_canonical
from claude_max_audit.vocabulary import AuditEntryType, MessageType

NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*?[]\\")
    | st.sampled_from('"{}:,%'),
    min_size=1,
    max_size=20,
).filter(lambda text: text.strip() != "")
SAID = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('\x00"\\\r\n%\u2028{}'), max_size=60
)
ENVELOPE = st.tuples(
    NAME,
    st.none() | NAME | st.just('","content":"'),
    st.sampled_from([*MessageType, "inform"]),
    st.none() | NAME,
    st.none() | NAME,
    st.none() | NAME,
    st.none() | NAME,
)


def entry_of(canonical: bytes) -> AuditEntry:
    entry = AuditEntry.from_json(canonical)
    assert entry.canonical_bytes() == canonical
    return entry


METADATA: st.SearchStrategy[dict[str, Any] | None] = st.none() | st.dictionaries(
    SAID | st.sampled_from(["citation", "retention"]),
    st.none() | st.integers(-9, 9) | SAID | st.sampled_from(["permanent", "standard"]),
    max_size=3,
).filter(lambda extra: extra.get("retention", "standard") in ("permanent", "standard"))


@given(envelope=ENVELOPE, said=st.lists(st.tuples(SAID, METADATA), min_size=2, max_size=4))
def test_each_message_is_what_the_whole_way_makes(
    envelope: tuple[object, ...], said: list[tuple[str, dict[str, object] | None]]
) -> None:
    quick, whole = Recorder("0123456789abcdef"), Recorder("0123456789abcdef")
    for content, metadata in said:
        made, canonical = quick.made_message(envelope, content, metadata)
        entry = entry_of(canonical)
        fields = dict(zip(ENVELOPE_FIELDS, envelope, strict=True))
        expected = whole.make(
            AuditEntryType.MESSAGE,
            envelope[0],  # type: ignore[arg-type]
            content=content,
            metadata=metadata,
            entry_id=str(made),
            **fields,  # type: ignore[arg-type]
        )
        expected = msgspec.structs.replace(
            expected, timestamp=entry.timestamp, recorded_at=entry.recorded_at
        )
        assert canonical == encode_canonical(expected)
        assert (made, made.citation) == (entry.entry_id, entry.citation)
        assert entry.timestamp == entry.recorded_at
    assert quick.last_seq == len(said)


@pytest.mark.parametrize("fraction", [0, 1, 120_000, 999_999])
def test_times_are_written_as_the_encoder_does(
    fraction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Recorder("0123456789abcdef")
    envelope = ("a", "b", "inform", None, None, None, None)
    made.made_message(envelope, "cuts the stencil", None)
    monkeypatch.setattr(recording, "time_ns", lambda: (1_764_000_000 * 10**6 + fraction) * 1_000)
    _, canonical = made.made_message(envelope, "x", {})
    assert entry_of(canonical).timestamp.microsecond == fraction


@pytest.mark.parametrize(
    ("envelope", "content", "error", "says"),
    [
        (("", "b", "inform", None, None, None, None), "x", ValueError, "from_agent is empty"),
        (("a", ["b"], "inform", None, None, None, None), "x", TypeError, "to_agent"),
        (("a", "b", "shout", None, None, None, None), "x", ValueError, "message_type 'shout'"),
        (("a", "b", "inform", "s*", None, None, None), "x", ValueError, "swarm_id"),
        (("a", "b", "inform", None, None, None, None), "\ud800", ValueError, "lone surrogate"),
        (("a", "b", "inform", None, None, None, None), "x" * 101, ValueError, "101 bytes"),
    ],
)
def test_what_does_not_fit_is_named_before_and_after_the_first_message(
    envelope: tuple[object, ...], content: str, error: type[Exception], says: str
) -> None:
    made = Recorder("0123456789abcdef", max_content_bytes=100)
    made.made_message(("a", "b", "inform", None, None, None, None), "cuts the stencil", None)
    for _ in range(2):
        with pytest.raises(error, match=says):
            made.made_message(envelope, content, None)
    assert made.last_seq == 1, "no number was used"


def test_stencils_do_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_MOST_STENCILS", 3)
    made = Recorder("0123456789abcdef")
    for number in range(20):
        made.made_message((f"a{number}", "b", "inform", None, None, None, None), "x", None)
        assert len(made._stencils) <= 3
