"""Translate TensorFlow functions that a Keras 2 model calls between its layers into functions of `keras.ops`.

TF-Keras 2.4 and later write `TFOpLambda` with the name of the function and its arguments; TF-Keras 2.0 to 2.3 wrote
`TensorFlowOpLayer` with a node of the TensorFlow graph: the operation's name, its attributes, and its constant inputs,
each with its position among the inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.formats.keras2.functions import FUNCTIONS, OWN, RESIZED_ALIKE, is_ignored, refusal

CLASSES = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"})
"""The layer classes of Keras 2 that wrap a function of TensorFlow."""


_NODES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd"), ("math.add", "x y")),
    "Sub": ("math.subtract", "x y"), "Mul": ("math.multiply", "x y"), "RealDiv": ("math.divide", "x y"),
    "Pow": ("math.pow", "x y"), "Maximum": ("math.maximum", "x y"), "Minimum": ("math.minimum", "x y"),
    "Greater": ("math.greater", "x y"), "Less": ("math.less", "x y"),
    "Abs": ("math.abs", "x"), "Neg": ("math.negative", "x"), "Exp": ("math.exp", "x"), "Log": ("math.log", "x"),
    "Sqrt": ("math.sqrt", "x"), "Rsqrt": ("math.rsqrt", "x"), "Square": ("math.square", "x"),
    "Sigmoid": ("math.sigmoid", "x"), "Tanh": ("math.tanh", "x"), "Relu": ("nn.relu", "features"),
    "Relu6": ("nn.relu6", "features"), "Elu": ("nn.elu", "features"), "Selu": ("nn.selu", "features"),
    "Softplus": ("math.softplus", "features"), "Softmax": ("nn.softmax", "logits"),
    "Mean": ("math.reduce_mean", "input_tensor axis"), "Sum": ("math.reduce_sum", "input_tensor axis"),
    "Max": ("math.reduce_max", "input_tensor axis"), "Min": ("math.reduce_min", "input_tensor axis"),
    "Prod": ("math.reduce_prod", "input_tensor axis"),
    "Reshape": ("reshape", "tensor shape"), "Transpose": ("transpose", "a perm"), "Identity": ("identity", "input"),
    "ExpandDims": ("expand_dims", "input axis"), "Tile": ("tile", "input multiples"),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2"), ("linalg.matmul", "a b")),
    "ClipByValue": ("clip_by_value", "t clip_value_min clip_value_max"), "Select": ("where", "condition x y"),
    "SelectV2": ("where", "condition x y"), "ZerosLike": ("zeros_like", "input"), "OnesLike": ("ones_like", "input"),
}  # fmt: skip
"""For each graph operation of TensorFlow, the equivalent function and its parameters in the order of the inputs."""

_BOOLEAN = {"keep_dims": "keepdims", "adj_x": "adjoint_a", "adj_y": "adjoint_b", "transpose_a": "transpose_a",
            "transpose_b": "transpose_b"}  # fmt: skip
"""The attributes of TensorFlow graph nodes that become boolean arguments, such as "transpose_a"."""

_WITHOUT_MEANING = frozenset({"T", "Tidx", "Tshape", "Tperm", "Tdim", "Tmultiples", "N", "data_format"})


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A call of a function of `keras.ops`: the name of the function and its arguments.

    Attributes:
        name: The function, such as "add" or "image.resize"; "get_item" indexes a tensor.
        arguments: The arguments by name.
    """

    name: str
    arguments: Mapping[str, Any]


def applied(class_name: str, config: Mapping[str, Any], argument: Any, keywords: Mapping[str, Any]) -> Applied:
    """Return the call of `keras.ops` that is equivalent to a call of a TensorFlow function.

    Args:
        class_name: The class of the layer in the file: "TFOpLambda", "TensorFlowOpLayer" or another of `CLASSES`.
        config: The configuration of the layer in the file, which names the TensorFlow function.
        argument: The first argument of the call.
        keywords: The other arguments of the call, by name.

    Raises:
        RuleError: The function or one of its arguments has no counterpart in Keras.
    """
    if class_name == "TensorFlowOpLayer":
        return _of_node(config, argument if isinstance(argument, list) else [argument])
    function = str(config.get("function", ""))
    if function == "__operators__.getitem":
        return Applied(name="get_item", arguments={"x": argument, "key": _key(keywords.get("slice_spec"))})
    return _of_function(function, argument, keywords)


