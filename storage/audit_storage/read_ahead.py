"""Makes the next of something while the one before is being used: reading beside writing.

The export and the purge read the lake through it. One thread works ahead, by one item and no
further, so memory grows by one. Order stays, and what the source raises comes out where its
item would have; a consumer that stops early closes the source.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Give the items in their order; the next one is made while the caller has this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as aside:
        coming = aside.submit(next, items, None)
        try:
            while (item := coming.result()) is not None:
                coming = aside.submit(next, items, None)
                yield item
        finally:
            # A generator cannot be closed while it runs; what it raises now nobody waits for.
            with suppress(BaseException):
                coming.result()
            if isinstance(items, Generator):
                items.close()
