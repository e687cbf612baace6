"""Builds all-MiniLM-L6-v2 as an ONNX graph from its safetensors file.

The package contains the weights only, and PyTorch, which could export the graph, is hundreds of times larger than this
module. The model is a BERT encoder: embeddings, six layers of attention and feed-forward, the mean over the tokens, and
normalization to unit length.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.providers.common import model_files

GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
DIMENSION = 384

_REVISION = 1  # increase it when the graph changes: it is part of the directory's name in the cache
_LAYERS = 6
_HEADS = 12
_HEAD = DIMENSION // _HEADS
_EPSILON = 1e-12  # of the layer normalization in BERT
_MASKED = -1e9  # added to the attention scores of padding, so that its weight becomes exactly 0

Weights = Mapping[str, npt.NDArray[np.float32]]


def graph_directory(cache: Path) -> Path:
    """Returns the directory with GRAPH and TOKENIZER. Builds it the first time.

    Raises:
        ModelError: The weights are missing or differ from the original.
    """
    digest = model_files.MINILM.files[0].sha256[:8]
    return model_files.build_once(cache / f"{model_files.MINILM.name}-onnx{_REVISION}-{digest}", _build)


def _build(directory: Path) -> None:
    # These imports are slow, and needed only once on a machine.
    import onnx  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    verified = directory / "verified"
    verified.mkdir()
    model_files.assemble(model_files.MINILM, verified)
    graph = _Graph(load_file(verified / "model.safetensors")).model()
    onnx.checker.check_model(graph)
    onnx.save(graph, str(directory / GRAPH))
    (verified / TOKENIZER).rename(directory / TOKENIZER)
    shutil.rmtree(verified)


class _Graph:
    """Builder that collects nodes and constants. Methods that add a node return the name of its output."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def model(self) -> Any:
        """Returns the model: ids int64 and mask float32 [texts, tokens] → vectors float32 [texts, DIMENSION]."""
        from onnx import TensorProto, helper  # noqa: PLC0415

        hidden = self._embeddings()
        attention_mask = self._op(
            "Mul",
            self._op("Sub", self._scalar(1), self._op("Unsqueeze", "mask", self._ints("axes_1_2", 1, 2))),
            self._scalar(_MASKED),
        )
        for layer in range(_LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden, attention_mask)
        self._pooled(hidden, "vectors")
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"]),
                helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["texts", "tokens"]),
            ],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", DIMENSION])],
            list(self._constants.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _embeddings(self) -> str:
        """Adds the sum of the word, position and token-type embeddings, normalized. The type is always the first."""
        positions = self._constant(
            "positions",
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0],
        )
        tokens = self._op("Gather", self._op("Shape", "ids"), self._ints("index_1", 1))
        placed = self._op("Slice", positions, self._ints("index_0", 0), tokens, self._ints("axis_0", 0))
        words = self._constant("words", self._weights["embeddings.word_embeddings.weight"])
        return self._norm(self._op("Add", self._op("Gather", words, "ids"), placed), "embeddings.LayerNorm")

    def _layer(self, prefix: str, hidden: str, attention_mask: str) -> str:
        attended = self._linear(self._attention(prefix, hidden, attention_mask), prefix + "attention.output.dense")
        hidden = self._norm(self._op("Add", attended, hidden), prefix + "attention.output.LayerNorm")
        inner = self._gelu(self._linear(hidden, prefix + "intermediate.dense"))
        return self._norm(
            self._op("Add", self._linear(inner, prefix + "output.dense"), hidden), prefix + "output.LayerNorm"
        )

    def _attention(self, prefix: str, hidden: str, attention_mask: str) -> str:
        split = self._ints("split_heads", 0, 0, _HEADS, _HEAD)

        def heads(name: str, order: list[int]) -> str:
            flat = self._linear(hidden, f"{prefix}attention.self.{name}")
            return self._op("Transpose", self._op("Reshape", flat, split), perm=order)

        query = heads("query", [0, 2, 1, 3])
        key = heads("key", [0, 2, 3, 1])
        value = heads("value", [0, 2, 1, 3])
        scores = self._op("Mul", self._op("MatMul", query, key), self._scalar(_HEAD**-0.5))
        weights = self._op("Softmax", self._op("Add", scores, attention_mask), axis=-1)
        context = self._op("Transpose", self._op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self._op("Reshape", context, self._ints("join_heads", 0, 0, DIMENSION))

    def _gelu(self, x: str) -> str:
        """Adds the exact GELU: x/2 · (1 + erf(x/√2))."""
        erf = self._op("Erf", self._op("Mul", x, self._scalar(2**-0.5)))
        return self._op("Mul", self._op("Mul", x, self._scalar(0.5)), self._op("Add", self._scalar(1), erf))

    def _pooled(self, hidden: str, output: str) -> None:
        """Adds the mean over the tokens that are not padding, normalized to unit length."""
        kept = self._op("Mul", hidden, self._op("Unsqueeze", "mask", self._ints("axis_last", -1)))
        total = self._op("ReduceSum", kept, self._ints("axis_1", 1), keepdims=0)
        count = self._op("ReduceSum", "mask", self._ints("axis_1", 1), keepdims=1)
        self._op("LpNormalization", self._op("Div", total, count), output=output, axis=-1, p=2)

    def _linear(self, x: str, name: str) -> str:
        weight = self._constant(f"{name}.weight.T", self._weights[f"{name}.weight"].T)
        bias = self._constant(f"{name}.bias", self._weights[f"{name}.bias"])
        return self._op("Add", self._op("MatMul", x, weight), bias)

    def _norm(self, x: str, name: str) -> str:
        weight = self._constant(f"{name}.weight", self._weights[f"{name}.weight"])
        bias = self._constant(f"{name}.bias", self._weights[f"{name}.bias"])
        return self._op("LayerNormalization", x, weight, bias, axis=-1, epsilon=_EPSILON)

    def _scalar(self, value: float) -> str:
        return self._constant(f"scalar_{value!r}", np.array(value, np.float32))

    def _ints(self, name: str, *values: int) -> str:
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper  # noqa: PLC0415

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        from onnx import helper  # noqa: PLC0415

        output = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output