def _of_function(function: str, argument: Any, keywords: Mapping[str, Any]) -> Applied:
    operation = FUNCTIONS.get(function)
    if operation is None:
        raise RuleError(refusal(function))
    first = next(iter(operation.arguments.values()))
    arguments = {**operation.fixed, first: argument}
    method = keywords.get("method")
    if function == "image.resize" and method not in (None, *RESIZED_ALIKE):
        raise RuleError(
            f"tf.image.resize is called with method={method!r}, which torch cannot compute; supported are "
            f"{', '.join(RESIZED_ALIKE)}"
        )
    for name, value in keywords.items():
        ours = operation.arguments.get(name)
        if ours is not None:
            arguments[ours] = value
        elif name != "name" and not is_ignored(name, value):
            lacking = "the conversion" if operation.name.startswith(OWN) else f"keras.ops.{operation.name}"
            raise RuleError(f"tf.{function} is called with {name}={value!r}; {lacking} has no such argument")
    return Applied(name=operation.name, arguments=arguments)


def _of_node(config: Mapping[str, Any], argument: Sequence[Any]) -> Applied:
    node = config.get("node_def")
    if not isinstance(node, Mapping) or not isinstance(config.get("constants"), Mapping):
        raise RuleError(
            "an operation between the layers is a node of a TensorFlow graph, but the file does not contain the node"
        )
    kind, attributes = str(node.get("op")), node.get("attr") or {}
    tensors, constants = iter(argument), config["constants"]
    values = [
        constants[str(place)] if str(place) in constants else next(tensors)
        for place in range(len(argument) + len(constants))
    ]
    if kind == "StridedSlice":
        return Applied(name="get_item", arguments={"x": values[0], "key": _strided(values[1:], attributes)})
    if kind == "ConcatV2":
        return Applied(name="concatenate", arguments={"xs": values[:-1], "axis": values[-1]})
    if kind not in _NODES:
        raise RuleError(f"the TensorFlow operation {kind} between the layers has no known counterpart in keras.ops")
    function, parameters = _NODES[kind]
    named = dict(zip(parameters.split(), values, strict=True))
    first = named.pop(parameters.split()[0])
    return _of_function(function, first, {**named, **_attributes(kind, attributes)})


def _attributes(kind: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in attributes.items():
        if name in _BOOLEAN:
            found[_BOOLEAN[name]] = bool(value.get("b", False))
        elif name not in _WITHOUT_MEANING:
            raise RuleError(
                f"the TensorFlow operation {kind} has the attribute {name}, which has no counterpart in keras.ops"
            )
    return found


def _key(spec: Any) -> tuple[Any, ...]:
    """Return the index of `tensor[index]`; a file stores a slice in it as {"start": 0, "stop": 2, "step": 1}."""
    parts = spec if isinstance(spec, list) else [spec]
    return tuple(_part(part) for part in parts)


def _part(part: Any) -> Any:
    if isinstance(part, Mapping):
        if set(part) == {"start", "stop", "step"}:
            return slice(part["start"], part["stop"], part["step"])
        if part.get("class_name") == "__ellipsis__":
            return Ellipsis
        raise RuleError(
            f"a tensor between the layers is indexed by {dict(part)!r}, which has no counterpart in keras.ops"
        )
    return part


def _strided(values: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the index of a tensor that a StridedSlice node of TensorFlow describes.

    Args:
        values: The lists `begin`, `end` and `strides`.
        attributes: The attributes of the node, with its masks; bit i of a mask concerns entry i of the index.
    """
    begin, end, strides = values

    def bit(name: str, place: int) -> bool:
        return bool(int(attributes.get(name, {}).get("i", 0)) >> place & 1)

    def part(place: int) -> Any:
        if bit("ellipsis_mask", place):
            return Ellipsis
        if bit("new_axis_mask", place):
            return None
        if bit("shrink_axis_mask", place):
            return begin[place]
        first = None if bit("begin_mask", place) else begin[place]
        last = None if bit("end_mask", place) else end[place]
        return slice(first, last, None if strides[place] == 1 else strides[place])

    return tuple(part(place) for place in range(len(begin)))
