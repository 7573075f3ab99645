"""Translate TensorFlow functions that a Keras 2 model calls between its layers into functions of `keras.ops`.

TF-Keras 2.4 and later write `TFOpLambda` with the name of the function and its arguments; TF-Keras 2.0 to 2.3 wrote
`TensorFlowOpLayer` with a node of the TensorFlow graph: the operation's name, its attributes, and its constant inputs,
each with its position among the inputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.operations import OPERATIONS

OWN = "tensorflow."
"""The prefix in the table of functions that keras3conv implements itself, because `keras.ops` lacks them."""

CLASSES = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"})
"""The layer classes of Keras 2 that wrap a function of TensorFlow."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The translation of a TensorFlow function to a function of `keras.ops`.

    Attributes:
        name: The function in `keras.ops`; with the prefix `OWN` a function of this package.
        arguments: The parameter names of TensorFlow in their order, each with its name in `keras.ops`.
        fixed: Further arguments for `keras.ops`, whose defaults differ from those of TensorFlow.
    """

    name: str
    arguments: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _operation(name: str, arguments: str, **fixed: Any) -> Operation:
    pairs = (one.partition(":") for one in arguments.split())
    return Operation(name=name, arguments={first: second or first for first, _, second in pairs}, fixed=fixed)


def _own(name: str, arguments: str) -> Operation:
    return _operation(f"{OWN}{name}", arguments)


def _in_the_table() -> Iterator[tuple[str, Operation]]:
    """Yield the name of each TensorFlow function in the table `OPERATIONS`, with its translation to `keras.ops`."""
    for entry in OPERATIONS:
        for written in entry.tensorflow:
            name, *parameters = written.split()
            arguments = dict(zip(parameters, entry.keras_parameters, strict=False))  # TensorFlow's ELU has no alpha
            # GELU is exact by default in TensorFlow.
            fixed = {"approximate": False} if "approximate" in arguments else {}
            yield name, Operation(name=entry.keras[0].removeprefix("keras.ops."), arguments=arguments, fixed=fixed)


_REDUCTION = "input_tensor:x axis keepdims"

FUNCTIONS: Mapping[str, Operation] = {
    **dict(_in_the_table()),
    "math.divide_no_nan": _operation("divide_no_nan", "x:x1 y:x2"),
    **{
        f"math.reduce_{name}": _operation(name, _REDUCTION)
        for name in ("mean", "sum", "max", "min", "prod", "std", "any", "all")
    },
    "math.reduce_variance": _operation("var", _REDUCTION),
    "math.reduce_logsumexp": _operation("logsumexp", _REDUCTION),
    "math.reduce_euclidean_norm": _own("norm", "input_tensor:tensor axis keepdims"),
    "norm": _own("norm", "tensor axis keepdims"),
    "compat.v1.norm": _own("norm", "tensor axis keepdims"),
    "math.argmax": _own("argmax", "input:x axis output_type"),
    "math.argmin": _own("argmin", "input:x axis output_type"),
    "math.l2_normalize": _own("l2_normalize", "x axis epsilon"),
    "nn.l2_normalize": _own("l2_normalize", "x axis epsilon"),
    "math.squared_difference": _own("squared_difference", "x y"),
    "math.add_n": _own("add_n", "inputs"),
    "compat.v1.floor_div": _operation("floor_divide", "x:x1 y:x2"),
    "nn.bias_add": _operation("add", "value:x1 bias:x2"),
    "split": _own("split", "value num_or_size_splits axis"),
    "unstack": _own("unstack", "value num axis"),
    "compat.v1.pad": _own("pad", "tensor paddings mode constant_values"),
    "pad": _own("pad", "tensor paddings mode constant_values"),
    "compat.v1.gather": _own("gather", "params indices axis"),
    "gather": _own("gather", "params indices axis"),
    "image.flip_left_right": _own("flip_left_right", "image"),
    "image.flip_up_down": _own("flip_up_down", "image"),
    "nn.max_pool2d": _own("max_pool", "input:inputs ksize strides padding"),
    "nn.avg_pool2d": _own("average_pool", "input:inputs ksize strides padding"),
    "compat.v1.nn.avg_pool": _own("average_pool", "value:inputs ksize strides padding"),
    "convert_to_tensor": _operation("copy", "value:x"),
    "math.round": _operation("round", "x"),
    "math.atan2": _operation("arctan2", "y:x1 x:x2"),
    "math.cumsum": _operation("cumsum", "x axis", axis=0),
    "concat": _operation("concatenate", "values:xs axis"),
    "stack": _operation("stack", "values:x axis"),
    "reshape": _operation("reshape", "tensor:x shape:newshape"),
    "transpose": _operation("transpose", "a:x perm:axes"),
    "compat.v1.transpose": _operation("transpose", "a:x perm:axes"),
    "expand_dims": _operation("expand_dims", "input:x axis"),
    "compat.v1.expand_dims": _operation("expand_dims", "input:x axis"),
    "squeeze": _operation("squeeze", "input:x axis"),
    "compat.v1.squeeze": _operation("squeeze", "input:x axis"),
    "cast": _operation("cast", "x dtype"),
    "identity": _operation("copy", "input:x"),
    "stop_gradient": _operation("stop_gradient", "input:variable"),
    "tile": _operation("tile", "input:x multiples:repeats"),
    "where": _operation("where", "condition x:x1 y:x2"),
    "zeros_like": _operation("zeros_like", "input:x"),
    "ones_like": _operation("ones_like", "input:x"),
    "broadcast_to": _operation("broadcast_to", "input:x shape"),
    "clip_by_value": _operation("clip", "t:x clip_value_min:x_min clip_value_max:x_max"),
    "linalg.matmul": _own("matmul", "a b transpose_a transpose_b"),
    "one_hot": _own("one_hot", "indices depth on_value off_value axis dtype"),
    "nn.depth_to_space": _operation("depth_to_space", "input:x block_size data_format", data_format="channels_last"),
    "nn.space_to_depth": _operation("space_to_depth", "input:x block_size data_format", data_format="channels_last"),
    "compat.v1.nn.depth_to_space": _operation("depth_to_space", "input:x block_size", data_format="channels_last"),
    "image.resize": _operation("image.resize", "images size method:interpolation", data_format="channels_last"),
}  # fmt: skip
"""The translation of each TensorFlow function, by its name in `TFOpLambda`."""

_RESIZED_ALIKE = ("bilinear", "nearest")
"""The interpolation methods of `tf.image.resize` with which all backends of Keras 3 give the same result."""

_IGNORED: Mapping[str, tuple[Any, ...]] = {
    "conjugate": (False,), "adjoint_a": (False,), "adjoint_b": (False,), "a_is_sparse": (False,),
    "b_is_sparse": (False,), "beta": (1.0,), "exclusive": (False,), "reverse": (False,),
    "preserve_aspect_ratio": (False,), "antialias": (False,), "dtype": (None,), "output_type": (None,),
    "data_format": (None, "NHWC", "NWC", "NDHWC"), "ord": ("euclidean",), "batch_dims": (None, 0),
    "validate_indices": (None, True, False), "num": (None,), "half_pixel_centers": (True,), "dtype_hint": (None,),
}  # fmt: skip
"""The TensorFlow arguments that `keras.ops` lacks, each with the values that change nothing."""

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


def applied(class_name: str, config: Mapping[str, Any], given: Any, keywords: Mapping[str, Any]) -> Applied:
    """Return the call of `keras.ops` that is equivalent to a call of a TensorFlow function.

    Args:
        class_name: The class of the layer in the file: "TFOpLambda", "TensorFlowOpLayer" or another of `CLASSES`.
        config: The configuration of the layer in the file, which names the TensorFlow function.
        given: The first argument of the call.
        keywords: The other arguments of the call, by name.

    Raises:
        RuleError: The function or one of its arguments has no counterpart in Keras.
    """
    if class_name == "TensorFlowOpLayer":
        return _of_node(config, given if isinstance(given, list) else [given])
    function = str(config.get("function", ""))
    if function == "__operators__.getitem":
        return Applied(name="get_item", arguments={"x": given, "key": _key(keywords.get("slice_spec"))})
    return _of_function(function, given, keywords)


def _of_function(function: str, given: Any, keywords: Mapping[str, Any]) -> Applied:
    operation = FUNCTIONS.get(function)
    if operation is None:
        raise RuleError(f"tf.{function} between the layers has no known counterpart in keras.ops")
    first = next(iter(operation.arguments.values()))
    arguments = {**operation.fixed, first: given}
    method = keywords.get("method")
    if function == "image.resize" and method not in (None, *_RESIZED_ALIKE):
        raise RuleError(
            f"tf.image.resize is called with method={method!r}, which keras.ops.image.resize computes differently"
        )
    for name, value in keywords.items():
        ours = operation.arguments.get(name)
        if ours is not None:
            arguments[ours] = value
        elif name != "name" and not _is_ignored(name, value):
            raise RuleError(
                f"tf.{function} is called with {name}={value!r}; keras.ops.{operation.name} has no such argument"
            )
    return Applied(name=operation.name, arguments=arguments)


def _is_ignored(name: str, value: Any) -> bool:
    known = _IGNORED.get(name, ())
    return value is None or any(type(value) is type(one) and value == one for one in known)


def _of_node(config: Mapping[str, Any], given: Sequence[Any]) -> Applied:
    node = config.get("node_def")
    if not isinstance(node, Mapping) or not isinstance(config.get("constants"), Mapping):
        raise RuleError(
            "an operation between the layers is a node of a TensorFlow graph, but the file does not contain the node"
        )
    kind, attributes = str(node.get("op")), node.get("attr") or {}
    tensors, constants = iter(given), config["constants"]
    values = [
        constants[str(place)] if str(place) in constants else next(tensors)
        for place in range(len(given) + len(constants))
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
    """Return the index of a tensor from a file, in which a slice is a dict with "start", "stop" and "step"."""
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


__all__ = ["CLASSES", "FUNCTIONS", "OWN", "Applied", "Operation", "applied"]
