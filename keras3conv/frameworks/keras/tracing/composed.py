"""Replace operations by others of `keras.ops` while a model is traced: choices, loops over parts, and small functions.

Keras computes these operations with its backend, so that a trace would have a single node for each.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import keras
import numpy as np
from keras import ops

from keras3conv.errors import Problem
from keras3conv.frameworks.keras.operations import arguments_of, kind_of_operation
from keras3conv.frameworks.keras.tracing.composed_images import IMAGES

Composed = Callable[[Mapping[str, Any]], Any]
"""A function that gets the arguments of an operation by name, and returns its results."""


def composed(operation: keras.Operation, args: Any, kwargs: Any) -> Callable[[], Any] | None:
    """Return a function that computes an operation with other functions of `keras.ops`; None for other operations.

    Args:
        operation: The operation, such as the object of `keras.ops.cond`.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
    """
    kind = kind_of_operation(operation)
    if kind == "keras.ops.einsum" and (subscripts := _respelled(vars(operation).get("subscripts", ""))):
        return lambda: ops.einsum(subscripts, *args, **kwargs)
    function = FUNCTIONS.get(kind)
    return None if function is None else lambda: function(arguments_of(operation, args, kwargs))


def _respelled(subscripts: str) -> str:
    """Return an equation of `einsum` with small letters and without spaces; empty if it has no others.

    Keras cannot infer the shape of the result from an equation with capital letters or spaces.

    Args:
        subscripts: The equation, such as "bhwc, bHWc->bhwHW".
    """
    unused = iter(letter for letter in ascii_lowercase if letter not in subscripts)
    capitals = {letter: next(unused) for letter in ascii_uppercase if letter in subscripts}
    spelled = "".join(capitals.get(letter, letter) for letter in subscripts if letter != " ")
    return "" if spelled == subscripts else spelled


_PARTS = {"keras.ops.associative_scan": "elems", "keras.ops.map": "xs", "keras.ops.vectorized_map": "elements"}
"""The argument of a function that is called for each part of a tensor: the tensors that have the parts."""


def loops_of(operation: keras.Operation, args: Any, kwargs: Any, inside: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return the path of the layer, the name and the number of parts of a loop over parts; nothing for other functions.

    Args:
        operation: The operation.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        inside: The paths of the layers that contain the call.
    """
    kind = kind_of_operation(operation)
    if kind not in _PARTS:
        return []
    given = arguments_of(operation, args, kwargs)
    number = keras.tree.flatten(given[_PARTS[kind]])[0].shape[given.get("axis", 0)]
    return [("".join(inside[-1:]), kind, number)]


def differing_loops(
    first: Sequence[tuple[str, str, int]], second: Sequence[tuple[str, str, int]]
) -> tuple[Problem, ...]:
    """Return a problem for each loop whose number of parts differs between two traces: a dynamic number of parts."""
    return tuple(
        Problem(keras=path, fact=f"{kind} calls a function for each of a dynamic number of parts: {_INSTEAD}")
        for (path, kind, number), (_, _, other) in zip(first, second, strict=False)
        if number != other
    )


_INSTEAD = "that is not supported; compute the whole tensor at once, or loop over an axis of a fixed size"


def _cond(given: Mapping[str, Any]) -> Any:
    condition = given["pred"]
    if not isinstance(condition, keras.KerasTensor):
        return given["true_fn" if condition else "false_fn"]()
    return _where(ops.cast(condition, "bool"), given["true_fn"](), given["false_fn"]())


def _switch(given: Mapping[str, Any]) -> Any:
    index, branches = given["index"], given["branches"]
    results = [branch(*given.get("operands", ())) for branch in branches]
    if not isinstance(index, keras.KerasTensor):
        return results[min(max(int(index), 0), len(results) - 1)]
    chosen = results[0]
    for place, result in enumerate(results[1:], 1):  # an index beyond the last function chooses the last one
        chosen = _where(index >= place, result, chosen)
    return chosen


def _where(condition: Any, chosen: Any, other: Any) -> Any:
    """Return `chosen` where a scalar condition is true, else `other`; both are nested tensors, or None."""
    if len(getattr(condition, "shape", ())):
        condition = ops.reshape(condition, ())
    return keras.tree.map_structure(
        lambda one, two: None if one is None else ops.where(condition, one, two), chosen, other
    )


def _mapped(function: Callable[[Any], Any], parts: Any) -> Any:
    """Call a function for each part of nested tensors along their first axis, and stack the results."""
    size = keras.tree.flatten(parts)[0].shape[0]
    results = [function(keras.tree.map_structure(lambda x, at=place: x[at], parts)) for place in range(size)]
    return keras.tree.map_structure(lambda *rows: ops.stack(rows, axis=0), *results)


