"""Run an ONNX file in float64, in onnx's reference evaluator, to measure the rounding error of its float32 run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import RAISED_BY_MODELS, ModelError, message_of
from keras3conv.transforms import Array

_NARROW_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))


def run_float64(path: Path, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run an ONNX file that `preflight` has checked in float64 on `arrays`, and return its outputs by name.

    Raises:
        ModelError: onnx's reference evaluator lacks an operator, raised, or computed an output in a smaller dtype.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model(str(path))
    _widen(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [entry.name for entry in model.graph.input if entry.name not in stored]
    feeds = {}
    for name, array in zip(names, arrays, strict=True):
        feeds[name] = array.astype(np.float64) if array.dtype in _NARROW_DTYPES else array
    try:
        values = ReferenceEvaluator(model).run(None, feeds)
    # The evaluator implements every operator in numpy, so it raises what numpy raises.
    except RAISED_BY_MODELS as error:
        raise ModelError(
            f"onnx's reference evaluator cannot run the file: {type(error).__name__}: {message_of(error)[:200]}"
        ) from error
    outputs = dict(zip([entry.name for entry in model.graph.output], map(np.asarray, values), strict=True))
    for name, value in outputs.items():
        if value.dtype in _NARROW_DTYPES:
            raise ModelError(f"onnx's reference evaluator computes the output {name} in {value.dtype}, not in float64")
    return outputs


def _widen(model: Any) -> None:
    """Change float32 and float16 to float64 in a model: declared types, stored tensors and the targets of casts."""
    from onnx import TensorProto

    for entry in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if entry.type.tensor_type.elem_type in _narrow():
            entry.type.tensor_type.elem_type = TensorProto.DOUBLE
    _widen_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            _widen_node(node)


def _narrow() -> tuple[int, ...]:
    from onnx import TensorProto

    return (TensorProto.FLOAT, TensorProto.FLOAT16)


def _widen_graph(graph: Any) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: Any) -> None:
    from onnx import TensorProto

    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if attribute.name in ("to", "dtype") and attribute.i in _narrow():
            attribute.i = TensorProto.DOUBLE
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _widen_graph(graph)
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = list(attribute.floats) if attribute.name == "value_floats" else attribute.f
            _set_constant(node, np.asarray(values, np.float64))
            return


def _set_constant(node: Any, values: Array) -> None:
    from onnx import helper, numpy_helper

    del node.attribute[:]
    node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.asarray(values))))


def _widen_tensor(tensor: Any) -> None:
    from onnx import numpy_helper

    if tensor.data_type in _narrow():
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
