"""Embedders: text to vectors of length 1, in which nearness is likeness of meaning.

Called by the index, when it adds and when it searches. Which model it is, the settings say;
nothing here loads one before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from audit_storage.index.chroma_minilm import ChromaMiniLM
from audit_storage.index.minilm import MiniLM, Vectors, find_model
from claude_max_audit.settings import Settings


class Embedder(Protocol):
    """Turns texts into vectors. `name` says which space they lie in: never mix two."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 of shape (len(texts), dimension), each row of length 1, in order."""


def open_embedder(
    settings: Settings, progress: Callable[[str], None] | None = None
) -> Embedder | None:
    """Return the embedder that the settings choose; None for "none": search by words only.

    Cheap: the model is loaded (and, the first time, built) when it first embeds; `progress`
    is then told what takes time. Raises `EmbedderMissingError` when the model is not here.
    """
    if settings.embedder == "none":
        return None
    if settings.embedder == "download":
        return ChromaMiniLM(progress)
    return MiniLM(find_model(settings.model_dir), settings.home / "models", progress)