def _associative_scan(given: Mapping[str, Any]) -> Any:
    function, elements, axis = given["f"], given["elems"], given["axis"]
    length = keras.tree.flatten(elements)[0].shape[axis]

    def part(place: int) -> Any:
        return keras.tree.map_structure(lambda x: ops.take(x, [place], axis=axis), elements)

    places = range(length - 1, -1, -1) if given["reverse"] else range(length)
    results = [part(places[0])]
    for place in places[1:]:
        results.append(function(results[-1], part(place)))
    if given["reverse"]:
        results.reverse()
    return keras.tree.map_structure(lambda *rows: ops.concatenate(rows, axis=axis), *results)


def _extract_sequences(given: Mapping[str, Any]) -> Any:
    x, length, stride = given["x"], given["sequence_length"], given["sequence_stride"]
    starts = np.arange(0, x.shape[-1] - length + 1, stride)
    return ops.take(x, starts[:, None] + np.arange(length), axis=-1)


def _linspace(given: Mapping[str, Any]) -> Any:
    number, axis = int(given["num"]), given["axis"]
    start, stop = (ops.cast(given[name], given["dtype"] or "float32") for name in ("start", "stop"))
    intervals = number - 1 if given["endpoint"] else number
    step = (stop - start) / max(intervals, 1)
    places = ops.convert_to_tensor(np.arange(number), dtype=step.dtype)
    rank = len(step.shape)
    places = ops.reshape(places, (-1, *(1,) * rank))
    made = ops.expand_dims(start, 0) + places * ops.expand_dims(step, 0)
    made = made if axis == 0 else ops.moveaxis(made, 0, axis)
    return (made, step) if given["retstep"] else made


def _rearrange(given: Mapping[str, Any]) -> Any:
    x, (before, after) = given["tensor"], (_groups(side) for side in given["pattern"].split("->"))
    sizes = {name: size for name, size in given.items() if name not in ("tensor", "pattern")}
    for group, size in zip(before, x.shape, strict=True):
        unknown = [name for name in group if name not in sizes]
        sizes |= {name: size // prod(sizes[other] for other in group if other != name) for name in unknown}
    names = [name for group in before for name in group]
    x = ops.transpose(
        ops.reshape(x, [sizes[name] for name in names]), [names.index(name) for group in after for name in group]
    )
    return ops.reshape(x, [prod(sizes[name] for name in group) for group in after])


def _groups(side: str) -> list[list[str]]:
    """Return the axes on one side of a pattern: [["b"], ["h", "w"]] for "b (h w)"."""
    return [re.findall(r"\w+", group) for group in re.findall(r"\(.*?\)|\w+", side)]


def _trapezoid(given: Mapping[str, Any]) -> Any:
    y, x, axis = given["y"], given["x"], given["axis"]
    size = y.shape[axis]
    first, second = (ops.take(y, np.arange(start, start + size - 1), axis=axis) for start in (0, 1))
    widths: Any = given["dx"]
    if x is not None:
        alone = len(x.shape) == 1
        widths = ops.diff(x, axis=0 if alone else axis)
        if alone:
            widths = ops.reshape(widths, [size - 1 if at == axis % len(y.shape) else 1 for at in range(len(y.shape))])
    return ops.sum((first + second) / 2 * widths, axis=axis)


def _unravel_index(given: Mapping[str, Any]) -> Any:
    indices, shape = given["indices"], tuple(given["shape"])
    sizes = [int(np.prod(shape[place + 1 :])) for place in range(len(shape))]
    return tuple(ops.mod(ops.floor_divide(indices, size), axis) for size, axis in zip(sizes, shape, strict=True))


def _vander(given: Mapping[str, Any]) -> Any:
    x = given["x"]
    number = x.shape[-1] if given["N"] is None else given["N"]
    powers = range(number) if given["increasing"] else range(number - 1, -1, -1)
    return ops.stack([ops.power(x, power) for power in powers], axis=-1)


FUNCTIONS: dict[str, Composed] = {
    "keras.ops.associative_scan": _associative_scan,
    "keras.ops.cond": _cond,
    "keras.ops.extract_sequences": _extract_sequences,
    "keras.ops.linspace": _linspace,
    "keras.ops.map": lambda given: _mapped(given["f"], given["xs"]),
    "keras.ops.rearrange": _rearrange,
    "keras.ops.switch": _switch,
    "keras.ops.trapezoid": _trapezoid,
    "keras.ops.unravel_index": _unravel_index,
    "keras.ops.vander": _vander,
    "keras.ops.vectorized_map": lambda given: _mapped(given["function"], given["elements"]),
    **{f"keras.ops.image.{name}": function for name, function in IMAGES.items()},
}
"""For each function of `keras.ops` that is composed of others: the function that computes it, by its public name."""
