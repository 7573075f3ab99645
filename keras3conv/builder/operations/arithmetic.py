"""Operations of two tensors, or of a tensor and a number, that are broadcast together."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import as_float, converted, is_float, number
from keras3conv.builder.program.program import Order, Value
from keras3conv.model.graph import Size

_SIGNS = {
    "add": "{0} + {1}",
    "bitwise_and": "{0} & {1}",
    "bitwise_left_shift": "{0} << {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_right_shift": "{0} >> {1}",
    "bitwise_xor": "{0} ^ {1}",
    "divide": "{0} / {1}",
    "equal": "{0} == {1}",
    "floor_divide": "{0} // {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "left_shift": "{0} << {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "mod": "{0} % {1}",
    "multiply": "{0} * {1}",
    "not_equal": "{0} != {1}",
    "power": "{0} ** {1}",
    "right_shift": "{0} >> {1}",
    "subtract": "{0} - {1}",
    "true_divide": "{0} / {1}",
}
"""What Python has a sign for: a number may stand on either side."""

_FUNCTIONS = {
    "fmax": "torch.fmax({0}, {1})",
    "fmin": "torch.fmin({0}, {1})",
    "fmod": "torch.fmod({0}, {1})",
    "gcd": "torch.gcd({0}, {1})",
    "lcm": "torch.lcm({0}, {1})",
    "logical_and": "torch.logical_and({0}, {1})",
    "logical_or": "torch.logical_or({0}, {1})",
    "logical_xor": "torch.logical_xor({0}, {1})",
    "maximum": "torch.maximum({0}, {1})",
    "minimum": "torch.minimum({0}, {1})",
}
"""Functions of two tensors; a number becomes one."""

_OF_FLOATS = {
    "arctan2": "torch.atan2({0}, {1})",
    "heaviside": "torch.heaviside({0}, {1})",
    "hypot": "torch.hypot({0}, {1})",
    "logaddexp": "torch.logaddexp({0}, {1})",
    "logaddexp2": "torch.logaddexp2({0}, {1})",
    "nextafter": "torch.nextafter({0}, {1})",
}
"""Functions that torch has for floating-point numbers only."""

_CLAMPED = {"keras.ops.maximum": "{0}.clamp(min=LIMIT)", "keras.ops.minimum": "{0}.clamp(max=LIMIT)"}


def operand(call: Call, value: Any, like: Value) -> Any:
    """What stands in arithmetic for an argument: a list of numbers becomes a tensor beside `like`."""
    if not isinstance(value, tuple | list):
        return value
    shape, numbers = _listed(call, value)
    whole = not any(isinstance(one, float) for one in numbers)
    dtype = "bool" if all(isinstance(one, bool) for one in numbers) else "int32" if whole else "float32"
    shown = f"dtype=torch.{dtype}, " if whole else ""
    dtype = like.dtype if is_float(like) and not whole else dtype
    template = f"torch.tensor({_shown(value)}, {shown}device={{0}}.device)"
    if dtype == like.dtype:
        template = f"{{0}}.new_tensor({_shown(value)})"
    return call.step(template, [like], shape=shape, order=tuple(range(len(shape))), dtype=dtype)


def _listed(call: Call, value: Any) -> tuple[tuple[int, ...], list[Any]]:
    if not isinstance(value, tuple | list):
        if not isinstance(value, bool | int | float):
            raise call.refuse("a list with anything but numbers is not supported")
        return (), [value]
    inner = [_listed(call, one) for one in value]
    shape = inner[0][0] if inner else ()
    return (len(value), *shape), [one for _, numbers in inner for one in numbers]


def _shown(value: Any) -> str:
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, tuple | list) else number(value)


def operands(call: Call, *names: str) -> tuple[list[Any], Order]:
    """Arguments in one order of axes; numbers and sizes stay as they are."""
    like = call.tensor
    return call.aligned([operand(call, call[name], like) for name in names])


def written(call: Call, template: str, values: Sequence[Any], *, tensors_only: bool = False) -> tuple[str, list[Value]]:
    """The template with the numbers among the values written out, and the tensors that it still has places for."""
    tensors = [value for value in values if isinstance(value, Value)]
    count, texts = 0, []
    for value in values:
        if isinstance(value, Value):
            texts.append(f"{{{count}}}")
            count += 1
        elif isinstance(value, Size):
            texts.append(f"({call.size(value)})")
        elif isinstance(value, bool | int | float):
            texts.append(number(value))
        else:
            raise call.refuse(f"{type(value).__name__} is no number and no tensor")
        if tensors_only and not isinstance(value, Value):
            texts[-1] = f"torch.tensor({texts[-1]})"
    return template.format(*texts), tensors


def binary(call: Call, *, template: str) -> None:
    """Two values, one of which may be a number, broadcast together."""
    values, order = operands(call, *_names(call))
    if call.node.kind.endswith("subtract"):  # torch subtracts no flags
        made = call.node.outputs[0].dtype
        values = [
            converted(call, one, made) if isinstance(one, Value) and one.dtype == "bool" else one for one in values
        ]
    text, tensors = written(call, template, values)
    call.returns(text, tensors, order)


def function(call: Call, *, template: str) -> None:
    """A function of two tensors; a limit that is a number is written as one."""
    values, order = operands(call, *_names(call))
    numbers = [value for value in values if not isinstance(value, Value)]
    clamped = _CLAMPED.get(call.node.kind)
    if numbers and clamped and isinstance(numbers[0], int | float):
        given = next(value for value in values if isinstance(value, Value))
        given = given if is_float(given) or isinstance(numbers[0], int) else as_float(call, given)
        call.returns(clamped.replace("LIMIT", number(numbers[0])), [given], order)
        return
    text, tensors = written(call, template, values, tensors_only=True)
    call.returns(text, tensors, order)


def _function_of_floats(call: Call, *, template: str) -> None:
    values, order = operands(call, *_names(call))
    values = [as_float(call, value) if isinstance(value, Value) else value for value in values]
    like = next(place for place, value in enumerate(values) if isinstance(value, Value))
    values = [
        value if isinstance(value, Value) else call.step(f"torch.full_like({{0}}, {number(value)})", [values[like]])
        for value in values
    ]
    call.returns(template, values, order)


def _names(call: Call) -> tuple[str, str]:
    return ("x1", "x2") if "x1" in call.arguments else ("x", "y")


for _kind, _template in _SIGNS.items():
    handles(f"keras.ops.{_kind}")(partial(binary, template=_template))
for _kind, _template in _FUNCTIONS.items():
    handles(f"keras.ops.{_kind}")(partial(function, template=_template))
for _kind, _template in _OF_FLOATS.items():
    handles(f"keras.ops.{_kind}")(partial(_function_of_floats, template=_template))


@handles("keras.ops.divide_no_nan")
def _divide_no_nan(call: Call) -> None:
    values, order = operands(call, "x1", "x2")
    if not isinstance(values[1], Value):
        raise call.refuse("a divisor that is a number is not supported")
    text, tensors = written(call, "{0}", values[:1])
    place = len(tensors)
    template = f"torch.where({{{place}}} == 0, 0, {text} / {{{place}}})"
    call.returns(template, [*tensors, values[1]], order)


@handles("keras.ops.ldexp")
def _ldexp(call: Call) -> None:
    values, order = operands(call, "x1", "x2")
    text, tensors = written(call, "{0} * 2.0 ** {1}", values)
    call.returns(text, tensors, order)


@handles("keras.ops.isclose")
def _isclose(call: Call) -> None:
    values, order = operands(call, "x1", "x2")
    text, tensors = written(call, "{0}, {1}", values, tensors_only=True)
    settings = f"rtol={call['rtol']!r}, atol={call['atol']!r}, equal_nan={call['equal_nan']!r}"
    call.returns(f"torch.isclose({text}, {settings})", tensors, order)


@handles("keras.ops.clip")
def _clip(call: Call) -> None:
    values, order = operands(call, "x", "x_min", "x_max")
    if values[0].dtype == "bool":
        values[0] = converted(call, values[0], "int32")
    limits = values[1:]
    if all(not isinstance(limit, Value) for limit in limits) or all(isinstance(limit, Value) for limit in limits):
        text, tensors = written(call, "{0}.clamp({1}, {2})", values)
        call.returns(text, tensors, order)
        return
    text, tensors = written(call, "{0}", values[:1])
    for name, limit in zip(("maximum", "minimum"), limits, strict=True):
        if isinstance(limit, Value):
            text = f"torch.{name}({text}, {{{len(tensors)}}})"
            tensors.append(limit)
        else:
            text = f"{text}.clamp({'min' if name == 'maximum' else 'max'}={number(limit)})"
    call.returns(text, tensors, order)


@handles("keras.ops.where")
def _where(call: Call) -> None:
    if call["x1"] is None or call["x2"] is None:
        raise call.refuse("with a condition alone the size of what it returns depends on the values")
    values, order = operands(call, "condition", "x1", "x2")
    condition = values[0]
    if not isinstance(condition, Value):
        raise call.refuse("a condition that is no tensor is not supported")
    made = call.node.outputs[0].dtype
    text, tensors = written(call, "{0}, {1}", values[1:])
    chosen = f"torch.where({{{len(tensors)}}}{'' if condition.dtype == 'bool' else ' != 0'}, {text})"
    if not tensors and made != "float32":
        chosen = f"{chosen}.to(torch.{made})"
    call.returns(chosen, [*tensors, condition], order)


@handles("keras.ops.select")
def _select(call: Call) -> None:
    conditions, choices = list(call["condlist"]), list(call["choicelist"])
    values, order = call.aligned([*conditions, *choices, call["default"]])
    text, tensors = written(call, ", ".join(f"{{{place}}}" for place in range(len(values))), values)
    texts = text.split(", ")
    nested = texts[-1]
    for place in reversed(range(len(conditions))):
        nested = f"torch.where({texts[place]}, {texts[len(conditions) + place]}, {nested})"
    call.returns(nested, tensors, order)
