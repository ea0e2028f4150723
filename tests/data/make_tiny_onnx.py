"""Makes ``tiny.onnx``: python tests/data/make_tiny_onnx.py, with the package onnx installed (pip install onnx).

The graph takes log-mel spectrograms [batch, 1, 40, 51] and multiplies their means over the frames, which are an output
too, by a matrix: as an export of torch leaves it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NUM_BINS, NUM_FRAMES, NUM_LABELS = 40, 51, 5


def main() -> None:
    weights = np.random.default_rng(0).standard_normal((NUM_BINS, NUM_LABELS)).astype(np.float32) / 40
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["pooled"], axes=[1, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, NUM_BINS, NUM_FRAMES])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", NUM_LABELS]),
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", NUM_BINS]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, Path(__file__).parent / "tiny.onnx")


if __name__ == "__main__":
    main()
