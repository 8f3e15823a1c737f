"""Redis commands as bytes (RESP, redis.io/docs/latest/develop/reference/protocol-spec). Pure."""

from __future__ import annotations


def command(*words: str) -> bytes:
    """Pack one command."""
    return b"*%d\r\n%b" % (len(words), bulk(*words))


def bulk(*words: str) -> bytes:
    """Pack words as they stand within a command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in map(str.encode, words)])
