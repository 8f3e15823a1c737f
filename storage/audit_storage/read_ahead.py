"""Makes the next of something while the one before is being used: reading beside writing.

The export and the purge read the lake through it, the archive Redis. It works ahead by one item
(`read_ahead`) or by one for each thread (`work_ahead`) and no further, so memory is bounded.
Order stays, and what the source raises comes out where its item would have; a consumer that stops
early closes the source of `read_ahead`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


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


def work_ahead(
    work: Callable[[T], R], items: Iterator[T], workers: int
) -> Generator[R, None, None]:
    """Give what `work` makes of each item, in the items' order; so many are made at once."""
    with ThreadPoolExecutor(workers, thread_name_prefix="work-ahead") as aside:
        coming: deque[Future[R]] = deque()
        try:
            for item in items:
                coming.append(aside.submit(work, item))
                del item  # what was made of it may be much smaller
                if len(coming) > workers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
