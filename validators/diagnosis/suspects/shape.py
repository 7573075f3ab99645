"""Propose mistakes in shape operations as causes: another order of values or parts, another axis, another position."""

from collections.abc import Callable, Iterator
from itertools import combinations, permutations
from math import prod
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by, with_arguments
from keras3conv.validators.diagnosis.suspects.in_keras import in_keras

FEW_PARTS = 4
"""The largest number of parts of a tensor for which every order is tried."""


def _flatten(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("flatten", "reshape", "view"):
        if len(operation.get("input", ())) > 2 and len(operation.result or ()) == 2:
            yield Hypothesis(
                cause="its input has the same values in another order: torch flattens (c, h, w), Keras (h, w, c)",
                fix=case.of_plan("plan = k3c.align(torch, keras, inputs=x)", "with inputs, to detect the Flatten"),
                changes={operation.key: _channels_last},
            )


def _channels_last(call: TorchCall) -> Any:
    values = call.get("input")
    return values.movedim(1, -1).reshape(call.run().shape)


def _axis(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("softmax", "log_softmax", "normalize", "cumsum", "flip"):
        rank = len(operation.get("input", ()))
        torch_axis = operation.get("dim", 1 if operation.name == "normalize" else None)
        if not isinstance(torch_axis, int):
            continue
        for axis in range(rank):
            if axis != torch_axis % rank:
                yield Hypothesis(
                    cause=f"{operation.name} is over axis {torch_axis} in torch, and over torch's axis {axis} in Keras",
                    fix=f"{operation.name}(..., dim={axis})  # {case.place(operation)}",
                    keras=in_keras(case, operation, operation.name),
                    changes={operation.key: with_arguments(dim=axis)},
                )


def _concatenation(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("cat", "stack", "concat"):
        number = len(operation.get("tensors") or operation.get("input") or ())
        for order in _orders(number):
            yield Hypothesis(
                cause=f"the tensors are concatenated in another order in Keras: {_torch_order(order)}",
                fix=f"torch.{operation.name}([parts[index] for index in {order}], {operation.get('dim', 0)})  "
                f"# {case.place(operation)}",
                keras=f"parts = [parts[index] for index in {_inverse(order)}]  # {case.where_keras}, to concatenate",
                changes={operation.key: replaced_by(_in_order, order)},
            )


def _split(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras uses the parts of a split (packed query, key and value) in a different order."""
    for operation in case.operations_named("split", "chunk", "unbind", "tensor_split"):
        for order in _orders(operation.parts):
            yield Hypothesis(
                cause=f"the parts of a split are used in another order in Keras: {_torch_order(order)}",
                fix=f"parts = [parts[index] for index in {order}]  # after {operation.name}, {case.place(operation)}",
                keras=f"parts = [parts[index] for index in {_inverse(order)}]  # {case.where_keras}, after the split",
                changes={operation.key: replaced_by(_parts_in_order, order)},
            )


def _packed_by_head(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras packs query, key and value head by head.

    Torch packs the queries of all heads, then all keys and all values.
    """
    for operation in case.operations_named("split", "chunk"):
        shape: Shape = operation.get("input") or ()
        if operation.parts < 2 or operation.get("dim", 0) not in (-1, len(shape) - 1):
            continue
        width = shape[-1] // operation.parts
        for heads in (number for number in range(2, width + 1) if width % number == 0):
            yield Hypothesis(
                cause=f"torch splits all {heads} heads into {operation.parts} at once, Keras splits head by head",
                fix=f"x = x.unflatten(-1, ({heads}, {operation.parts}, -1)).transpose(-2, -3).flatten(-3)  "
                f"# before {operation.name} {case.place(operation)}",
                keras=_regrouped(case, (operation.parts, heads, width // heads)),
                changes={operation.key: replaced_by(_head_by_head, operation.parts, heads)},
            )


def _head_by_head(call: TorchCall, parts: int, heads: int) -> Any:
    return call.run(input=call.get("input").unflatten(-1, (heads, parts, -1)).transpose(-2, -3).flatten(-3))


def _regrouped(case: Case, sizes: Shape) -> str:
    """Return the line for Keras that exchanges the first two of the parts that the last axis consists of.

    Args:
        case: The point at which the models differ.
        sizes: The sizes of the parts in torch; their product is the size of the axis.
    """
    size = prod(sizes)
    order = f"np.arange({size}).reshape({sizes}).swapaxes(0, 1).ravel()"
    return f"x = keras.ops.take(x, {order}, axis=-1)  # {case.where_keras}, before the features are divided"


def _orders(number: int) -> Iterator[list[int]]:
    """Yield orders in which to try `number` parts of a split: all orders of few parts, else a few common ones.

    The present order (0, 1, 2, ...) is left out.
    """
    original = list(range(number))
    if number <= FEW_PARTS:
        orders = [list(order) for order in permutations(original)]
    else:
        orders = [original[::-1], [*original[1:], 0], [original[-1], *original[:-1]]]
        orders += [_swapped(original, first, second) for first, second in combinations(original, 2)]
    yield from (order for order in orders if order != original)


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _swapped(original: list[int], first: int, second: int) -> list[int]:
    order = list(original)
    order[first], order[second] = second, first
    return order


def _torch_order(order: list[int]) -> str:
    return f"torch's {', '.join(str(index + 1) for index in order)}"


def _in_order(call: TorchCall, order: list[int]) -> Any:
    name = "tensors" if call.name == "cat" else "input"
    parts = call.get(name)
    return call.run(**{name: [parts[index] for index in order]})


def _parts_in_order(call: TorchCall, order: list[int]) -> Any:
    parts = call.run()
    return type(parts)(parts[index] for index in order)


def _selection(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras selects a different position (first token, last step), or takes the mean."""
    for operation in case.operations_named("__getitem__", "select"):
        selected = _selected_position(operation)
        if selected is None:
            continue
        axis, torch_position = selected
        for words, position in (("the first", 0), ("the last", -1), ("the mean", None)):
            if position != torch_position:
                code = f"mean({axis})" if position is None else f"select({axis}, {position})"
                yield Hypothesis(
                    cause=f"torch selects position {torch_position} along axis {axis} {case.where}, Keras {words}",
                    fix=f"x = x.{code}  # {case.place(operation)}",
                    keras=f"x = x[:, {torch_position}]  # {case.where_keras}, where torch selects along axis {axis}",
                    changes={operation.key: replaced_by(_select, axis, position)},
                )


def _selected_position(operation: Operation) -> tuple[int, int] | None:
    """Return the axis and the index that an operation selects: (1, -1) for `x[:, -1]`; None for any other operation."""
    if operation.name == "select":
        return operation.get("dim"), operation.get("index")
    index = operation.get("dim")  # the second argument is named `dim`
    index = index if isinstance(index, list) else [index]
    axes = [axis for axis, entry in enumerate(index) if isinstance(entry, int) and not isinstance(entry, bool)]
    others_are_whole = all(entry == slice(None) for axis, entry in enumerate(index) if axis not in axes)
    return (axes[0], index[axes[0]]) if len(axes) == 1 and others_are_whole else None


def _select(call: TorchCall, axis: int, position: int | None) -> Any:
    values = call.get("input")
    return values.mean(axis) if position is None else values.select(axis, position)


def _pixel_shuffle(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("pixel_shuffle"):
        yield Hypothesis(
            cause="the channels of a pixel shuffle are in another order: torch has (c r r), Keras (r r c)",
            fix=f"x = x.unflatten(1, ({operation.get('upscale_factor') ** 2}, -1)).transpose(1, 2).flatten(1, 2)  "
            f"# {case.before(operation)}",
            keras=_regrouped(case, _factors(operation)),
            changes={operation.key: _blocks_first},
        )


def _factors(operation: Operation) -> Shape:
    """Return the two numbers into which a pixel shuffle splits the channels: (channels of the result, factor ** 2)."""
    blocks = operation.get("upscale_factor") ** 2
    return operation.get("input")[1] // blocks, blocks


def _blocks_first(call: TorchCall) -> Any:
    factor = call.get("upscale_factor")
    return call.run(input=call.get("input").unflatten(1, (factor * factor, -1)).transpose(1, 2).flatten(1, 2))


def _swapped_arguments(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("sub", "div", "matmul", "bmm"):
        first, second = operation.get("input"), operation.get("dim")
        if isinstance(first, tuple) and isinstance(second, tuple) and first == second:
            yield Hypothesis(
                cause=f"the two arguments of {operation.name} are swapped",
                fix=f"torch.{operation.name}(b, a)  # {case.place(operation)}",
                keras=f"first, second = second, first  # {case.where_keras}, the arguments of {operation.name}",
                changes={operation.key: lambda call: call.run(input=call.get("dim"), dim=call.get("input"))},
            )


def _other_reduction(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_REDUCTIONS):
        axes = operation.get("dim")
        if operation.name in ("max", "min") and not isinstance(axes, int):
            continue  # the maximum of everything, or of two tensors
        for other in ("mean", "sum", "amax", "amin"):
            if _REDUCTIONS[other] != _REDUCTIONS[operation.name]:
                yield Hypothesis(
                    cause=f"torch takes the {_REDUCTIONS[operation.name]} over {axes}, Keras the {_REDUCTIONS[other]}",
                    fix=f"x = x.{other}({axes})  # {case.place(operation)}",
                    keras=in_keras(case, operation, f"the {_REDUCTIONS[other]}"),
                    changes={operation.key: replaced_by(_with_function, getattr(torch, other))},
                )


_REDUCTIONS = {"mean": "mean", "sum": "sum", "amax": "maximum", "max": "maximum", "amin": "minimum", "min": "minimum"}
"""The names in words of the torch functions that reduce axes: "the mean" for `mean`."""


def _with_function(call: TorchCall, function: Callable[..., Any]) -> Any:
    result = TorchCall(function, call.args, call.kwargs).run()
    if call.name not in ("max", "min"):
        return result
    made = call.run()  # the values and their places
    return type(made)((result, made.indices))


SUSPECTS = (
    Suspect("order of flattened axes", _flatten),
    Suspect("another axis", _axis),
    Suspect("order of concatenated tensors", _concatenation),
    Suspect("order of the parts of a split", _split),
    Suspect("packed head by head", _packed_by_head),
    Suspect("order of a pixel shuffle", _pixel_shuffle),
    Suspect("another position", _selection),
    Suspect("arguments swapped", _swapped_arguments),
    Suspect("another reduction", _other_reduction),
)
