"""Citations: the address by which an entry is quoted for as long as it is kept.

Form: `if://audit/{entry_type}/{entry_id}`. The generator writes true UUIDs only (RFC 9562);
the validator also takes the format's own published examples, whose groups have a UUID's
lengths but letters beyond hexadecimal.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from claude_max_audit.vocabulary import AuditEntryType

CITATION_PREFIX = "if://audit/"

_UUID_FORM = r"[0-9a-z]{8}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{12}"
CITATION_PATTERN = (
    rf"^if://audit/({'|'.join(t.value for t in AuditEntryType)})/({_UUID_FORM})\Z"
)
"""Regular expression of a valid citation, shared with the quality checks."""

_CITATION = re.compile(CITATION_PATTERN, re.IGNORECASE)


class Citation(NamedTuple):
    """A citation taken apart."""

    entry_type: AuditEntryType
    entry_id: str


class CitationGenerator:
    """Writes, reads and checks citations. Has no state; every method is static."""

    @staticmethod
    def generate(entry_type: AuditEntryType | str, entry_id: str) -> str:
        """Return the citation of `entry_id`.

        Raises `ValueError` when the type is unknown or the id is not a UUID.
        """
        try:
            kind = AuditEntryType(entry_type)
        except ValueError:
            raise ValueError(
                f"entry_type {entry_type!r} is unknown; known are "
                f"{', '.join(t.value for t in AuditEntryType)}"
            ) from None
        try:
            UUID(entry_id)
        except (ValueError, AttributeError, TypeError):
            raise ValueError(f"entry_id {entry_id!r} is not a UUID (RFC 9562)") from None
        return f"{CITATION_PREFIX}{kind.value}/{entry_id}"

    @staticmethod
    def parse(citation: str) -> Citation:
        """Take a citation apart; raises `ValueError` when it is not one."""
        match = _CITATION.match(citation) if isinstance(citation, str) else None
        if match is None:
            raise ValueError(
                f"{citation!r} is not a citation; the form is if://audit/{{entry_type}}/{{uuid}}"
            )
        return Citation(AuditEntryType(match[1].lower()), match[2])

    @staticmethod
    def validate(citation: str) -> bool:
        """Say whether `citation` has the right form; never raises."""
        return isinstance(citation, str) and _CITATION.match(citation) is not None
