"""Convert pointwise operations, which are independent of the axis order."""

from collections.abc import Callable
from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F, as_float, converted, is_float, number, torch, torch_dtype
from keras3conv.builder.program.operation import Function, Operation, operator
from keras3conv.builder.program.program import Value
from keras3conv.rules.operations import OPERATIONS

Unary = Callable[[Value], Operation]


def softplus(x: Value) -> Operation:
    """Return the expression for Keras' softplus of `x`.

    Above a threshold torch returns x itself. The default threshold of 20 gives an error of 2e-9, so the expression sets
    40.
    """
    return F.softplus(x, threshold=40)


def squareplus(x: Value, b: float = 4) -> Operation:
    """Return the expression for Keras' squareplus, (x + sqrt(x * x + b)) / 2."""
    return (x + torch.sqrt(x * x + b)) / 2


_EXPRESSIONS: dict[str, Unary] = {
    "bitwise_invert": lambda x: ~x,
    "bitwise_not": lambda x: ~x,
    "cbrt": lambda x: torch.sign(x) * torch.abs(x) ** operator("/", 1, 3),
    "negative": lambda x: -x,
    "reciprocal": lambda x: 1 / x,
    "softplus": softplus,
    "sparse_plus": lambda x: torch.where(x < 1, (x + 1).method("clamp", min=0) ** 2 / 4, x),
    "sparse_sigmoid": lambda x: ((x + 1) / 2).method("clamp", 0, 1),
    "square": lambda x: x * x,
    "stop_gradient": lambda x: x.method("detach"),
}
"""The torch expressions for functions that torch does not have, or that are shorter with Python operators."""

_HANDLED_BELOW = frozenset(
    {"ceil", "clip", "copy", "floor", "full_like", "gelu", "nan_to_num", "ones_like", "round"}
) | {
    "trunc",
    "zeros_like",
}
"""The pointwise functions with a handler in this file, because they depend on the dtype or may take several tensors."""

_IN_THE_TABLE = {
    name.removeprefix("keras.ops."): operation
    for operation in OPERATIONS
    if operation.is_elementwise and len(operation.inputs) == 1
    for name in operation.keras
    if name.startswith("keras.ops.") and name.removeprefix("keras.ops.") not in _HANDLED_BELOW
}
"""Pointwise functions of one tensor from the table that lists the operations which torch and Keras share."""

UNARY: dict[str, Unary] = {
    **{
        name: Function(operation.torch[0])
        for name, operation in _IN_THE_TABLE.items()
        if len(operation.keras_parameters) == 1
    },
    **_EXPRESSIONS,
}
"""The functions of `keras.ops` whose only argument is a tensor, by name."""

_OF_FLOATS: dict[str, Unary] = {
    "ceil": torch.ceil,
    "fabs": torch.abs,
    "floor": torch.floor,
}
"""Functions that, for integer inputs, return floating-point numbers in Keras but integers in torch."""

_WITH_SETTINGS: dict[str, tuple[Callable[..., Operation], tuple[str, ...]]] = {
    **{
        name: (Function(operation.torch[0]), operation.keras_parameters[1:])
        for name, operation in _IN_THE_TABLE.items()
        if len(operation.keras_parameters) > 1
    },
    "squareplus": (squareplus, ("b",)),
}
"""For each function of a tensor and numbers: the torch function, and the names of the numbers in torch's order."""


def unary(call: Call, *, function: Unary) -> None:
    """Convert a pointwise operation on one tensor.

    Args:
        call: The call.
        function: Returns the torch expression for the tensor.
    """
    _returns(call, function, call.tensor)


def _returns(call: Call, function: Unary, tensor: Value) -> None:
    call.returns(function(tensor), tensor.order, flattened=tensor.flattened)


def _of_floats(call: Call, *, function: Unary) -> None:
    _returns(call, function, as_float(call, call.tensor))


def _with_settings(call: Call, *, function: Callable[..., Operation], names: tuple[str, ...]) -> None:
    settings = [number(call[name], name, call) for name in names]
    unary(call, function=lambda x: function(x, *settings))


for _kind, _function in UNARY.items():
    handles(f"keras.ops.{_kind}")(partial(unary, function=_function))
