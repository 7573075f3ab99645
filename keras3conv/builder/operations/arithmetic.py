"""Convert operations on two tensors, or on a tensor and a number, with broadcasting."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import as_float, converted, device_of, is_float, torch, torch_dtype
from keras3conv.builder.program.operation import Dtype, Function, operator
from keras3conv.builder.program.program import Order, Value
from keras3conv.model.graph import Size

_SIGNS = {
    "add": "+",
    "bitwise_and": "&",
    "bitwise_left_shift": "<<",
    "bitwise_or": "|",
    "bitwise_right_shift": ">>",
    "bitwise_xor": "^",
    "divide": "/",
    "equal": "==",
    "floor_divide": "//",
    "greater": ">",
    "greater_equal": ">=",
    "left_shift": "<<",
    "less": "<",
    "less_equal": "<=",
    "mod": "%",
    "multiply": "*",
    "not_equal": "!=",
    "power": "**",
    "right_shift": ">>",
    "subtract": "-",
    "true_divide": "/",
}
"""The operations of `keras.ops` that become a Python operator; either operand may be a number."""

_FUNCTIONS = (
    "fmax", "fmin", "fmod", "gcd", "lcm", "logical_and", "logical_or", "logical_xor", "maximum", "minimum",
)  # fmt: skip
"""The functions of two tensors that have the same name in `keras.ops` and torch; a number becomes a tensor first."""

_OF_FLOATS = {
    "arctan2": torch.atan2,
    "heaviside": torch.heaviside,
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "nextafter": torch.nextafter,
}
"""The functions that torch supports for floating-point numbers only; integer operands are converted first."""

_LIMITS = {"keras.ops.maximum": "min", "keras.ops.minimum": "max"}
"""For `maximum` and `minimum` with a number, the argument of `torch.clamp` that gets the number: "min" or "max"."""


def _operand(call: Call, value: Any, like: Value) -> Any:
    """Return an operand as torch accepts it: a list of numbers becomes a tensor, any other operand is unchanged.

    Args:
        call: The call; the statement that creates the tensor is added to it.
        value: The operand.
        like: Another operand of the call. The new tensor is created on the device of `like`. It also gets the dtype of
            `like` if that is floating-point and the list has floats, or if it is the dtype of the list anyway.
    """
    if not isinstance(value, tuple | list):
        return value
    shape, numbers = _listed(call, value)
    whole = not any(isinstance(one, float) for one in numbers)
    dtype = "bool" if all(isinstance(one, bool) for one in numbers) else "int32" if whole else "float32"
    settings = {"dtype": Dtype(dtype)} if whole else {}
    dtype = like.dtype if is_float(like) and not whole else dtype
    if dtype == like.dtype:
        made = like.method("new_tensor", _as_list(value))
    else:
        made = torch.tensor(_as_list(value), **settings, device=device_of(like))
    return call.step(made, shape=shape, order=tuple(range(len(shape))), dtype=dtype)


def _listed(call: Call, value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of an operand that is a nested list, and its numbers: ((2, 1), [3, 4]) for [[3], [4]].

    Args:
        call: The call, for the error message.
        value: The nested list, or a number in it.

    Raises:
        RuleError: An entry is not a number.
    """
    if not isinstance(value, tuple | list):
        if not isinstance(value, bool | int | float):
            raise call.refuse(
                f"an operand is a list with an entry of type {type(value).__name__}; only lists of numbers are "
                "supported"
            )
        return (), [value]
    inner = [_listed(call, one) for one in value]
    shape = inner[0][0] if inner else ()
    return (len(value), *shape), [one for _, numbers in inner for one in numbers]


def _as_list(value: Any) -> Any:
    return list(map(_as_list, value)) if isinstance(value, tuple | list) else value


def _operands(call: Call, *names: str) -> tuple[list[Any], Order]:
    """Return the arguments of a call that have these names, converted to one axis order, and this axis order.

    A list of numbers becomes a tensor. A tensor with another axis order is permuted.

    Args:
        call: The call.
        names: The names of the arguments: "x1" and "x2".
    """
    like = call.tensor
    values, order = call.aligned([_operand(call, call[name], like) for name in names])
    return [_checked(call, value) for value in values], order


def _checked(call: Call, value: Any) -> Any:
    if isinstance(value, Size):
        return call.size(value)
    if not isinstance(value, Value | bool | int | float):
        raise call.refuse(f"an operand must be a number or a tensor, found {type(value).__name__}")
    return value


def _as_tensors(values: Sequence[Any]) -> list[Any]:
    """Return the operands, with every number converted to a tensor, for torch functions that accept only tensors."""
    return [value if isinstance(value, Value) else torch.tensor(value) for value in values]


