"""Lines, files and folders: whatever lies there, every line is accounted for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_flows.imports import import_path, read_path
from audit_flows.imports import line_reader as lines
from audit_flows.imports.importer import NO_KNOWN_FORM
from import_recorder import RecordingAuditor, neutral_event, write_lines


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json}\n", lines.NOT_JSON),
        (b'{"a": NaN}\n', lines.NOT_JSON),
        (b"[" * 100_000 + b"\n", lines.NOT_JSON),
        (b"[1, 2]\n", lines.NOT_AN_OBJECT),
        (b'"text"\n', lines.NOT_AN_OBJECT),
        (b" \t\n", lines.BLANK),
        (b'{"a": "\xff"}\n', lines.NOT_UTF8),
        (b'{"kind": "message", "from_ag', lines.CUT_OFF),
    ],
)
def test_a_corrupt_line_is_passed_over_and_its_neighbours_are_not(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    auditor = RecordingAuditor()
    path = write_lines(tmp_path / "x.jsonl", [neutral_event(), neutral_event(seq=1), line])
    report = import_path(auditor, path, known=auditor.known)
    assert (report.new_entries, report.passed_over) == (2, {reason: 1})
    assert report.examples == {reason: ("x.jsonl:3",)}


def test_a_line_that_is_too_long_is_skipped_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES", 1_000)
    long = neutral_event(content="x" * 5_000)
    path = write_lines(tmp_path / "x.jsonl", [neutral_event(), long, neutral_event(seq=2)])
    auditor = RecordingAuditor()
    report = import_path(auditor, path, known=auditor.known)
    assert (report.new_entries, report.passed_over) == (2, {lines.TOO_LONG: 1})
    assert sum(found.size for _, found in read_path(path)) == path.stat().st_size


def test_a_byte_order_mark_is_no_part_of_the_first_event(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [neutral_event()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    auditor = RecordingAuditor()
    assert import_path(auditor, path, known=auditor.known).new_entries == 1


def test_a_folder_is_read_with_what_is_below_it_and_other_files_are_left_alone(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path / "deep" / "down" / "a.jsonl", [neutral_event()])
    write_lines(tmp_path / "b.jsonl", [])
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / "c.json").write_text("{}")
    auditor = RecordingAuditor()
    report = import_path(auditor, tmp_path, known=auditor.known)
    assert (report.files, report.empty_files, report.left_alone) == (2, 1, 2)
    assert report.new_entries == 1


def test_a_file_given_by_its_path_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "events.log", [neutral_event()])
    auditor = RecordingAuditor()
    assert import_path(auditor, path, known=auditor.known).new_entries == 1


def test_json_lines_of_another_form_are_passed_over_line_by_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [{"id": 1}, b"nonsense\n", {"id": 2}])
    report = import_path(RecordingAuditor(), path, known=set)
    assert report.passed_over == {NO_KNOWN_FORM: 2, lines.NOT_JSON: 1}


def test_nothing_at_the_path_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        import_path(RecordingAuditor(), tmp_path / "nowhere", known=set)


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_imported(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path / "good.jsonl", [neutral_event()])
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "not-there")
    auditor = RecordingAuditor()
    report = import_path(auditor, tmp_path, known=auditor.known)
    assert report.new_entries == 1
    assert list(report.unreadable) == ["gone.jsonl"]


_EVENT_LINES = st.builds(
    neutral_event,
    seq=st.integers(0, 3),
    kind=st.sampled_from(["message", "decision", "nonsense", None]),
    from_agent=st.sampled_from(["a", "", None, 3, "b*\x00"]),
    timestamp=st.sampled_from([None, "2025-01-01T00:00:00Z", "never", 5]),
    content=st.one_of(st.none(), st.text(max_size=5)),
)
_TRANSCRIPT_LINES = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "assistant", "system", "summary", "progress", "odd"])},
    optional={
        "uuid": st.sampled_from(["u1", "u2", "u3", 5]),
        "timestamp": st.sampled_from(["2025-01-01T00:00:00Z", "never", None]),
        "isSidechain": st.booleans(),
        "summary": st.text(max_size=3),
        "message": st.one_of(
            st.none(),
            st.just("text"),
            st.fixed_dictionaries(
                {
                    "content": st.one_of(
                        st.text(max_size=4),
                        st.lists(
                            st.fixed_dictionaries(
                                {
                                    "type": st.sampled_from(
                                        ["text", "thinking", "tool_use", "tool_result", "image"]
                                    )
                                },
                                optional={
                                    "text": st.text(max_size=3),
                                    "id": st.sampled_from(["t1", "t2"]),
                                    "tool_use_id": st.sampled_from(["t1", "t2", None]),
                                    "name": st.sampled_from(["Read", "Bash", "Task", 4]),
                                    "input": st.one_of(st.none(), st.just({"command": "rm x"})),
                                    "content": st.one_of(st.none(), st.text(max_size=3)),
                                    "is_error": st.booleans(),
                                },
                            ),
                            max_size=3,
                        ),
                    )
                }
            ),
        ),
    },
)
_ANY_LINE = st.one_of(
    _EVENT_LINES,
    _TRANSCRIPT_LINES,
    st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"") + b"\n"),
)


@settings(max_examples=150, deadline=None)
@given(
    first=st.sampled_from([neutral_event(seq=99), {"type": "progress"}]),
    rest=st.lists(_ANY_LINE, max_size=8),
)
def test_whatever_the_lines_are_each_is_found_once_and_all_bytes_are_counted(
    first: dict[str, object], rest: list[object]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_lines(Path(folder) / "x.jsonl", [first, *rest])
        numbers = sorted(found.line for _, found in read_path(path))
        assert numbers == list(range(1, len(rest) + 2))
        assert sum(found.size for _, found in read_path(path)) == path.stat().st_size
        auditor = RecordingAuditor()
        report = import_path(auditor, path, known=auditor.known)
        assert report.accounted_for
        assert report.lines == len(rest) + 1
        assert report.new_entries == len(auditor.entries)
        again = import_path(auditor, path, known=auditor.known)
        assert (again.new_entries, again.lines) == (0, report.lines)
