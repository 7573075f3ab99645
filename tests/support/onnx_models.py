"""Small ONNX models and files, valid unless an argument makes them invalid."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def model(weight: np.ndarray[Any, Any] = WEIGHT, *nodes: Any, **options: Any) -> onnx.ModelProto:
    """Return a model of a matrix product and a tanh, or of the given nodes instead."""
    made = nodes or (
        helper.make_node("MatMul", ["x", "weight"], ["product"], name="product"),
        helper.make_node("Tanh", ["product"], ["y"], name="tanh"),
    )
    graph = helper.make_graph(
        list(made),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = options.pop("opset", 20)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **options)


def saved(path: Path, proto: onnx.ModelProto | None = None) -> Path:
    path.write_bytes((proto or model()).SerializeToString())
    return path


def external(folder: Path, location: str = "weights.bin", **entries: str) -> onnx.ModelProto:
    """Return a model whose weight is in another file; `entries` overrides the reference to it."""
    proto = model()
    tensor = proto.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(data)), **entries}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(data)
    return proto
