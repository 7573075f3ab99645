"""List the operations that PyTorch and Keras have in common, in one table that is used in both directions."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

from keras3conv.rules.operation import REQUIRED, Operation, Parameter


def for_torch(name: str) -> tuple[Operation, ...]:
    """Return the operations with a torch name: "torch.exp", "torch.nn.SiLU" or "aten.add.Tensor"."""
    return _by_name("torch").get(name, ())


def for_keras(name: str) -> tuple[Operation, ...]:
    """Return the operations with a Keras name: "keras.ops.exp" or "keras.activations.silu"."""
    return _by_name("keras").get(name, ())


@cache
def activations() -> Mapping[str, Operation]:
    """Return the operations with a function in `keras.activations`, by the name of that function, such as "silu"."""
    return {entry.activation.rpartition(".")[2]: entry for entry in OPERATIONS if entry.activation}


@cache
def _by_name(side: str) -> dict[str, tuple[Operation, ...]]:
    """Return a dict from each torch name, or from each Keras name, to the operations with this name.

    Args:
        side: "torch" or "keras".
    """
    found: dict[str, tuple[Operation, ...]] = {}
    for entry in OPERATIONS:
        names = (*entry.torch, entry.module, *entry.aten) if side == "torch" else (*entry.keras, entry.activation)
        for name in dict.fromkeys(filter(None, names)):
            found[name] = (*found.get(name, ()), entry)
    return found


def _setting(torch: str, keras: str, torch_default: Any = REQUIRED, keras_default: Any = REQUIRED) -> Parameter:
    return Parameter(torch=torch, keras=keras, torch_default=torch_default, keras_default=keras_default)


def _axis(torch: str, torch_default: Any = REQUIRED, keras: str = "axis", keras_default: Any = None) -> Parameter:
    return replace(_setting(torch, keras, torch_default, keras_default), is_axis=True)


def _only_torch(name: str, value: Any, default: Any) -> Parameter:
    """Return a parameter that torch has and Keras lacks.

    Args:
        name: Its name in torch.
        value: The only value with which torch computes what Keras does.
        default: The default in torch.
    """
    return Parameter(torch=name, keras="", torch_default=default, values=((value, None),))


_F = "torch.nn.functional"
_ALPHA = _setting("alpha", "alpha", 1.0, 1.0)
_LAMBDA = _setting("lambd", "threshold", 0.5, 0.5)
_LAST_AXIS = _axis("dim", keras_default=-1)
_APPROXIMATE = Parameter(
    torch="approximate",
    keras="approximate",
    torch_default="none",
    keras_default=True,
    activation_default=False,
    values=(("none", False), ("tanh", True)),
)


def _activation(module: str, name: str, function: str, *parameters: Parameter, **more: Any) -> Operation:
    """Return the operation of an activation that is a torch module, a torch function and a Keras activation function.

    Args:
        module: The class in `torch.nn`, such as "SiLU".
        name: The function in `keras.activations` and `keras.ops`, such as "silu".
        function: The qualified name of the torch function.
        parameters: The parameters besides the tensor.
        more: Further fields of the `Operation`, which override those that follow from these names.
    """
    torch = function.rpartition(".")[2]
    values: dict[str, Any] = {
        "torch": tuple(dict.fromkeys((function, f"{_F}.{torch}"))),
        "keras": (f"keras.ops.{name}",),
        "module": f"torch.nn.{module}",
        "activation": f"keras.activations.{name}",
        "aten": (f"aten.{torch}.default",),
        "parameters": parameters,
        "is_elementwise": not any(entry.is_axis for entry in parameters),
    }
    return Operation(**(values | more))


_ACTIVATIONS = (
    _activation("ReLU", "relu", f"{_F}.relu", tensorflow=("nn.relu features",)),
    _activation("ReLU6", "relu6", f"{_F}.relu6", tensorflow=("nn.relu6 features",)),
    _activation("Sigmoid", "sigmoid", "torch.sigmoid", tensorflow=("nn.sigmoid x", "math.sigmoid x")),
    _activation("Tanh", "tanh", "torch.tanh", tensorflow=("nn.tanh x", "math.tanh x")),
    _activation("SiLU", "silu", f"{_F}.silu", tensorflow=("nn.silu features", "nn.swish features")),
    _activation("Mish", "mish", f"{_F}.mish", keras=("keras.activations.mish",)),
    _activation("Softsign", "softsign", f"{_F}.softsign", aten=(), tensorflow=("nn.softsign features",)),
    _activation("GELU", "gelu", f"{_F}.gelu", _APPROXIMATE, tensorflow=("nn.gelu features approximate",)),
    _activation("SELU", "selu", f"{_F}.selu", tensorflow=("nn.selu features",)),
    _activation("CELU", "celu", f"{_F}.celu", _ALPHA),
    _activation(
        "Hardtanh", "hard_tanh", f"{_F}.hardtanh", _only_torch("min_val", -1.0, -1.0), _only_torch("max_val", 1.0, 1.0)
    ),
    _activation("Hardsigmoid", "hard_sigmoid", f"{_F}.hardsigmoid"),
    _activation("Hardswish", "hard_silu", f"{_F}.hardswish"),
    _activation("LogSigmoid", "log_sigmoid", f"{_F}.logsigmoid", aten=("aten.log_sigmoid.default",)),
    _activation("Tanhshrink", "tanh_shrink", f"{_F}.tanhshrink", aten=()),
    _activation("Hardshrink", "hard_shrink", f"{_F}.hardshrink", _LAMBDA),
    _activation("Softshrink", "soft_shrink", f"{_F}.softshrink", _LAMBDA),
    _activation(
        "LogSoftmax", "log_softmax", f"{_F}.log_softmax", _LAST_AXIS,
        aten=("aten.log_softmax.int",), tensorflow=("nn.log_softmax logits axis",),
    ),
    _activation(
        "Softmax", "softmax", f"{_F}.softmax", _LAST_AXIS,
        aten=("aten.softmax.int",), tensorflow=("nn.softmax logits axis",),
    ),
    _activation("GLU", "glu", f"{_F}.glu", _axis("dim", -1, keras_default=-1)),
    _activation("ELU", "elu", f"{_F}.elu", _ALPHA, tensorflow=("nn.elu features",)),
    _activation(
        "LeakyReLU", "leaky_relu", f"{_F}.leaky_relu", _setting("negative_slope", "negative_slope", 0.01, 0.2),
        tensorflow=("nn.leaky_relu features alpha",),
    ),
    _activation(
        "Softplus", "softplus", f"{_F}.softplus",
        _only_torch("beta", 1.0, 1.0), _only_torch("threshold", 20.0, 20.0), tensorflow=("math.softplus features",),
        note="Above its threshold torch returns the input itself; at the default of 20 this is 2e-9 below softplus.",
    ),
    _activation(
        "Threshold", "threshold", f"{_F}.threshold",
        _setting("threshold", "threshold"), _setting("value", "default_value"), activation="",
    ),
    _activation(
        "Hardtanh", "clip", f"{_F}.hardtanh", _setting("min_val", "x_min", -1.0), _setting("max_val", "x_max", 1.0),
        activation="",
    ),
)  # fmt: skip

# Functions of one tensor. Each entry: Keras' name; torch's name if it differs; "tf:" and its names in TensorFlow, in
# `tf.math` if they have no dot; "keras:" and another name in Keras.
_UNARY = (
    "abs tf:abs keras:ops.absolute", "angle", "arccos acos tf:acos", "arccosh acosh tf:acosh", "arcsin asin tf:asin",
    "arcsinh asinh tf:asinh", "arctan atan tf:atan", "arctanh atanh tf:atanh",
    "bitwise_invert bitwise_not keras:ops.bitwise_not", "ceil tf:ceil", "cos tf:cos", "cosh tf:cosh", "deg2rad",
    "erf tf:erf", "erfc tf:erfc", "erfinv tf:erfinv", "exp tf:exp keras:activations.exponential", "exp2",
    "expm1 tf:expm1", "floor tf:floor", "i0", "isfinite tf:is_finite", "isinf tf:is_inf", "isnan tf:is_nan",
    "isneginf", "isposinf", "isreal", "log tf:log", "log10", "log1p tf:log1p", "log2", "logical_not tf:logical_not",
    "negative neg tf:negative", "rad2deg", "reciprocal tf:reciprocal", "rsqrt tf:rsqrt", "sign tf:sign", "signbit",
    "sin tf:sin", "sinc", "sinh tf:sinh", "sqrt tf:sqrt", "square tf:square", "tan tf:tan", "trunc",
)  # fmt: skip

# Functions of two tensors, in the same form; "aten:" lists the overloads of the operator if they are not "default".
_BINARY = (
    "add aten:Tensor tf:add,__operators__.add", "arctan2 atan2", "bitwise_and aten:Tensor,Scalar",
    "bitwise_or aten:Tensor,Scalar", "bitwise_xor aten:Tensor,Scalar",
    "divide div aten:Tensor tf:divide,truediv keras:ops.true_divide",
    "equal eq aten:Tensor,Scalar tf:equal,__operators__.eq", "floor_divide tf:floordiv", "fmax", "fmin",
    "fmod aten:Tensor,Scalar", "gcd", "greater gt aten:Tensor,Scalar tf:greater",
    "greater_equal ge aten:Tensor,Scalar tf:greater_equal", "hypot", "lcm", "less lt aten:Tensor,Scalar tf:less",
    "less_equal le aten:Tensor,Scalar tf:less_equal", "logaddexp", "logaddexp2", "logical_and tf:logical_and",
    "logical_or tf:logical_or", "logical_xor", "maximum tf:maximum", "minimum tf:minimum",
    "mod remainder aten:Tensor,Scalar tf:mod,floormod", "multiply mul aten:Tensor tf:multiply", "nextafter",
    "not_equal ne aten:Tensor,Scalar tf:not_equal,__operators__.ne",
    "power pow aten:Tensor_Tensor,Tensor_Scalar tf:pow", "subtract sub aten:Tensor tf:subtract",
)  # fmt: skip

_TWO = (("input", "x1"), ("other", "x2"))
_OTHER_INPUTS = {
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), (("input", "x"), ("other", "y"))),
    "power": (("input", "x1"), ("exponent", "x2")),
}


def _elementwise(row: str, inputs: tuple[tuple[str, str], ...], tensorflow_inputs: str) -> Operation:
    """Return the elementwise operation that a row of the tables `_UNARY` and `_BINARY` describes.

    Args:
        row: The name in `keras.ops`, then the torch name if it differs, the TensorFlow names after "tf:", another Keras
            name after "keras:", and the overloads in `torch.export` after "aten:": "arccos acos tf:acos".
        inputs: Pairs of the torch name and the Keras name of each tensor.
        tensorflow_inputs: The names of the tensors in TensorFlow, separated by spaces.
    """
    keras, *parts = row.split()
    marks = {mark: names.split(",") for mark, _, names in (part.partition(":") for part in parts) if names}
    torch = next((part for part in parts if ":" not in part), keras)
    names = (f"keras.ops.{keras}", *(f"keras.{name}" for name in marks.get("keras", ())))
    return Operation(
        torch=(f"torch.{torch}",),
        keras=names,
        activation=next((name for name in names if name.startswith("keras.activations.")), ""),
        aten=tuple(f"aten.{torch}.{overload}" for overload in marks.get("aten", ("default",))),
        tensorflow=tuple(
            f"{name if '.' in name else f'math.{name}'} {tensorflow_inputs}" for name in marks.get("tf", ())
        ),
        inputs=_OTHER_INPUTS.get(keras, inputs),
        is_elementwise=True,
    )


def _function(names: str, *parameters: Parameter, aten: str = "", **more: Any) -> Operation:
    """Return an operation that is a function in both frameworks.

    Args:
        names: The name in `torch` and the name in `keras.ops`, separated by a space.
        parameters: The parameters besides the tensors.
        aten: The operators that `torch.export` emits, separated by spaces: "sum.default sum.dim_IntList"; if it is
            empty, the default overload of torch's name.
        more: Further fields of the `Operation`.
    """
    torch, keras = names.split()
    return Operation(
        torch=(f"torch.{torch}",),
        keras=(f"keras.ops.{keras}",),
        aten=tuple(f"aten.{operator}" for operator in (aten or f"{torch}.default").split()),
        parameters=parameters,
        **more,
    )


_DIM, _DIM_OR_ALL, _DIMS_OR_ALL = _axis("dim"), _axis("dim", None), replace(_axis("dim", ()), values=(((), None),))
_KEEP = _setting("keepdim", "keepdims", False, False)
_BIASED = _only_torch("correction", 0, 1)
_NAN = replace(_setting("nan", "nan", None, 0.0), values=((None, 0.0),))
_MIN = replace(_setting("min", "x_min", None), values=((None, -inf),))
_MAX = replace(_setting("max", "x_max", None), values=((None, inf),))
_DIAGONAL = _setting("diagonal", "k", 0, 0)

_FUNCTIONS = (
    _function("sum sum", _DIM_OR_ALL, _KEEP, aten="sum.default sum.dim_IntList"),
    _function("mean mean", _DIM_OR_ALL, _KEEP, aten="mean.default mean.dim"),
    _function("prod prod", _DIM_OR_ALL, _KEEP, aten="prod.default prod.dim_int"),
    _function("amax max", _DIMS_OR_ALL, _KEEP, aten="amax.default max.default"),
    _function("amin min", _DIMS_OR_ALL, _KEEP, aten="amin.default min.default"),
    _function("any any", _DIM_OR_ALL, _KEEP, aten="any.default any.dim any.dims"),
    _function("all all", _DIM_OR_ALL, _KEEP, aten="all.default all.dim all.dims"),
    _function("argmax argmax", _DIM_OR_ALL, _KEEP),
    _function("argmin argmin", _DIM_OR_ALL, _KEEP),
    _function("var var", _DIM_OR_ALL, _BIASED, _KEEP, aten="var.correction"),
    _function("std std", _DIM_OR_ALL, _BIASED, _KEEP, aten="std.correction"),
    _function("logsumexp logsumexp", _DIM, _KEEP),
    _function("cumsum cumsum", _DIM),
    _function("cumprod cumprod", _DIM),
    _function("clamp clip", _MIN, _MAX, is_elementwise=True),
    _function("round round", _setting("decimals", "decimals", 0, 0), is_elementwise=True,
              aten="round.default round.decimals"),
    _function("nan_to_num nan_to_num", _NAN, _setting("posinf", "posinf", None, None),
              _setting("neginf", "neginf", None, None), is_elementwise=True),
    _function("zeros_like zeros_like", is_elementwise=True),
    _function("ones_like ones_like", is_elementwise=True),
    _function("full_like full_like", _setting("fill_value", "fill_value"), is_elementwise=True),
    _function("detach stop_gradient", inputs=(("input", "variable"),), is_elementwise=True),
    _function("clone copy", is_elementwise=True),
    _function("where where", inputs=(("condition", "condition"), ("input", "x1"), ("other", "x2")),
              aten="where.self", is_elementwise=True),
    _function("matmul matmul", inputs=_TWO),
    _function("bmm matmul", inputs=(("input", "x1"), ("mat2", "x2"))),
    _function("outer outer", inputs=(("input", "x1"), ("vec2", "x2"))),
    _function("cat concatenate", _axis("dim", 0, keras_default=0), inputs=(("tensors", "xs"),)),
    _function("stack stack", _axis("dim", 0, keras_default=0), inputs=(("tensors", "x"),)),
    _function("permute transpose", _axis("dims", keras="axes")),
    _function("transpose swapaxes", _axis("dim0", keras="axis1", keras_default=REQUIRED),
              _axis("dim1", keras="axis2", keras_default=REQUIRED), aten="transpose.int"),
    _function("movedim moveaxis", _axis("source", keras="source", keras_default=REQUIRED),
              _axis("destination", keras="destination", keras_default=REQUIRED), aten="movedim.int movedim.intlist"),
    _function("reshape reshape", _setting("shape", "newshape"), aten="reshape.default view.default"),
    _function("unsqueeze expand_dims", _axis("dim", keras_default=REQUIRED)),
    _function("squeeze squeeze", _DIM_OR_ALL, aten="squeeze.default squeeze.dim squeeze.dims"),
    _function("flip flip", _axis("dims")),
    _function("roll roll", _setting("shifts", "shift"), _axis("dims", None)),
    _function("tile tile", _setting("dims", "repeats")),
    _function("repeat_interleave repeat", _setting("repeats", "repeats"), _DIM_OR_ALL,
              aten="repeat_interleave.self_int"),
    _function("broadcast_to broadcast_to", _setting("size", "shape")),
    _function("take_along_dim take_along_axis", _DIM_OR_ALL, inputs=(("input", "x"), ("indices", "indices"))),
    _function("index_select take", _DIM, inputs=(("input", "x"), ("index", "indices"))),
    _function("tril tril", _DIAGONAL),
    _function("triu triu", _DIAGONAL),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    *_ACTIVATIONS,
    *(_elementwise(row, (("input", "x"),), "x") for row in _UNARY),
    *(_elementwise(row, _TWO, "x y") for row in _BINARY),
    *_FUNCTIONS,
)
"""All operations that both frameworks have; of several with the same name, the preferred one comes first."""
