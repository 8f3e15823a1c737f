"""What a table's storage and its libraries raise, in the project's own kinds of errors.

Whatever reads or writes the lake does it within `answering`, which names the place and the cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError

from claude_max_audit.errors import LakeUnavailableError, TransientError

_COLOUR = re.compile(r"\x1b\[\d*m")
"""What the library puts around the arrows between an error and its causes."""

_OF_S3 = re.compile(r"<(?:Code|Message)>([^<]+)<")
"""What an object store says is wrong, in the XML of its answer."""


class OvertakenError(TransientError):
    """Another writer committed first; nothing of this commit is in the table. Read again."""

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = uri
        self.reason = reason
        super().__init__(
            f"another writer changed the table at {uri} first ({reason}); "
            "nothing was written: read the table again and repeat"
        )

    @property
    def is_conflict(self) -> bool:
        """Say whether the log itself names a concurrent commit; else a storage may have failed
        in the middle, and the commit may stand."""
        return "oncurrent" in self.reason


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Name the place in whatever its storage raises."""
    try:
        yield
    except CommitFailedError as failed:
        raise OvertakenError(uri, _reason(failed)) from failed
    except (DeltaError, OSError, pl.exceptions.PolarsError, pa.ArrowException) as failed:
        raise LakeUnavailableError(uri, _reason(failed)) from failed


def _reason(failed: Exception) -> str:
    """Return the first line of a message; of a chain of causes also the first and the last."""
    text = _COLOUR.sub("", str(failed)).strip()
    lines = [line.strip() for line in text.partition("<?xml")[0].splitlines()]
    causes = [line.removeprefix("↳").strip() for line in lines[1:] if line.startswith("↳")]
    causes = [cause for cause in causes if cause]
    told = [*lines[:1], *causes[:1], *causes[1:][-1:], *_OF_S3.findall(text)]
    return ": ".join(part.rstrip(": ") for part in told) or type(failed).__name__