for _kind, _function in _OF_FLOATS.items():
    handles(f"keras.ops.{_kind}")(partial(_of_floats, function=_function))
for _kind, (_setting_function, _names) in _WITH_SETTINGS.items():
    handles(f"keras.ops.{_kind}")(partial(_with_settings, function=_setting_function, names=_names))


@handles("keras.activations.relu")
def _relu(call: Call) -> None:
    """Convert `relu` with its arguments `negative_slope`, `max_value` and `threshold`.

    A value x above the threshold becomes min(x, max_value); any other value becomes negative_slope * (x - threshold).
    """
    slope, limit, threshold = (call.get(name) for name in ("negative_slope", "max_value", "threshold"))
    if slope and limit is None and not threshold:
        unary(call, function=lambda x: F.leaky_relu(x, slope))
    elif slope:
        above = threshold or 0
        unary(call, function=lambda x: _positive_part(x, limit, above) - slope * F.relu(operator("-", above, x)))
    else:
        unary(call, function=lambda x: _positive_part(x, limit, threshold or 0))


def _positive_part(x: Value, limit: Any, threshold: float) -> Operation:
    if threshold:
        above = torch.where(x > threshold, x, 0)
        return above if limit is None else above.method("clamp", 0, limit)
    if limit is None:
        return F.relu(x)
    return F.relu6(x) if limit == 6 else x.method("clamp", 0, limit)


@handles("keras.ops.gelu")
def _gelu(call: Call) -> None:
    settings = {"approximate": "tanh"} if call["approximate"] else {}
    unary(call, function=lambda x: F.gelu(x, **settings))


@handles("keras.ops.round")
def _round(call: Call) -> None:
    given, decimals = call.tensor, call["decimals"]
    if not is_float(given) and decimals >= 0:
        call.passes(given)
    else:
        settings = {"decimals": decimals} if decimals else {}
        unary(call, function=lambda x: torch.round(x, **settings))


@handles("keras.ops.trunc")
def _trunc(call: Call) -> None:
    if is_float(call.tensor):
        unary(call, function=torch.trunc)
    else:
        call.passes(call.tensor)


@handles("keras.ops.nan_to_num")
def _nan_to_num(call: Call) -> None:
    names = ("nan", "posinf", "neginf")
    if any(isinstance(call[name], Value) for name in names):
        raise call.refuse("nan_to_num is supported only with numbers as replacements, not with tensors")
    settings = {name: call[name] for name in names if call[name] is not None}
    unary(call, function=lambda x: torch.nan_to_num(x, **settings))


@handles("keras.ops.convert_to_tensor", "keras.ops.cast", "keras.ops.array")
def _cast(call: Call) -> None:
    given, dtype = call.tensor, call.get("dtype")
    if dtype in (None, given.dtype):
        call.passes(given)
    else:
        call.returns(given.method("to", torch_dtype(call, dtype)), given.order)


@handles("keras.ops.copy", "keras.ops.real", "keras.ops.conj", "keras.ops.conjugate")
def _same(call: Call) -> None:
    """Convert operations that return their input unchanged: `real` and `conj`, as complex tensors are not supported."""
    call.passes(call.tensor)


@handles("keras.ops.ones_like", "keras.ops.zeros_like", "keras.ops.empty_like")
def _filled_like(call: Call) -> None:
    function = torch.ones_like if call.node.kind.endswith("ones_like") else torch.zeros_like
    given, dtype = call.tensor, call.get("dtype")
    settings = {"dtype": torch_dtype(call, dtype)} if dtype not in (None, given.dtype) else {}
    call.returns(function(given, **settings), given.order)


@handles("keras.ops.full_like")
def _full_like(call: Call) -> None:
    given, value = call["x"], call["fill_value"]
    if isinstance(value, Value):
        value = converted(call, value, call.dtype)
        if value.rank:
            raise call.refuse("the fill_value of full_like must be a scalar, but it is a tensor with axes")
        (value, like), order = call.aligned([value, given])
        call.returns(value.method("expand_as", like), order)
        return
    settings = {"dtype": torch_dtype(call, call.dtype)} if call.dtype != given.dtype else {}
    call.returns(torch.full_like(given, value, **settings), given.order)
