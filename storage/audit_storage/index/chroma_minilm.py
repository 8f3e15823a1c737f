"""all-MiniLM-L6-v2 as Chroma ships it: for machines where our own copy is not installed.

Opened by `embedder` when `AUDIT_EMBEDDER=download`, the one setting that lets anything here
use the network, and only when Chroma's cache lacks the model; what will be fetched is logged
first. Reads 256 tokens of a text and runs in float32, so it is several times slower.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audit_storage.index.minilm import DIMENSION, MAX_CHARACTERS, MODEL_NAME, Vectors
from claude_max_audit.errors import EmbedderMissingError

log = logging.getLogger(__name__)


class ChromaMiniLM:
    """The model from Chroma's cache, else downloaded. Safe to use from several threads."""

    name = MODEL_NAME
    dimension = DIMENSION

    def __init__(self, progress: Callable[[str], None] | None = None) -> None:
        self._progress = progress
        self._function: Any = None
        self._loading = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the texts' vectors; see `Embedder`.

        Raises `EmbedderMissingError` when the model must be fetched and cannot be.
        """
        if not texts:
            return np.empty((0, DIMENSION), np.float32)
        function = self._loaded()
        return np.asarray(function([text[:MAX_CHARACTERS] for text in texts]), np.float32)

    def _loaded(self) -> Any:
        from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

        with self._loading:
            if self._function is None:
                function = ONNXMiniLM_L6_V2(preferred_providers=["CPUExecutionProvider"])
                kept = Path(function.DOWNLOAD_PATH) / function.EXTRACTED_FOLDER_NAME
                if not (kept / "model.onnx").is_file():
                    self._say(f"downloading {MODEL_NAME} from {function.MODEL_DOWNLOAD_URL}")
                try:
                    function._download_model_if_not_exists()
                except Exception as refused:  # whatever the network or the archive does
                    source = function.MODEL_DOWNLOAD_URL
                    raise EmbedderMissingError(f"{source}: {refused}") from refused
                self._function = function
            return self._function

    def _say(self, message: str) -> None:
        log.warning(message)
        if self._progress is not None:
            self._progress(message)
