"""Lines of a JSON-lines file, one at a time, each either an object or a reason why not.

Files may be larger than memory: only one line is held. A line is never dropped: what
cannot be read comes out with its reason. Nothing is repaired in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

LINE_BYTES = 64 * 1024 * 1024
"""Longest line that is read: four times the largest content that an entry may have."""

NOT_JSON = "not JSON"
NOT_AN_OBJECT = "JSON, but not an object"
NOT_UTF8 = "not UTF-8 text"
BLANK = "blank line"
CUT_OFF = "cut off: the last line has no end (its writer stopped or still writes)"
TOO_LONG = f"longer than {LINE_BYTES // 2**20} MiB"

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number (from 1), its bytes, and the object or the reason.

    `mended` is True when lone surrogates (half characters, which UTF-8 cannot hold) were
    replaced by U+FFFD; whoever makes an entry of the line says so in its metadata.
    """

    number: int
    size: int
    event: dict[str, Any] | None = None
    fault: str | None = None
    mended: bool = False


def read_lines(path: Path) -> Iterator[Line]:
    """Yield every line of `path` in order; raises `OSError` when it cannot be read."""
    with path.open("rb") as file:
        number = 0
        while text := file.readline(LINE_BYTES + 1):
            number += 1
            if len(text) > LINE_BYTES:
                yield Line(number, len(text) + _skip_rest(file, text), fault=TOO_LONG)
                continue
            yield _parsed(number, text)


def parse_line(text: bytes) -> dict[str, Any] | None:
    """Return the object that one line holds, or None when it holds no object."""
    return _parsed(0, text).event


def _skip_rest(file: BinaryIO, text: bytes) -> int:
    """Read on to the line's end and return how many bytes that took."""
    skipped = 0
    while not text.endswith(b"\n") and (text := file.readline(LINE_BYTES)):
        skipped += len(text)
    return skipped


def _parsed(number: int, text: bytes) -> Line:
    body = text.removeprefix(_BOM) if number == 1 else text
    if not body.strip():
        return Line(number, len(text), fault=BLANK)
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return Line(number, len(text), fault=NOT_UTF8)
    except (ValueError, RecursionError):
        return Line(number, len(text), fault=NOT_JSON if text.endswith(b"\n") else CUT_OFF)
    if not isinstance(value, dict):
        return Line(number, len(text), fault=NOT_AN_OBJECT)
    if b"\\ud" in body or b"\\uD" in body:
        mended = _without_lone_surrogates(value)
        return Line(number, len(text), mended, mended=mended != value)
    return Line(number, len(text), value)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON (RFC 8259)")


def _without_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _without_lone_surrogates(key): _without_lone_surrogates(item)
            for key, item in value.items()
        }
    return value
