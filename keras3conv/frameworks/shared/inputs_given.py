"""Determine the inputs of both models from those that the user gave, and derive the missing ones of the other side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs import (
    Accepts,
    Inputs,
    arrays_of,
    as_array,
    flatten,
    is_array,
    possible_layouts,
    require_numbers,
    together,
    with_arrays,
)
from keras3conv.frameworks.shared.inputs_named import dict_as_argument, only_array, require_arguments
from keras3conv.frameworks.shared.inputs_of_keras import by_name, fitted, matches
from keras3conv.frameworks.shared.layout import channels_last, moved
from keras3conv.messages import count, with_article
from keras3conv.model.views import InputSpec, ModelView
from keras3conv.transforms import Array


def given_inputs(
    torch: ModelView, keras: ModelView, inputs: Any, keras_inputs: Any, accepts: Accepts | None = None
) -> Inputs:
    """Return the inputs of both sides if the user gave those of one side or of both.

    Args:
        torch: The torch side, whose layers show which inputs are channels-first.
        keras: The Keras side, for its input specification.
        inputs: The user's inputs for the torch side, or None.
        keras_inputs: The user's inputs for the Keras side, or None.
        accepts: Returns whether the models run on inputs, to choose the layout of sequences; None if they cannot run.

    Raises:
        InputError: Inputs do not fit a model, or those of the other side cannot be derived.
    """
    names = [spec.argument for spec in keras.input_specs]
    inputs, torch_note = only_array(inputs, torch.arguments, required=torch.required, known=names)
    keras_inputs, keras_note = only_array(keras_inputs, names, required=len(names), known=torch.arguments)
    keras_inputs, order_note = fitted(keras_inputs, keras.input_specs, "keras_inputs", keras.title)
    inputs, dict_note = dict_as_argument(inputs, torch.keywords, required=torch.required)
    if inputs is not None:
        require_arguments(inputs, torch)
        given = _from_torch(torch, keras, inputs, keras_inputs)
    else:
        given = _from_keras(torch, keras, keras_inputs, accepts)
    notes = "".join(f"; {note}" for note in (torch_note, dict_note, keras_note, order_note) if note)
    return replace(given, note=given.note + notes)


def _from_torch(torch: ModelView, keras: ModelView, inputs: Any, keras_inputs: Any) -> Inputs:
    """Return the inputs of both sides if the user gave those of the torch side.

    Args:
        torch: The torch side, for the names of the arguments of its `forward`.
        keras: The Keras side, for its input specification.
        inputs: The user's inputs for the torch side.
        keras_inputs: The user's inputs for the Keras side, or None.

    Raises:
        InputError: The Keras inputs cannot be derived.
    """
    if keras_inputs is not None:
        return Inputs(torch=inputs, keras=keras_inputs, note="inputs given for both sides")
    arrays = _named(input_arrays(inputs), torch.arguments, keras.input_specs)
    try:
        derived = derive(arrays, keras.input_specs, keras.arguments)
    except InputError as error:
        if len(keras.input_specs) < 2:
            raise
        raise InputError(f"{error.message}\nFix:  {_line(torch, keras)}") from error
    return Inputs(torch=inputs, keras=derived, note="inputs given; those of Keras are the same arrays in Keras' layout")


def _line(torch: ModelView, keras: ModelView) -> str:
    """Return the torch inputs as code to paste, by the names of the arguments of `forward`, else by those of Keras."""
    names = torch.arguments[: torch.required]
    if len(names) == len(keras.input_specs):
        given = ", ".join(f'"{name}": {name}' for name in names)
        return f"inputs={{{given}}}"
    return by_name("inputs", keras.input_specs)


def _named(arrays: dict[str, Array], arguments: Sequence[str], specs: Sequence[InputSpec]) -> dict[str, Array]:
    """Return positional torch inputs by argument name, if the Keras inputs have the names of the arguments.

    Otherwise they are returned unchanged; those that have names, in the order of the arguments.

    Args:
        arrays: The inputs of the torch module; positional ones have the names "0", "1", ....
        arguments: The argument names of the module's `forward`.
        specs: The input specification of the Keras model.
    """
    if set(arrays) <= set(arguments):
        return {name: arrays[name] for name in arguments if name in arrays}
    names = {spec.argument for spec in specs}
    called = arguments[: len(arrays)]
    is_positional = len(called) == len(arrays) and list(arrays) == [str(place) for place in range(len(arrays))]
    return dict(zip(called, arrays.values(), strict=True)) if is_positional and set(called) == names else arrays


def input_arrays(inputs: object) -> dict[str, Array]:
    """Return the inputs of a torch module as arrays by name: positional ones "0", "1", ..., keywords by name.

    Raises:
        InputError: `inputs` has a wrong type, or an array does not contain numbers.
    """
    if not (isinstance(inputs, dict | tuple) or is_array(inputs)):
        raise InputError(no_input(inputs))
    named = inputs if isinstance(inputs, dict) else list(inputs) if isinstance(inputs, tuple) else [inputs]
    arrays = {}
    for name, value in flatten(named, is_array):
        arrays[name] = as_array(value)
        require_numbers(arrays[name])
    return arrays


def no_input(inputs: object) -> str:
    """Return the error message that a torch module cannot be called with inputs of this type."""
    return (
        "inputs must be a tensor or an array, a tuple of positional arguments, or a dict of keyword arguments, but is "
        f"{with_article(type(inputs).__name__)}"
    )


def _from_keras(torch: ModelView, keras: ModelView, keras_inputs: Any, accepts: Accepts | None) -> Inputs:
    """Return the inputs of both sides if the user gave only those of the Keras model.

    Args:
        torch: The torch side.
        keras: The Keras side, whose input specification has the order and the names of the inputs.
        keras_inputs: The user's inputs for the Keras side.
        accepts: Returns whether the models run on inputs, to choose the layout of sequences in torch; or None.

    Raises:
        InputError: The inputs do not fit the specification, or the models accept none of the layouts.
    """
    specs = keras.input_specs
    names = [spec.argument for spec in specs]
    is_named = isinstance(keras_inputs, dict) and set(keras_inputs) == set(names)
    ordered = [keras_inputs[name] for name in names] if is_named else keras_inputs
    arrays = arrays_of(ordered)
    if not specs or len(arrays) != len(specs):
        raise InputError(
            f"keras_inputs has {count(len(arrays), 'array')}, and the input specification of {keras.title} has "
            f"{len(specs)}: give the inputs of the torch module too, as inputs=..."
        )
    for array in arrays:
        require_numbers(array)
    note = "inputs given for Keras; those of torch are the same arrays in torch's layout"
    same = "inputs given for Keras, and used for torch as they are"
    tried = [
        with_arrays(torch, keras, arrays, same if first is None else note, channels_first=first)
        for first in possible_layouts(torch, keras)
    ]
    for made in tried:
        if accepts is None or len(tried) == 1 or accepts(made):
            return made
    raise InputError(
        "no torch inputs that the models accept can be derived from keras_inputs, neither in the same layout nor with "
        "the channels first: give the inputs of the torch module too, as inputs=..."
    )


def derive(arrays: Mapping[str, Array], specs: Sequence[InputSpec], arguments: Sequence[str] = ()) -> Any:
    """Return the Keras inputs for torch inputs, matched by name if both sides have the same names, else by order.

    Args:
        arrays: The inputs of the torch module: keywords by name, positional arguments by position.
        specs: The input specification of the Keras model; empty if it has none.
        arguments: The argument names of a Keras model without a specification.

    Raises:
        InputError: The number or the shapes of the inputs do not fit the Keras model.
    """
    if not specs:
        return _unspecified(arrays, arguments)
    names = [spec.argument for spec in specs]
    values = [arrays[name] for name in names] if set(names) == set(arrays) else list(arrays.values())
    if len(values) != len(specs):
        wanted = ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
        raise InputError(
            f"the torch module is called with {count(len(values), 'array')}, the Keras model takes {len(specs)} "
            f"({wanted}): give keras_inputs=... too, or the inputs alone, if an array holds something else, as labels"
        )
    made = [_fit(array, spec) for array, spec in zip(values, specs, strict=True)]
    return together(made, [spec.key for spec in specs])


_IN_FIRST = "0."
"""The start of the names of arrays in the first positional argument, which is a dict or a list."""


def _unspecified(arrays: Mapping[str, Array], arguments: Sequence[str]) -> Any:
    """Return the inputs of a Keras model without an input specification, derived from the arguments of its `call`.

    The inputs become positional arguments if the torch inputs have the names of these arguments, or if they have no
    names and are not more than the arguments. Otherwise they become one argument: a dict if they have names, else a
    list.

    Args:
        arrays: The inputs of the torch module, by name or position.
        arguments: The names of the arguments of the Keras model's `call`.
    """
    made = {name: channels_last(array) if array.ndim >= 4 else array for name, array in arrays.items()}
    if all(name.startswith(_IN_FIRST) for name in made):  # the only argument is a dict or a list
        made = {name.removeprefix(_IN_FIRST): array for name, array in made.items()}
        return made if all(name.isidentifier() for name in made) else list(made.values())
    if len(made) == 1:
        return next(iter(made.values()))
    if made.keys() <= set(arguments):
        last = max(arguments.index(name) for name in made)
        return tuple(made.get(name) for name in arguments[: last + 1])
    if all(name.isidentifier() for name in made):
        return made
    takes = sum(name != "mask" for name in arguments)  # Keras itself passes the mask
    return tuple(made.values()) if takes >= len(made) else list(made.values())


def _fit(array: Array, spec: InputSpec) -> Array:
    same, other = matches(array.shape, spec.shape), matches(moved(array.shape), spec.shape)
    if other and array.ndim > 2 and (array.ndim >= 4 or not same):
        return np.ascontiguousarray(channels_last(array))
    if same:
        return array
    raise InputError(
        f"an input of shape {array.shape} does not fit {spec.name or 'the Keras input'} of shape {spec.shape}, "
        "neither as "
        "it is nor converted to channels-last: give keras_inputs=..."
    )


def in_keras_layout(inputs: Any, specs: Sequence[InputSpec]) -> str:
    """Return a hint that an input for the torch module has the layout of Keras, (1, 32, 32, 3); empty if none has.

    Args:
        inputs: The inputs that a user gave for the torch module, which raised when it was called with them.
        specs: The input specification of the Keras model.
    """
    for array in input_arrays(inputs).values():
        shape, other = array.shape, (*array.shape[:1], *array.shape[-1:], *array.shape[1:-1])
        for spec in specs if array.ndim > 2 else ():
            if matches(shape, spec.shape) and not matches(moved(shape), spec.shape):
                return (
                    f"an input has the shape {shape} of the Keras model's input {spec.name} {spec.shape}; with the "
                    f"channels second, as torch modules of images and sequences take them, it is {other}. For inputs "
                    "in the layout of Keras, give keras_inputs=... in place of inputs=..."
                )
    return ""