def _binary(call: Call, *, sign: str) -> None:
    values, order = _operands(call, *_names(call))
    if sign == "-":  # torch does not subtract booleans
        values = [
            converted(call, one, call.dtype) if isinstance(one, Value) and one.dtype == "bool" else one
            for one in values
        ]
    call.returns(operator(sign, *values), order)


def _binary_function(call: Call, *, function: Function) -> None:
    """Convert a function of two tensors; `maximum` and `minimum` with a number become a `clamp`."""
    values, order = _operands(call, *_names(call))
    numbers = [value for value in values if not isinstance(value, Value)]
    limit = _LIMITS.get(call.node.kind)
    if numbers and limit and isinstance(numbers[0], int | float):
        given = next(value for value in values if isinstance(value, Value))
        given = given if is_float(given) or isinstance(numbers[0], int) else as_float(call, given)
        call.returns(given.method("clamp", **{limit: numbers[0]}), order)
        return
    call.returns(function(*_as_tensors(values)), order)


def _function_of_floats(call: Call, *, function: Function) -> None:
    values, order = _operands(call, *_names(call))
    values = [as_float(call, value) if isinstance(value, Value) else value for value in values]
    like = next(value for value in values if isinstance(value, Value))
    values = [value if isinstance(value, Value) else call.step(torch.full_like(like, value)) for value in values]
    call.returns(function(*values), order)


def _names(call: Call) -> tuple[str, str]:
    return ("x1", "x2") if "x1" in call.arguments else ("x", "y")


for _kind, _sign in _SIGNS.items():
    handles(f"keras.ops.{_kind}")(partial(_binary, sign=_sign))
for _kind in _FUNCTIONS:
    handles(f"keras.ops.{_kind}")(partial(_binary_function, function=torch.named(_kind)))
for _kind, _function in _OF_FLOATS.items():
    handles(f"keras.ops.{_kind}")(partial(_function_of_floats, function=_function))


@handles("keras.ops.divide_no_nan")
def _divide_no_nan(call: Call) -> None:
    (dividend, divisor), order = _operands(call, "x1", "x2")
    if not isinstance(divisor, Value):
        raise call.refuse(
            "divide_no_nan is supported only if the divisor x2 is a tensor, not a number; use keras.ops.divide for a "
            "number"
        )
    call.returns(torch.where(operator("==", divisor, 0), 0, operator("/", dividend, divisor)), order)


@handles("keras.ops.ldexp")
def _ldexp(call: Call) -> None:
    (given, exponent), order = _operands(call, "x1", "x2")
    call.returns(operator("*", given, operator("**", 2.0, exponent)), order)


@handles("keras.ops.isclose")
def _isclose(call: Call) -> None:
    values, order = _operands(call, "x1", "x2")
    settings = {name: call[name] for name in ("rtol", "atol", "equal_nan")}
    call.returns(torch.isclose(*_as_tensors(values), **settings), order)


@handles("keras.ops.clip")
def _clip(call: Call) -> None:
    (given, lower, upper), order = _operands(call, "x", "x_min", "x_max")
    if given.dtype == "bool":
        given = converted(call, given, "int32")
    if isinstance(lower, Value) == isinstance(upper, Value):
        call.returns(given.method("clamp", lower, upper), order)
        return
    clipped = given
    for function, name, limit in ((torch.maximum, "min", lower), (torch.minimum, "max", upper)):
        if isinstance(limit, Value):
            clipped = function(clipped, limit)
        else:
            clipped = clipped.method("clamp", **{name: limit})
    call.returns(clipped, order)


@handles("keras.ops.where")
def _where(call: Call) -> None:
    if call["x1"] is None or call["x2"] is None:
        raise call.refuse(
            "where without x1 and x2 is not supported: the shape of its result depends on the values of the condition"
        )
    (condition, *values), order = _operands(call, "condition", "x1", "x2")
    if not isinstance(condition, Value):
        raise call.refuse(f"the condition of where must be a tensor, found {type(condition).__name__}")
    chosen = torch.where(condition if condition.dtype == "bool" else operator("!=", condition, 0), *values)
    if not any(isinstance(value, Value) for value in values) and call.dtype != "float32":
        chosen = chosen.method("to", torch_dtype(call, call.dtype))
    call.returns(chosen, order)


@handles("keras.ops.select")
def _select(call: Call) -> None:
    conditions, choices = list(call["condlist"]), list(call["choicelist"])
    values, order = call.aligned([*conditions, *choices, call["default"]])
    *values, chosen = [_checked(call, value) for value in values]
    pairs = zip(values[: len(conditions)], values[len(conditions) :], strict=True)
    for condition, choice in reversed(list(pairs)):
        chosen = torch.where(condition, choice, chosen)
    call.returns(chosen, order)
