"""Every default and every environment variable, each with the reason for its value.

Nothing else in the project reads the environment. A setting given in code wins over the
environment, the environment wins over the default. Without any, all data lives under
`AUDIT_HOME`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

BATCH_SIZE = 10
"""Entries that wake the writer at once; the customer's document asks for ten."""

LINGER_SECONDS = 0.2
"""Longest that a lone entry waits in the queue for company before it is written."""

MAX_BATCH = 1024
"""Most entries in one pipeline: past this, Redis' throughput no longer grows."""

LAKE_BATCH = 20_000
LAKE_LINGER_SECONDS = 5.0
"""Without Redis, entries go to the lake in fewer and larger batches: each is a commit."""

HOT_STORAGE_DAYS = 30
"""Days an archived entry stays in Redis: what dashboards and on-call people look at."""

HOT_COMPRESS_BYTES = 0
"""Size of an entry's JSON from which Redis gets it compressed; 0: never. Two thirds of the memory
of large entries are saved; each costs the writer as long as three of 600 bytes, and a program
that reads Redis by itself must unpack it."""

COLD_STORAGE_YEARS = 7
"""Calendar years in the lake: the usual span in which records may be asked for in court."""

MIN_RETENTION_DAYS = 183
"""Floor of any retention: six months of logs, as Article 26(6) of the EU AI Act asks."""

MAX_CONTENT_BYTES = 16 * 1024 * 1024
"""Largest content of one entry: above any model's context; larger belongs in a file store."""

MAX_METADATA_BYTES = 1024 * 1024
"""Largest metadata of one entry as JSON text: it is read with every page that shows it."""

MAX_ID_CHARACTERS = 512
"""Longest agent, swarm or session id: ids become Redis keys and sort columns."""

QUEUE_BYTES = 64 * 1024 * 1024
"""Most bytes of accepted entries held in memory while the store is away."""

SPOOL_BYTES = 8 * 1024**3
"""Most bytes in the spool of one process: about four hours at 1,000 entries/s of 600 bytes."""

SEGMENT_BYTES = 4 * 1024 * 1024
"""Size of a spool segment: large enough to be rare to change, small enough to be freed soon."""

KEEP_SECONDS = 300
"""How long entries stay in the spool after Redis answered: one that restarts empty or behind
gets them again. A Redis that only takes snapshots may lose some minutes."""

KEEP_BYTES = 64 * 1024 * 1024
"""Most bytes kept for that reason, but for the last few seconds, which are kept whole."""

CONNECT_TIMEOUT_SECONDS = 1.0
"""How long to wait for Redis to take a connection before the entry stays in the spool."""

ANSWER_TIMEOUT_SECONDS = 10.0
"""How long Redis may take to answer a batch or a page."""

EXIT_FLUSH_SECONDS = 3.0
"""How long a process that ends waits for its queue; what remains is safe in the spool."""

HOT_TEXT_ENTRIES = 2_000
"""Newest entries that only Redis holds which a text query reads for words."""

HOT_EMBED_ENTRIES = 256
"""Newest of those which are also compared by meaning: a second or two of embedding."""

LAKE_SCHEMES = ("file", "s3", "s3a", "gs", "az", "abfs", "abfss")
"""Where a lake may lie, beside folders: what Delta, Polars and Arrow all reach."""

EMBEDDER_CHOICES = ("minilm", "download", "none")
"""`minilm`: the local copy; `download`: let Chroma fetch it; `none`: search by words only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are and how they behave. Paths are absolute, sizes are bytes."""

    home: Path
    """`AUDIT_HOME`: the folder under which everything lives by default."""
    redis_url: str | None = None
    """`AUDIT_REDIS_URL`: redis://, rediss:// or unix://; None: the embedded server of `home`."""
    lake_uri: str = ""
    """`AUDIT_LAKE_URI`: a folder or s3://, gs://, az://; default `home`/lake."""
    lake_options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """`AUDIT_LAKE_OPTIONS`: what the object store's own variables do not say; may hold keys."""
    chroma: Path = Path()
    """`AUDIT_CHROMA`: folder of the semantic index; default `home`/chroma."""
    spool_dir: Path = Path()
    """`AUDIT_SPOOL_DIR`: folder of the write-ahead logs; default `home`/spool."""
    spool_bytes: int = SPOOL_BYTES
    """`AUDIT_SPOOL_BYTES`: most bytes that one process may spool."""
    queue_bytes: int = QUEUE_BYTES
    """`AUDIT_QUEUE_BYTES`: most bytes held in memory with `durability="memory"`."""
    keep_seconds: int = KEEP_SECONDS
    """`AUDIT_KEEP_SECONDS`: how long what Redis answered for stays in the spool."""
    keep_bytes: int = KEEP_BYTES
    """`AUDIT_KEEP_BYTES`: most bytes of one process that stay for that reason."""
    exports: Path = Path()
    """`AUDIT_EXPORTS`: folder of exports that name no path; default `home`/exports."""
    quality_docs: Path = Path()
    """`AUDIT_QUALITY_DOCS`: folder of the quality reports' pages; default `home`/quality."""
    hot_storage_days: int = HOT_STORAGE_DAYS
    """`AUDIT_HOT_DAYS`: days an archived entry stays in Redis."""
    hot_compress_bytes: int = HOT_COMPRESS_BYTES
    """`AUDIT_HOT_COMPRESS_BYTES`: entries of so many bytes are compressed in Redis; 0: none."""
    cold_storage_years: int = COLD_STORAGE_YEARS
    """`AUDIT_COLD_YEARS`: calendar years an entry stays in the lake."""
    max_content_bytes: int = MAX_CONTENT_BYTES
    """`AUDIT_MAX_CONTENT_BYTES`: largest content of one entry."""
    embedder: str = "minilm"
    """`AUDIT_EMBEDDER`: minilm, download or none."""
    model_dir: Path | None = None
    """`AUDIT_MODEL_DIR`: folder of the all-MiniLM-L6-v2 model; None: the installed wheel's."""

    @property
    def redis_dir(self) -> Path:
        """Folder of the embedded Redis: its socket, append-only file and log."""
        return self.home / "redis"

    @property
    def prefect_dir(self) -> Path:
        """Folder of Prefect's own database and settings."""
        return self.home / "prefect"

    def as_environment(self) -> dict[str, str]:
        """Return the variables from which `load_settings` makes the same settings."""
        texts: dict[str, Any] = {name: getattr(self, name) for name in ENVIRONMENT}
        texts["lake_options"] = json.dumps(dict(self.lake_options)) if self.lake_options else None
        return {ENVIRONMENT[name]: str(text) for name, text in texts.items() if text is not None}


