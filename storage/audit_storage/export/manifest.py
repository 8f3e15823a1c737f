"""The manifest beside an export: what the file holds, and how to see that it still does.

`<file>.manifest.json` is written after the file itself has its final name, so a file without
one was interrupted at its very last step. Whoever receives the file checks it with
`sha256sum` and this text alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from audit_storage.atomic_file import atomic_file

MANIFEST_SUFFIX = ".manifest.json"
MANIFEST_VERSION = 1
"""Version of the manifest's own fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one exported file holds. Sizes are bytes, times aware UTC, digests hexadecimal."""

    file: str
    format: str
    rows: int
    size_bytes: int
    sha256: str
    query: dict[str, Any]
    sources: tuple[str, ...]
    first_timestamp: datetime | None
    last_timestamp: datetime | None
    lake_version: int
    created_at: datetime
    manifest_version: int = MANIFEST_VERSION

    def to_json(self) -> str:
        """Return the manifest as JSON text, times as ISO 8601 with `Z`."""
        return json.dumps(asdict(self), indent=2, default=_iso, ensure_ascii=False) + "\n"


def manifest_path(export: Path) -> Path:
    """Return where the manifest of an exported file lies."""
    return export.with_name(export.name + MANIFEST_SUFFIX)


def write_manifest(export: Path, manifest: Manifest) -> Path:
    """Write the manifest of `export`, whole or not at all, over an older one; return its path."""
    path = manifest_path(export)
    with atomic_file(path, overwrite=True) as file:
        file.write(manifest.to_json().encode())
    return path


def _iso(value: object) -> str:
    assert isinstance(value, datetime)
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
