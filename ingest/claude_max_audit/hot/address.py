"""Which Redis the auditor speaks to: the caller's client or address, else the settings'.

The order: a client, a URL, a host or port that is not the default, `AUDIT_REDIS_URL`, the
socket of the embedded server under `AUDIT_HOME`, and last localhost:6379.
"""

from __future__ import annotations

from typing import Any

from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import Settings

DEFAULT_ADDRESS = ("localhost", 6379, 0)
EMBEDDED_SOCKET = "redis.sock"
"""Name of the embedded server's unix socket in `Settings.redis_dir`."""


def open_hot_store(
    settings: Settings,
    client: Any,
    address: tuple[str, int, int],
    *,
    keeps_until_archived: bool,
) -> HotStore:
    """Return a hot store that connects at its first command; never raises for a dead server."""
    if client is not None:
        return HotStore.from_client(
            client,
            hot_days=settings.hot_storage_days,
            keeps_until_archived=keeps_until_archived,
            compress_bytes=settings.hot_compress_bytes,
        )
    return HotStore.connect(
        redis_url(settings, address),
        hot_days=settings.hot_storage_days,
        keeps_until_archived=keeps_until_archived,
        compress_bytes=settings.hot_compress_bytes,
    )


def redis_url(settings: Settings, address: tuple[str, int, int] = DEFAULT_ADDRESS) -> str:
    """Return the URL of the Redis to use (redis://, rediss:// or unix://)."""
    host, port, db = address
    if address != DEFAULT_ADDRESS:
        return f"redis://{host}:{port}/{db}"
    if settings.redis_url is not None:
        return settings.redis_url
    socket = settings.redis_dir / EMBEDDED_SOCKET
    if socket.exists():
        return f"unix://{socket}"
    return f"redis://{host}:{port}/{db}"
