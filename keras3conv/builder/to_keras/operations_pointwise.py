"""Convert elementwise operators."""

from collections.abc import Callable
from functools import partial
from math import copysign, sqrt
from typing import Any

from keras3conv.builder.program.operation import Dtype, Operation
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import HANDLERS, Call, Placed, Result, handles, ops, own
from keras3conv.builder.to_keras.forms import Constant, Held
from keras3conv.errors import RuleError, message_of
from keras3conv.rules import operation as table
from keras3conv.rules.operations import OPERATIONS
from keras3conv.transforms import Axes

_OTHER_NAMES = {"input": ("self", "input"), "x": ("self",), "condition": ("condition",), "exponent": ("exponent",)}


@handles("alias", "positive", "clone", "contiguous", "lift_fresh_copy", "lift_fresh", "_assert_tensor_metadata")
def _same(call: Call) -> Result:
    return call.arguments.get("self", call.arguments.get("a"))


@handles("detach")
def _detached(call: Call) -> Result:
    """Convert `detach`, whose result has no gradient; a constant is returned unchanged."""
    given = call.arguments["self"]
    return given if isinstance(given, Constant) else elementwise(call, [given], ops.stop_gradient)


@handles("to", "_to_copy", "type_as", "float")
def _cast(call: Call) -> Result:
    given = call.arguments["self"]
    if isinstance(given, Held):
        return given
    floats = [dtype.startswith(("float", "bfloat")) for dtype in (given.dtype, call.dtype)]
    if given.dtype == call.dtype or all(floats):  # the floating-point tensors of a Keras model have one precision
        return given  # type: ignore[no-any-return]
    return elementwise(call, [given], lambda value: ops.cast(value, Dtype("float32" if floats[1] else call.dtype)))


def _scaled(call: Call, value: Any, factors: Any) -> Value | None:
    """Convert the product of a value and a parameter with one factor per position of the value's last axis.

    The parameter becomes the kernel of an `EinsumDense`.

    Returns:
        The product; None if the operands are not such a value and parameter.
    """
    if not isinstance(value, Value) or not isinstance(factors, Held) or factors.is_shared:
        return None
    long = [axis for axis, size in enumerate(factors.shape) if size != 1]
    if len(long) != 1 or value.rank < max(2, len(factors.shape)) or value.shape != call.shape:
        return None
    axis, size = long[0] + value.rank - len(factors.shape), factors.shape[long[0]]
    if value.order[-1] != axis or axis == 0 or value.shape[axis] != size:
        return None
    pattern = " ".join("c" if place == long[0] else "1" for place in range(len(factors.shape)))
    placed = Placed(role="kernel", held=factors, transform=Axes(f"{pattern} -> c"))
    axes = "abcdefgh"[: value.rank]
    sizes = tuple(one if isinstance(one, int) else None for one in value.target_shape[1:])
    # No ellipsis in the equation: Keras reverses the sizes of several axes behind an ellipsis.
    config = {"equation": f"{axes},{axes[-1]}->{axes}", "output_shape": sizes}
    made = call.writer.new(value.shape, value.order, call.dtype)
    call.writer.layer("keras.layers.EinsumDense", config, value, [placed], factors.path, made)
    return made


def _with_sign(call: Call, *, symbol: str) -> Result:
    left, right = call.arguments["self"], call.get("other", call.get("exponent"))
    if symbol == "*" and (scaled := _scaled(call, left, right) or _scaled(call, right, left)):
        return scaled
    alpha = call.get("alpha", 1)
    mode = call.arguments.get("rounding_mode")

    def expression(first: Any, second: Any) -> Operation:
        scaled = second if alpha == 1 else sign(call, "*", second, alpha)
        made = sign(call, symbol, first, scaled)
        return made if mode is None else ops.named("floor" if mode == "floor" else "trunc")(made)

    return elementwise(call, [left, right], expression)


_SIGNS = {
    "+": ("add",),
    "-": ("sub", "subtract"),
    "*": ("mul", "multiply"),
    "/": ("div", "divide", "true_divide"),
    "**": ("pow",),
}
for _symbol, _names in _SIGNS.items():
    handles(*_names)(partial(_with_sign, symbol=_symbol))


@handles("rsub")
def _reversed_subtraction(call: Call) -> Result:
    if call.get("alpha", 1) != 1:
        raise RuleError("rsub is supported only with alpha=1")
    given = [call.arguments["self"], call.arguments["other"]]
    return elementwise(call, given, lambda first, second: sign(call, "-", second, first))


