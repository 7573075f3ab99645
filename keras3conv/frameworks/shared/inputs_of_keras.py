"""Bring the inputs that a user gave for a Keras model into the form in which the model takes them.

A file of arrays has names or an order, and a model takes one array, a list, or a dict. Arrays without names are given
to the inputs of the model in its order; for a model that takes a dict, which has no order, by their shapes if these
decide.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs import as_array, is_array, require_numbers, together
from keras3conv.frameworks.shared.inputs_named import wrong_names
from keras3conv.messages import count
from keras3conv.model.views import InputSpec
from keras3conv.transforms import Array

_MOST_REORDERED = 6
"""The number of inputs up to which all orders are tried."""


def fitted(inputs: Any, specs: Sequence[InputSpec], argument: str, title: str) -> tuple[Any, str]:
    """Return inputs of a Keras model in the form in which it takes them, and a note if the order was chosen by shape.

    Inputs of a model without a specification, and nested ones, are returned as they are.

    Args:
        inputs: The user's inputs: an array, a list or tuple of arrays, or a dict of arrays by name.
        specs: The input specification of the model; empty if it has none.
        argument: The argument with the inputs, for messages: "keras_inputs".
        title: The model, for messages.

    Raises:
        InputError: An array has a name that no input has, an input has no array, or there are too many arrays.
    """
    if isinstance(inputs, Mapping) and not specs:
        return dict(inputs), ""
    if not specs or not _is_flat(inputs):
        return inputs, ""
    if isinstance(inputs, Mapping):
        return _by_name(inputs, specs, argument, title), ""
    if isinstance(inputs, list) and len(inputs) == len(specs) == 1 and not specs[0].key:
        return inputs, ""  # a model that is made with a list of one input takes such a list
    arrays = [inputs] if is_array(inputs) else list(inputs)
    if len(arrays) != len(specs):
        raise InputError(
            f"{argument} has {count(len(arrays), 'array')}, but {title} takes {len(specs)}: {_listed(specs)}"
            f"\nFix:  {by_name(argument, specs)}"
        )
    order, note = _order(arrays, specs)
    return together([arrays[place] for place in order], [spec.key for spec in specs]), note


def by_name(argument: str, specs: Sequence[InputSpec]) -> str:
    """Return the argument with all inputs of a Keras model as code to paste: `keras_inputs={"ids": ids}`.

    Args:
        argument: The name of the argument.
        specs: The input specification of the model.
    """
    return f"{argument}={{{', '.join(f'{spec.argument!r}: {_variable(spec)}' for spec in specs)}}}".replace("'", '"')


def _is_flat(inputs: Any) -> bool:
    """Return whether inputs are an array, or arrays by name or position, with nothing nested in them."""
    if is_array(inputs):
        return True
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, list | tuple) else [None]
    return all(is_array(value) for value in values)


def _by_name(inputs: Mapping[str, Any], specs: Sequence[InputSpec], argument: str, title: str) -> Any:
    names = [spec.argument for spec in specs]
    needed = [spec.argument for spec in specs if not spec.is_optional]
    if wrong := wrong_names(inputs, names, needed):
        raise InputError(
            f"{argument} has {wrong}: the inputs of {title} are {', '.join(names)}\nFix:  {by_name(argument, specs)}"
        )
    if len(inputs) < len(specs):
        return dict(inputs)
    return together([inputs[name] for name in names], [spec.key for spec in specs])


def _order(arrays: Sequence[Any], specs: Sequence[InputSpec]) -> tuple[tuple[int, ...], str]:
    """Return the place of the array for each input, and a note if shapes decided it.

    The order is changed only for a model that takes a dict, and only if exactly one order fits all shapes.

    Args:
        arrays: The arrays, one for each input.
        specs: The input specification of the model.
    """
    found = [as_array(array) for array in arrays]
    for array in found:
        require_numbers(array)
    as_given = tuple(range(len(specs)))
    if not all(spec.key for spec in specs) or len(specs) > _MOST_REORDERED or _fit(found, specs, as_given):
        return as_given, ""
    fitting = [order for order in permutations(as_given) if _fit(found, specs, order)]
    if len(fitting) != 1:
        return as_given, ""
    named = sorted(zip(fitting[0], (spec.argument for spec in specs), strict=True))
    return fitting[0], f"the arrays were given to {', '.join(name for _, name in named)}, by their shapes"


def _fit(arrays: Sequence[Array], specs: Sequence[InputSpec], order: Sequence[int]) -> bool:
    pairs = zip(order, specs, strict=True)
    return all(matches(arrays[place].shape[1:], spec.shape[1:]) for place, spec in pairs)


def matches(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Return whether an array of a shape fits a shape in which None stands for any size."""
    return len(shape) == len(wanted) and all(free in (None, size) for size, free in zip(shape, wanted, strict=True))


def _listed(specs: Sequence[InputSpec]) -> str:
    return ", ".join(f"{spec.argument} {spec.shape}" for spec in specs)


def _variable(spec: InputSpec) -> str:
    """Return the name of an input as a variable of Python: "x.1" becomes "x_1"."""
    name = "".join(one if one.isalnum() else "_" for one in spec.argument)
    return name if name.isidentifier() else f"x_{name}"