ENVIRONMENT: dict[str, str] = {
    "home": "AUDIT_HOME",
    "redis_url": "AUDIT_REDIS_URL",
    "lake_uri": "AUDIT_LAKE_URI",
    "lake_options": "AUDIT_LAKE_OPTIONS",
    "chroma": "AUDIT_CHROMA",
    "spool_dir": "AUDIT_SPOOL_DIR",
    "spool_bytes": "AUDIT_SPOOL_BYTES",
    "queue_bytes": "AUDIT_QUEUE_BYTES",
    "keep_seconds": "AUDIT_KEEP_SECONDS",
    "keep_bytes": "AUDIT_KEEP_BYTES",
    "exports": "AUDIT_EXPORTS",
    "quality_docs": "AUDIT_QUALITY_DOCS",
    "hot_storage_days": "AUDIT_HOT_DAYS",
    "hot_compress_bytes": "AUDIT_HOT_COMPRESS_BYTES",
    "cold_storage_years": "AUDIT_COLD_YEARS",
    "max_content_bytes": "AUDIT_MAX_CONTENT_BYTES",
    "embedder": "AUDIT_EMBEDDER",
    "model_dir": "AUDIT_MODEL_DIR",
}
"""Setting to environment variable; the documentation is tested against this table."""


_WHOLE_NUMBERS = (
    "spool_bytes",
    "queue_bytes",
    "keep_seconds",
    "keep_bytes",
    "hot_storage_days",
    "hot_compress_bytes",
    "cold_storage_years",
    "max_content_bytes",
)


def load_settings(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Read the settings: `given` (None counts as not given), then `environ`, then defaults.

    Raises `ValueError` naming the variable whose value does not fit.
    """
    environ = os.environ if environ is None else environ
    chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    for name, variable in ENVIRONMENT.items():
        text = environ.get(variable)
        if name not in chosen and text:
            chosen[name] = _parsed(name, variable, text)
    home = Path(chosen.pop("home", None) or _default_home(environ)).expanduser().absolute()
    chosen["lake_uri"] = _place(chosen.get("lake_uri"), home / "lake")
    for name in ("chroma", "spool_dir", "exports", "quality_docs"):
        default = home / name.removesuffix("_dir").removesuffix("_docs")
        chosen[name] = Path(chosen.get(name) or default).absolute()
    unknown = set(chosen) - {f.name for f in fields(Settings)}
    if unknown:
        raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
    settings = Settings(home=home, **chosen)
    _check(settings)
    return settings


def _parsed(name: str, variable: str, text: str) -> Any:
    if name in _WHOLE_NUMBERS:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{variable} must be a whole number, got {text!r}") from None
    if name == "lake_options":
        try:
            return json.loads(text)
        except ValueError:  # the text itself may hold a key, so it is not shown
            raise ValueError(f"{variable} must be a JSON object of texts") from None
    return Path(text).expanduser() if name in ("chroma", "spool_dir", "model_dir") else text


def _place(uri: Any, default: Path) -> str:
    """Return object-store URIs as they are and folders as absolute paths."""
    if not uri:
        return str(default)
    text = str(uri)
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute())


def _check(settings: Settings) -> None:
    for name in _WHOLE_NUMBERS:
        value = getattr(settings, name)
        least = 0 if name == "hot_compress_bytes" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{name} ({ENVIRONMENT[name]}) must be a whole number from {least} on, "
                f"got {value!r}"
            )
    scheme, is_uri, _ = settings.lake_uri.partition("://")
    if is_uri and scheme not in LAKE_SCHEMES:
        raise ValueError(
            f"lake_uri (AUDIT_LAKE_URI) begins with {scheme}://; "
            f"known are folders and {', '.join(f'{one}://' for one in LAKE_SCHEMES)}"
        )
    options = settings.lake_options
    if not isinstance(options, Mapping) or not all(
        isinstance(word, str) for pair in options.items() for word in pair
    ):
        raise ValueError("lake_options (AUDIT_LAKE_OPTIONS) must be a JSON object of texts")
    if settings.embedder not in EMBEDDER_CHOICES:
        raise ValueError(
            f"embedder (AUDIT_EMBEDDER) is {settings.embedder!r}; "
            f"known are {', '.join(EMBEDDER_CHOICES)}"
        )


def _default_home(environ: Mapping[str, str]) -> Path:
    """The user's data folder by the platform's custom (XDG Base Directory on Linux)."""
    user = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return user / "Library" / "Application Support" / "claude-max-audit"
    return Path(environ.get("XDG_DATA_HOME") or user / ".local/share") / "claude-max-audit"