def _by_formula(call: Call, *, names: tuple[str, ...], formula: Callable[..., Any]) -> Result:
    return elementwise(call, [call.arguments[name] for name in names], formula)


_FORMULAS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "__lshift__": (("self", "other"), ops.left_shift),
    "__rshift__": (("self", "other"), ops.right_shift),
    "bitwise_left_shift": (("self", "other"), ops.left_shift),
    "bitwise_right_shift": (("self", "other"), ops.right_shift),
    "masked_fill": (("mask", "value", "self"), ops.where),
    "mish": (("self",), lambda value: value * ops.tanh(ops.softplus(value))),
    "neg": (("self",), lambda value: -value),
    "pow.Scalar": (("self", "exponent"), ops.power),
    "reciprocal": (("self",), lambda value: 1.0 / value),
    "special_ndtr": (("self",), lambda value: ops.erfc(value * -sqrt(0.5)) * 0.5),  # P(normal variable < x)
    "where": (("condition", "self", "other"), ops.where),
}
"""Operators that are a formula of their tensors: the names of these arguments, and the function of their values."""

for _name, (_arguments, _formula) in _FORMULAS.items():
    handles(_name)(partial(_by_formula, names=_arguments, formula=_formula))


def _logical(call: Call, *, name: str) -> Result:
    """Convert a logical operator on two masks, or a bitwise operator on integers, to the `keras.ops` function `name`.

    A number that is an operand of a bitwise operator becomes a tensor.
    """
    left, right = call.arguments["self"], call.arguments["other"]
    if call.dtype == "bool":
        return elementwise(call, [left, right], ops.named(f"logical_{name}"))
    function = ops.named(f"bitwise_{name}")
    if isinstance(right, int):
        return elementwise(call, [left], lambda value: function(value, ops.full_like(value, right)))
    return elementwise(call, [left, right], function)


for _name in ("and", "or", "xor"):
    handles(f"__{_name}__", f"bitwise_{_name}")(partial(_logical, name=_name))


@handles("bitwise_not", "logical_not", "__not__")
def _not(call: Call) -> Result:
    function = ops.logical_not if call.dtype == "bool" else ops.bitwise_not
    return elementwise(call, [call.arguments["self"]], function)


@handles("clamp", "clamp_min", "clamp_max", "hardtanh")
def _clamp(call: Call) -> Result:
    is_tanh = call.name == "hardtanh"
    low, high = (call.get("min_val", -1.0), call.get("max_val", 1.0)) if is_tanh else (call.get("min"), call.get("max"))
    if (low, high) == (0, 6):
        return elementwise(call, [call.arguments["self"]], ops.relu6)
    if high is None:
        return elementwise(call, [call.arguments["self"], low], ops.maximum)
    if low is None:
        return elementwise(call, [call.arguments["self"], high], ops.minimum)
    return elementwise(call, [call.arguments["self"]], lambda value: ops.clip(value, low, high))


@handles("elu")
def _elu(call: Call) -> Result:
    alpha, scale, inner = (call.get(name, 1) for name in ("alpha", "scale", "input_scale"))
    if scale != 1 or inner != 1:
        raise RuleError("elu is supported only with scale=1 and input_scale=1")
    return elementwise(call, [call.arguments["self"]], lambda value: ops.elu(value, **_unless(alpha=(alpha, 1))))


def _unless(**given: tuple[Any, Any]) -> dict[str, Any]:
    """Return the arguments that differ from their defaults: `_unless(alpha=(2, 1), beta=(0, 0))` is {"alpha": 2}.

    Args:
        given: For each argument, its value and its default.
    """
    return {name: value for name, (value, default) in given.items() if value != default}


