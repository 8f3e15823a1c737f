"""Checks of what callers pass to `log_*`: each names the argument, the fault and the remedy.

`TypeError` for a wrong type, `ValueError` for a wrong value, always before anything is kept.
The checks run on every call of every agent, so the common case costs a set lookup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from math import isfinite
from typing import Any, TypeVar

import msgspec

from claude_max_audit.entry import as_utc
from claude_max_audit.settings import MAX_ID_CHARACTERS, MAX_METADATA_BYTES

Word = TypeVar("Word", bound=StrEnum)

_UNSAFE = re.compile(r"[\x00-\x1f\x7f*?\[\]\\\ud800-\udfff]")
_SEEN_IDS_LIMIT = 50_000
_seen_ids: set[str] = set()
"""Identifiers that passed before; cleared when full, so that it cannot grow for ever."""

_encode_sorted = msgspec.json.Encoder(order="deterministic").encode
NO_METADATA = msgspec.Raw(b"{}")


def identifier(name: str, value: Any) -> str:
    """Return `value` if it can name an agent, swarm or session.

    Control characters and Redis glob characters are refused: an id becomes part of a key
    that people search for with patterns, and of lines that they read.
    """
    if type(value) is str and value in _seen_ids:
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name} is empty; every entry names who did it")
    if len(value) > MAX_ID_CHARACTERS:
        raise ValueError(
            f"{name} has {len(value)} characters; at most {MAX_ID_CHARACTERS} are allowed"
        )
    if found := _UNSAFE.search(value):
        raise ValueError(
            f"{name} {value!r} contains {found[0]!r}; control characters and * ? [ ] \\ are "
            "not allowed in ids: percent-encode them (urllib.parse.quote)"
        )
    text = str(value)
    if len(_seen_ids) >= _SEEN_IDS_LIMIT:
        _seen_ids.clear()
    _seen_ids.add(text)
    return text


def optional_identifier(name: str, value: Any) -> str | None:
    """Return None, or `value` if it can be an id."""
    return None if value is None else identifier(name, value)


def word(name: str, value: Any, known: type[Word]) -> Word:
    """Return the member of `known` that `value` is or spells."""
    if type(value) is known:
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a {known.__name__} or its text, not {_kind(value)}")
    try:
        return known(value)
    except ValueError:
        raise ValueError(f"{name} {value!r} is unknown; known are {', '.join(known)}") from None


def utf8(name: str, value: Any, limit: int) -> bytes:
    """Return the UTF-8 bytes of `value` if it is text that has them, within `limit`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {_kind(value)}; encode it first (json.dumps)")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as bad:
        raise ValueError(
            f"{name} holds a lone surrogate at character {bad.start}, which UTF-8 cannot "
            "hold; decode its source with errors='replace'"
        ) from None
    if len(encoded) > limit:
        raise ValueError(
            f"{name} has {len(encoded)} bytes, more than the {limit} allowed for one entry; store "
            "it elsewhere and log its address and hash, or raise AUDIT_MAX_CONTENT_BYTES"
        )
    return encoded


def whole_number(name: str, value: Any) -> int:
    """Return `value` if it is a whole number, zero or more, that 63 bits hold."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {_kind(value)}")
    if not 0 <= value < 2**63:
        raise ValueError(f"{name} must be between 0 and 2**63 - 1, got {value}")
    return value


def moment(name: str, value: Any) -> datetime:
    """Return `value` as aware UTC; a naive datetime is taken to be UTC already."""
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, not {_kind(value)}")
    try:
        return as_utc(value)
    except OverflowError:
        raise ValueError(f"{name} {value!r} is out of range in UTC") from None


def metadata_json(name: str, value: Any) -> msgspec.Raw:
    """Return the JSON text (keys sorted, no white space) of a caller's metadata mapping."""
    if not value and (value is None or isinstance(value, Mapping)):
        return NO_METADATA
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of text to JSON values, not {_kind(value)}")
    try:
        if fault := _json_fault(value):
            raise ValueError(name + fault)
        encoded = _encode_sorted(value if type(value) is dict else dict(value))
    except RecursionError:
        raise ValueError(f"{name} refers to itself or is nested too deeply for JSON") from None
    except (UnicodeEncodeError, OverflowError) as bad:
        raise ValueError(f"{name} cannot be written as JSON: {bad}") from None
    if len(encoded) > MAX_METADATA_BYTES:
        raise ValueError(
            f"{name} has {len(encoded)} bytes of JSON, more than the {MAX_METADATA_BYTES} "
            "allowed; put large text into the content"
        )
    return msgspec.Raw(encoded)


_INTEGER_LIMIT = 2**63
_PLAIN = frozenset({str, bool, type(None)})
"""Types of which JSON can hold every value."""


def _json_fault(value: Any) -> str | None:
    """Return None if JSON can hold `value` exactly, else the path to what it cannot and why."""
    if type(value) in _PLAIN:
        return None
    if type(value) is dict or isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                return f" has the key {key!r}; JSON keys are text"
            kind = type(inner)
            if kind in _PLAIN or (kind is int and -_INTEGER_LIMIT <= inner < _INTEGER_LIMIT):
                continue
            if fault := _json_fault(inner):
                return f"[{key!r}]{fault}"
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            if fault := _json_fault(inner):
                return f"[{at}]{fault}"
    elif isinstance(value, float):
        if not isfinite(value):
            return f" is {value}, which JSON cannot hold; use None or text"
    elif isinstance(value, int):
        if not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
            return " is an integer beyond 64 bits; write it as text"
    elif value is not None and not isinstance(value, str):
        return f" is a {_kind(value)}, which JSON cannot hold; turn it into text or a number"
    return None


def _kind(value: Any) -> str:
    return type(value).__name__


def required_text(name: str, value: Any) -> str:
    """Return `value` if it is text; its length is checked where it is kept."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {_kind(value)}; encode it first (json.dumps)")
    return value


def finite_number(name: str, value: Any) -> float:
    """Return `value` if it is a number that JSON can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {_kind(value)}")
    if not isfinite(value):
        raise ValueError(f"{name} is {value}, which JSON cannot hold")
    return value


def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, and an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of text to JSON values, not {_kind(value)}")
    return value


def details(name: str, value: Any) -> Any:
    """Return a security event's details as JSON can hold them; the rest becomes text.

    An alarm is never refused for the shape of its details.
    """
    if value is None or _json_fault(value) is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): details(name, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [details(name, inner) for inner in value]
    return str(value)
