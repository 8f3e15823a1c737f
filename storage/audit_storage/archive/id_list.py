"""The ids of a day's entries in sixteen bytes each: millions of them fit where thousands would.

The archive remembers with it what it may release. Ids are written as our generator writes them
(RFC 9562, lower case); those of another form are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

_LETTERS = 32
"""Hexadecimal digits of one id."""


class IdList:
    """Ids in the order in which they came. Each must be given once."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._others: list[str] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            digits = block.hex()
            for at in range(0, len(digits), _LETTERS):
                one = digits[at : at + _LETTERS]
                yield f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}"
        yield from self._others

    def add(self, ids: pl.Series) -> None:
        """Append a column of ids."""
        self._size += len(ids)
        usual = ids.str.contains(USUAL_ID)
        if not usual.all():
            self._others.extend(ids.filter(~usual))
            ids = ids.filter(usual)
        digits = ids.str.replace_all("-", "", literal=True).str.join("")
        self._blocks.append(bytes.fromhex(digits.item()))


USUAL_ID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
"""What our generator writes."""
