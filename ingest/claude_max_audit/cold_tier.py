"""The one door from the ingest library to the platform, opened at first use.

`claude_max_audit` imports nothing of the platform; it looks up `audit_storage.cold_tier` by
name when a call needs the lake, and says which pip command brings it when it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from claude_max_audit.entry import AuditEntry
from claude_max_audit.errors import PlatformMissingError
from claude_max_audit.hot.store import HotStore
from claude_max_audit.query import Query
from claude_max_audit.results import AuditQueryResult
from claude_max_audit.settings import Settings


class ColdTier(Protocol):
    """What the auditor asks of the platform. Every call blocks; the auditor runs it aside."""

    def search(
        self, query: Query, limit: int, offset: int, hot: HotStore | None
    ) -> AuditQueryResult:
        """Search hot and cold together; `hot` is None when Redis is away or not used."""

    def find(self, entry_id: str) -> AuditEntry | None:
        """Return the archived entry with this id, or None."""

    def count(self) -> int:
        """Return the number of archived entries, from the table's log."""

    def append(self, batch: Sequence[bytes]) -> None:
        """Write canonical bytes straight to the lake; those that it holds are passed over."""

    def archive(self, hot: HotStore, older_than: datetime | None) -> int:
        """Archive every UTC day that ended by `older_than` (None: today too); returns how many."""

    def purge(self, older_than_days: int | None, hot: HotStore | None) -> int:
        """Remove what is past its retention (None: calendar years); returns the entries."""

    def export(
        self,
        query: Query,
        format: str,
        output_path: Path | None,
        hot: HotStore | None,
    ) -> Path:
        """Write every match to one file, whole or not at all, with its manifest."""


PLATFORM_MODULE = "audit_storage.cold_tier"
"""Where the platform keeps its implementation: a module with `open_cold_tier(settings)`."""


def load_cold_tier(settings: Settings, need: str) -> ColdTier:
    """Open the platform's cold tier; raises `PlatformMissingError` naming `need`."""
    try:
        module = import_module(PLATFORM_MODULE)
    except ImportError as missing:
        raise PlatformMissingError(need, str(missing)) from missing
    open_cold_tier = cast(Callable[[Settings], ColdTier], module.open_cold_tier)
    return open_cold_tier(settings)
