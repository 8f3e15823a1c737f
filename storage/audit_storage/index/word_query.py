"""A text query as words: what must all occur, what may, and whether it names a thing.

Pure; read by the word index and by the search. The words' form is SQLite FTS5's query
syntax (https://www.sqlite.org/fts5.html, section 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PIECE: Final = re.compile(r'"([^"]*)"|(\S+)')
_INSIDE: Final = re.compile(r"\w[_/:@.#\\]+\w")
"""Marks that join the parts of a name: snake_case, paths, addresses, versions."""

_EDGES: Final = "\"'`.,;:!?()[]{}<>"

STOP_WORDS: Final = frozenset(
    """
    a all am an and any are as at be been by can could did do does every find for from get
    give had has have how i in into is it its list look me my of on or our please search
    show tell that the their them there these they this those to us was we were what when
    where which who whose why will with would you your
    """.split()  # noqa: SIM905 (a block of words reads better than 70 quoted ones)
)
"""Words that ask rather than describe: left out of a question unless nothing else is there."""

_ASKING: Final = re.compile(
    r"(?:please\s+|can you\s+|could you\s+)?(?:find|show|list|get|give|search|tell|look)\b"
    r"(?:\s+(?:me|us|for|at|up|all|any|every|each|of|the|about)\b)*\s*",
    re.IGNORECASE,
)
"""How a request begins: "Find all", "please show me the"."""

_ENDINGS: Final = ("ingly", "ings", "edly", "ies", "ing", "ed", "es", "s", "e")
_LEAST_STEM: Final = 4
"""Letters that must remain of a word whose ending is cut, so that it still means something."""


@dataclass(frozen=True, slots=True)
class WordQuery:
    """What the words of a text query ask for.

    `every` matches entries that hold every word; `some` those that hold any word in any of
    its forms (None for a name, which has no forms). A query is a `name` when each piece of
    it is an id, a path, a number or a quoted phrase: then likeness of meaning is no answer.
    """

    every: str | None
    some: str | None
    name: bool


def parse_words(text: str) -> WordQuery:
    """Read a text query; text in double quotes is a phrase, any other word stands alone."""
    phrases: list[str] = []
    words: list[str] = []
    for phrase, bare in _PIECE.findall(text.replace("\0", " ")):
        piece = phrase or bare.strip(_EDGES)
        if any(character.isalnum() for character in piece):
            (phrases if phrase else words).append(piece)
    telling = [word for word in words if word.lower() not in STOP_WORDS]
    kept = telling if telling or phrases else words
    pieces = [_quoted(piece) for piece in (*phrases, *kept)]
    if not pieces:
        return WordQuery(None, None, name=False)
    name = all(_is_name(word) for word in kept)
    some = None if name else " OR ".join([*map(_quoted, phrases), *map(_any_form, kept)])
    return WordQuery(" AND ".join(pieces), some, name)


def what_is_meant(text: str) -> str:
    """Return a query without the words that ask ("Find all"), for comparing by meaning.

    Measured: with them the likeness of "Find all authorization failures" to a refused login
    falls from 0.39 to 0.24, since no entry speaks of finding.
    """
    request = _ASKING.match(text.strip())
    return (text.strip()[request.end() :] if request else "") or text


def _is_name(word: str) -> bool:
    return _INSIDE.search(word) is not None or any(c.isdigit() for c in word)


def _quoted(piece: str) -> str:
    """Return an FTS5 string: its words in this order, next to each other."""
    return '"' + piece.replace('"', '""') + '"'


def _any_form(word: str) -> str:
    """Return a search for all words that begin like `word` without its English ending."""
    if _is_name(word) or not word.isalpha():
        return _quoted(word)
    for ending in _ENDINGS:
        if word.lower().endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return _quoted(word[: -len(ending)]) + " *"
    return _quoted(word) + (" *" if len(word) >= _LEAST_STEM else "")
