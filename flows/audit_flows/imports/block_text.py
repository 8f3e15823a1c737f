"""Text of a transcript's content: plain, or a list of blocks of text, images and documents.

An image or document is never stored. A line with its media type, size and SHA-256 stands
where it was, so that the original can be recognised wherever it is kept.
"""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any, NamedTuple

_ATTACHED = frozenset({"image", "document"})


class BlockText(NamedTuple):
    """Text, and a description (kind, media_type, bytes, sha256) of all that was left out."""

    text: str
    left_out: tuple[dict[str, Any], ...] = ()

    @property
    def notes(self) -> dict[str, Any]:
        """What the entry's metadata says about what was left out; empty when nothing was."""
        return {"left_out": list(self.left_out)} if self.left_out else {}


def block_text(content: Any) -> BlockText:
    """Return the text of `content`, blocks joined by line ends.

    Blocks of a form that is not known are kept as their JSON.
    """
    if isinstance(content, str):
        return BlockText(content)
    if not isinstance(content, list):
        return BlockText("" if content is None else compact_json(content))
    texts: list[str] = []
    left_out: list[dict[str, Any]] = []
    for block in content:
        if isinstance(block, dict) and block.get("type") in _ATTACHED:
            described = _described(block)
            left_out.append(described)
            texts.append(_stand_in(described))
        else:
            texts.append(_text_of(block))
    return BlockText("\n".join(texts), tuple(left_out))


def compact_json(value: Any) -> str:
    """Return `value` as one line of JSON, as a reader of the trail sees it."""
    return json.dumps(value, ensure_ascii=False)


def _text_of(block: Any) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, dict) and isinstance(block.get("text"), str):
        return str(block["text"])
    return compact_json(block)


def _described(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    described: dict[str, Any] = {
        "kind": block["type"],
        "media_type": str(source.get("media_type", "unknown")),
    }
    data = source.get("data")
    if isinstance(data, str):
        held, described["encoding"] = _decoded(data)
        described |= {"bytes": len(held), "sha256": sha256(held).hexdigest()}
    elif "url" in source:
        described["url"] = str(source["url"])
    return described


def _decoded(data: str) -> tuple[bytes, str]:
    """Return the bytes of base64 text; text that is not base64 counts as it stands."""
    try:
        return b64decode(data, validate=True), "base64"
    except ValueError:
        return data.encode(), "text"


def _stand_in(described: dict[str, Any]) -> str:
    measure = ""
    if "bytes" in described:
        measure = f", {described['bytes']} bytes, SHA-256 {described['sha256']}"
    return f"[{described['kind']} left out: {described['media_type']}{measure}]"
