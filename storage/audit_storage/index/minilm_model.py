"""Builds the ONNX form of all-MiniLM-L6-v2 from its published safetensors weights.

Called once per machine by the embedder, which keeps the result; it takes seconds. Reads only
the folder that it is given and never the network. The graph is BERT as in Devlin et al. 2018
(post-norm encoder, exact GELU), with the mean over the tokens and the L2 norm that
sentence-transformers puts after it, in operators of ONNX opset 20.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

GRAPH_VERSION: Final = 1
"""Counts changes of what is built here; a cached model of another version is built anew."""

_OPSET: Final = 20
"""First opset with `Gelu`; every ONNX Runtime since 1.17 runs it."""

_IR_VERSION: Final = 9
"""The file format that goes with that opset, so that older runtimes read it too."""

_MASKED: Final = np.float32(10_000.0)
"""Taken from the score of a padding token, which then weighs nothing after the softmax."""

Array = npt.NDArray[Any]


def read_safetensors(path: Path) -> dict[str, Array]:
    """Return the float32 tensors of a safetensors file, by name.

    The format: a little-endian u64 length, that many bytes of JSON header (dtype, shape and
    byte offsets of each tensor), then the bytes. Raises `ValueError` when it is not one.
    """
    raw = np.fromfile(path, dtype=np.uint8)
    try:
        start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
        header = json.loads(raw[8:start].tobytes())
        return {
            name: raw[start + tensor["data_offsets"][0] : start + tensor["data_offsets"][1]]
            .view("<f4")
            .reshape(tensor["shape"])
            for name, tensor in header.items()
            if name != "__metadata__" and tensor["dtype"] == "F32"
        }
    except (ValueError, KeyError, TypeError) as damage:
        raise ValueError(f"{path} is not a whole safetensors file: {damage}") from damage


def build_graph(model_dir: Path) -> onnx.ModelProto:
    """Return the float32 model of `model_dir` (config.json and model.safetensors).

    Inputs `input_ids` and `attention_mask`, int64 of shape (texts, tokens); output
    `embedding`, float32 of shape (texts, hidden size), each row of length 1.
    """
    config = json.loads((model_dir / "config.json").read_text())
    return _Graph(config, read_safetensors(model_dir / "model.safetensors")).build()


def write_models(model_dir: Path, full: Path, small: Path) -> None:
    """Write the float32 model to `full` (90 MB) and its int8 form to `small` (23 MB).

    In `small` the weights are int8 with a scale per output channel; activations are scaled
    at run time.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = build_graph(model_dir)
    # Tells the quantizer that the graph needs no preparation; else it warns about it.
    helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    onnx.save(graph, str(full))
    with _root_logger_kept():
        quantize_dynamic(str(full), str(small), weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Keep the quantizer, which logs on the root logger, from configuring it for everybody."""
    idle = logging.NullHandler()
    logging.root.addHandler(idle)
    try:
        yield
    finally:
        logging.root.removeHandler(idle)


class _Graph:
    """Collects the nodes and weights of one model, in the order of the computation."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Array]) -> None:
        self.heads = int(config["num_attention_heads"])
        self.hidden = int(config["hidden_size"])
        self.layers = int(config["num_hidden_layers"])
        self.epsilon = float(config["layer_norm_eps"])
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def build(self) -> onnx.ModelProto:
        mask = self._op("Cast", "attention_mask", to=TensorProto.FLOAT)
        penalty = self._penalty(mask)
        states = self._embeddings()
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            attended = self._attention(states, penalty, f"{layer}.attention.self")
            states = self._joined(attended, states, f"{layer}.attention.output")
            widened = self._op("Gelu", self._dense(states, f"{layer}.intermediate.dense"))
            states = self._joined(widened, states, f"{layer}.output")
        self._pooled(states, mask)
        return self._model()

    def _op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, list(inputs), [output], name=f"node_{output}", **attributes)
        )
        return output

    def _constant(self, name: str, value: Array) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _whole(self, *numbers: int) -> str:
        return self._constant(f"int_{'_'.join(map(str, numbers))}", np.array(numbers, np.int64))

    def _dense(self, states: str, name: str) -> str:
        weight = self._constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self._constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self._op("Add", self._op("MatMul", states, weight), bias)

    def _norm(self, states: str, name: str) -> str:
        scale = self._constant(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self._constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self._op(
            "LayerNormalization", states, scale, bias, axis=-1, epsilon=self.epsilon
        )

    def _embeddings(self) -> str:
        tables = {
            kind: self.weights[f"embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        }
        words = self._op("Gather", self._constant("words", tables["word"]), "input_ids")
        # Every text is one segment, so its type is added to the positions once and for all.
        places = self._constant("places", tables["position"] + tables["token_type"][0])
        length = self._op("Shape", "input_ids", start=1, end=2)
        placed = self._op("Slice", places, self._whole(0), length, self._whole(0))
        return self._norm(self._op("Add", words, placed), "embeddings.LayerNorm")

    def _penalty(self, mask: str) -> str:
        """Return 0 for each token and a large negative number for padding: (texts, 1, 1, n)."""
        missing = self._op("Sub", mask, self._constant("one", np.array(1, np.float32)))
        spread = self._op("Unsqueeze", missing, self._whole(1, 2))
        return self._op("Mul", spread, self._constant("masked", np.array(_MASKED)))

    def _attention(self, states: str, penalty: str, name: str) -> str:
        size = self.hidden // self.heads
        query, key, value = (
            self._op(
                "Transpose",
                self._op(
                    "Reshape",
                    self._dense(states, f"{name}.{part}"),
                    self._whole(0, 0, self.heads, size),
                ),
                perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3],
            )
            for part in ("query", "key", "value")
        )
        scale = self._constant("scale", np.array(size**-0.5, np.float32))
        scores = self._op("MatMul", self._op("Mul", query, scale), key)
        weights = self._op("Softmax", self._op("Add", scores, penalty), axis=-1)
        gathered = self._op("Transpose", self._op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self._op("Reshape", gathered, self._whole(0, 0, self.hidden))

    def _joined(self, branch: str, states: str, name: str) -> str:
        added = self._op("Add", self._dense(branch, f"{name}.dense"), states)
        return self._norm(added, f"{name}.LayerNorm")

    def _pooled(self, states: str, mask: str) -> None:
        weighed = self._op("Mul", states, self._op("Unsqueeze", mask, self._whole(2)))
        total = self._op("ReduceSum", weighed, self._whole(1), keepdims=0)
        tokens = self._op("ReduceSum", mask, self._whole(1), keepdims=1)
        mean = self._op("Div", total, tokens)
        self._op("LpNormalization", mean, output="embedding", axis=1, p=2)

    def _model(self) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        shape: list[str | int | None] = ["texts", self.hidden]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape)
        weights = list(self.constants.values())
        graph = helper.make_graph(self.nodes, "all-MiniLM-L6-v2", inputs, [output], weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