@handles("dropout", "feature_dropout", "alpha_dropout")
def _dropout(call: Call) -> Result:
    given = call.arguments.get("input", call.arguments.get("self"))
    probability = float(call.arguments["p"] or call.node.config.get("dropout", 0.0))
    is_depth = call.node.config.get("for_each_example", False)  # stochastic depth, in one of the blocks with rate zero
    if not isinstance(given, Value) or not (probability or is_depth):
        return given
    made = call.writer.new(given.shape, given.order, given.dtype, given.flattened)
    kind = "keras.layers.Dropout"
    rate: dict[str, Any] = {"rate": probability}
    if is_depth:
        rate["noise_shape"] = (None, *(1,) * (given.rank - 1))
    if call.name == "feature_dropout":
        kind = f"keras.layers.SpatialDropout{given.rank - 2}D"
        given = call.ordered(given, call.writer.image_order(given.rank))
        made = call.writer.new(given.shape, given.order, given.dtype)
    if call.name == "alpha_dropout":
        kind = "keras.layers.AlphaDropout"
    call.writer.layer(kind, rate, given, (), call.node.path, made)
    return made


def _from_table(call: Call, *, entries: tuple[table.Operation, ...]) -> Result:
    """Convert the call of an operator by the first row of the table of operations that accepts the arguments.

    Args:
        call: The call.
        entries: The rows for this operator, from `keras3conv.rules.operations`, in the order in which to try them.
    """
    reasons = []
    for entry in entries:
        names = [_argument_name(call, torch) for torch, _ in entry.inputs]
        others = {name: value for name, value in call.arguments.items() if name not in names}
        try:
            settings = entry.to_keras(others)
        except RuleError as error:
            reasons.append(message_of(error))
            continue
        function = ops.named(entry.keras[0].rpartition(".")[2])
        if not entry.keras[0].startswith("keras.ops."):
            raise RuleError(
                f"the counterpart {entry.keras[0]} of this operator is no function of keras.ops, and cannot "
                "be used in a functional model"
            )
        given = [call.arguments[name] for name in names]
        return elementwise(call, given, partial(function, **settings))
    raise RuleError("; ".join(dict.fromkeys(reasons)))


def _argument_name(call: Call, torch: str) -> str:
    names = (torch, *_OTHER_NAMES.get(torch, ()))
    return next(name for name in names if name in call.arguments)


@handles("softplus")
def _softplus(call: Call) -> Result:
    """Convert `softplus`: log(1 + exp(beta * x)) / beta, or x itself above torch's threshold."""
    beta, threshold = call.get("beta", 1), call.get("threshold", 20)

    def smooth(value: Any) -> Any:
        made = ops.softplus(value) if beta == 1 else ops.softplus(value * beta) / beta
        return made if threshold == 20 else ops.where(value * beta > threshold, value, made)

    return elementwise(call, [call.arguments["self"]], smooth)


def _special(call: Call, *, function: str) -> Result:
    """Convert a special function that Keras lacks; a function of the generated file computes it."""

    def made(value: Any) -> Any:
        is_float = not isinstance(value, Value) or value.dtype.startswith(("float", "bfloat"))
        return own.named(function)(value if is_float else ops.cast(value, Dtype("float32")))

    return elementwise(call, [call.arguments["self"]], made)


for _torch, _function in (("lgamma", "log_gamma"), ("digamma", "digamma"), ("special_erfcx", "scaled_erfc")):
    handles(_torch)(partial(_special, function=_function))


@handles("copysign")
def _copysign(call: Call) -> Result:
    def signed(value: Any, sign_of: Any) -> Any:
        return ops.where(ops.signbit(sign_of), -ops.abs(value), ops.abs(value))

    other = call.arguments["other"]
    if isinstance(other, int | float):
        number = copysign(1.0, other)
        return elementwise(call, [call.arguments["self"]], lambda value: ops.abs(value) * number)
    return elementwise(call, [call.arguments["self"], other], signed)


def _register_table() -> None:
    """Register the elementwise operators of the operation table, except those with a handler in this module."""
    entries: dict[str, tuple[table.Operation, ...]] = {}
    for entry in OPERATIONS:
        if entry.is_elementwise and not {"full_like", "detach", "clone", "zeros_like", "ones_like"} & {entry.name}:
            for name in entry.aten:
                entries[name] = (*entries.get(name, ()), entry)
    for name, found in entries.items():
        if name not in HANDLERS and name.rpartition(".")[0] not in HANDLERS:
            HANDLERS[name] = partial(_from_table, entries=found)


def _own() -> frozenset[str]:
    """Return the names of the operators for which this file registers handlers."""
    functions = (
        (name, handler.func if isinstance(handler, partial) else handler) for name, handler in HANDLERS.items()
    )
    return frozenset(name for name, function in functions if function.__module__ == __name__)


_register_table()

ELEMENTWISE = _own()
"""The elementwise operators, as they are registered."""
