"""Determine the inputs of both models from the user's arguments; derive missing Keras inputs from the torch inputs.

A model with one input takes a single array of any name, and the report names it. With several inputs, a wrong name is
an error, because the order of the arrays does not show which input each belongs to.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.layout import channels_last, moved
from keras3conv.messages import count, with_article
from keras3conv.model.views import InputSpec, ModelView
from keras3conv.numerics.fingerprint import Fingerprint, fingerprint_of
from keras3conv.transforms import Array

SEED = 20240229

SAMPLES = 1
"""The number of samples with which layers are compared; one is enough, as all elements of its output are compared."""

_ROUNDING = 1e-4
"""The relative difference up to which torch and Keras inputs count as equal; their dtypes may differ."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of both models for a run.

    Attributes:
        torch: A tensor or array, a tuple of positional arguments, or a dict of keyword arguments.
        keras: An array, a list, or a dict by name.
        note: The origin of the inputs, for the report.
        samples: A description of the selected samples; empty if all samples are used.
    """

    torch: Any
    keras: Any
    note: str
    samples: str = ""


def given_inputs(torch: ModelView, keras: ModelView, inputs: Any, keras_inputs: Any) -> Inputs:
    """Return the inputs of both sides for the inputs that a user gave.

    Args:
        torch: The torch side, for the names of the arguments of its `forward`.
        keras: The Keras side, for its input specification.
        inputs: The user's inputs for the torch side.
        keras_inputs: The user's inputs for the Keras side, or None.

    Raises:
        InputError: The Keras inputs cannot be derived.
    """
    if keras_inputs is not None:
        _refuse_positional(keras, keras_inputs)
        return Inputs(torch=inputs, keras=keras_inputs, note="inputs given for both sides")
    arrays = _named(input_arrays(inputs), torch.arguments, keras.input_specs)
    derived = derive(arrays, keras.input_specs, keras.arguments)
    return Inputs(torch=inputs, keras=derived, note="inputs given; those of Keras are the same arrays in Keras' layout")


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
    names = {spec.key or spec.name for spec in specs}
    called = arguments[: len(arrays)]
    is_positional = list(arrays) == [str(place) for place in range(len(arrays))]
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


def _refuse_positional(keras: ModelView, keras_inputs: Any) -> None:
    """Raise `InputError` if a functional Keras model, which takes one argument, is to be called with a tuple."""
    if isinstance(keras_inputs, tuple) and len(keras_inputs) > 1 and keras.input_specs:
        raise InputError(
            f"keras_inputs is a tuple, so {keras.title} would be called with {len(keras_inputs)} arguments, but it "
            "takes one: a list or a dict of its inputs\nFix:  keras_inputs=list(keras_inputs)"
        )


def require_numbers(array: Array) -> None:
    """Raise `InputError` for an array of text, dates or objects, which no model accepts."""
    if array.dtype.kind in "OSUMm":
        raise InputError(
            f"an input is an array of {array.dtype}, of shape {array.shape}, but a model takes numbers"
            ": convert it to numbers"
        )


def refuse_unprovable(pair_inputs: Inputs) -> None:
    """Raise `InputError` if an input is empty, has NaN, or is not numeric: equal outputs would then prove nothing."""
    for side, inputs in (("torch", pair_inputs.torch), ("Keras", pair_inputs.keras)):
        for name, array in flatten(inputs, is_array):
            values = as_array(array)
            require_numbers(values)
            what = f"input {name}" if name else "the input"
            if not values.size:
                raise InputError(
                    f"{what} of the {side} side is empty, with shape {values.shape}, so a comparison would prove "
                    "nothing"
                    ": give inputs with elements"
                )
            # numpy gives the dtypes of ml_dtypes the kind V; `isnan` supports them.
            if values.dtype.kind in "fV" and (number := int(np.isnan(values).sum())):
                raise InputError(
                    f"{what} of the {side} side contains {number} NaN, so a comparison would prove nothing"
                    ": give inputs without NaN"
                )


def first_samples(inputs: Inputs, specs: Sequence[InputSpec], number: int = SAMPLES) -> Inputs | None:
    """Return the first samples of both sides' inputs; None if there are not more samples, or no batch axis.

    The first axis counts as batch axis if it has the same size on both sides, is dynamic in the Keras model, and if the
    first samples of both sides have the same values.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
        number: The number of samples to return.
    """
    sides = [list(flatten(side, is_array)) for side in (inputs.torch, inputs.keras)]
    arrays = [[value for _, value in side if is_array(value)] for side in sides]
    counts = {array.shape[0] if array.shape else 0 for side in arrays for array in side}
    if len(counts) != 1 or min(counts) <= number or any(spec.shape and spec.shape[0] is not None for spec in specs):
        return None
    torch, keras = ([fingerprint_of(as_array(array[:number])) for array in side] for side in arrays)
    # Compare in any order, because the two sides may order named inputs differently.
    if len(torch) != len(keras) or not all(any(_alike(one, other) for other in keras) for one in torch):
        return None
    first = "first" if number == 1 else f"first {number}"
    samples = f" with the {first} of {min(counts)} samples"
    return Inputs(torch=_cut(inputs.torch, number), keras=_cut(inputs.keras, number), note=inputs.note, samples=samples)


def _alike(one: Fingerprint, other: Fingerprint) -> bool:
    return one.agrees(other, _ROUNDING)


def is_array(value: object) -> bool:
    """Return whether a value is an array or a tensor of any framework."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _cut(inputs: Any, number: int) -> Any:
    """Return nested inputs of one side with only the first samples of each array."""
    if is_array(inputs):
        return inputs[:number]
    if isinstance(inputs, Mapping):
        return {name: _cut(value, number) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(_cut(value, number) for value in inputs)
    return inputs


def as_array(array: Any) -> Array:
    """Return an input of any framework as an array of the same dtype."""
    if hasattr(array, "detach"):
        from keras3conv.frameworks.torch.tensors import to_numpy

        return to_numpy(array)
    return np.asarray(array)


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
    names = [spec.key or spec.name for spec in specs]
    values = [arrays[name] for name in names] if set(names) == set(arrays) else list(arrays.values())
    if len(values) != len(specs):
        wanted = ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
        raise InputError(
            f"the torch module is called with {count(len(values), 'array')}, the Keras model takes {len(specs)} "
            f"({wanted}): give keras_inputs=... too, or the inputs alone, if an array holds something else, as labels"
        )
    made = [_fit(array, spec) for array, spec in zip(values, specs, strict=True)]
    return together(made, [spec.key for spec in specs])


def together(arrays: list[Array], keys: Sequence[str]) -> Any:
    """Return arrays in the form in which a Keras model takes its inputs: a dict, a single array, or a list.

    Args:
        arrays: The arrays.
        keys: The key of each array; empty texts if the model takes no dict.
    """
    if all(keys):
        return dict(zip(keys, arrays, strict=True))
    return arrays[0] if len(arrays) == 1 else arrays


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
    same, other = _matches(array.shape, spec.shape), _matches(moved(array.shape), spec.shape)
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
            if _matches(shape, spec.shape) and not _matches(moved(shape), spec.shape):
                return (
                    f"an input has the shape {shape} of the Keras model's input {spec.name} {spec.shape}; with the "
                    f"channels second, as torch modules of images and sequences take them, it is {other}. For inputs "
                    "in the layout of Keras, give keras_inputs=... in place of inputs=..."
                )
    return ""


def _matches(shape: tuple[int, ...], spec: tuple[int | None, ...]) -> bool:
    return len(shape) == len(spec) and all(free in (None, size) for size, free in zip(shape, spec, strict=True))


class OneArray(dict[str, Array]):
    """The only array of a file, by its name. Unlike a dict of the user, it is never passed to a model as a dict."""


def only_array(inputs: Any, names: Sequence[str], *, required: int, known: Collection[str] = ()) -> tuple[Any, str]:
    """Return inputs for a model, and a note if its only input gets an array of another name.

    Args:
        inputs: The user's inputs: an array, a tuple, or a dict by name.
        names: The names of the inputs of the model, the required ones first; empty if they are unknown.
        required: The number of inputs that the model needs.
        known: Other names of the first input, which need no note.
    """
    if not isinstance(inputs, Mapping) or len(inputs) != 1:
        return inputs, ""
    ((given, array),) = inputs.items()
    if given in names or not (isinstance(inputs, OneArray) or required == 1):
        return inputs, ""
    is_noted = names and given not in known
    return array, f"the input '{given}' was given to '{names[0]}'" if is_noted else ""


def dict_as_argument(inputs: Any, keywords: Collection[str], *, required: int) -> tuple[Any, str]:
    """Return inputs for a torch module whose only required argument is a dict, and a note if a dict was given to it.

    This is the case for several arrays without any name that `forward` takes: `forward(self, batch)` with
    {"tokens": ..., "mask": ...}.

    Args:
        inputs: The user's inputs: an array, a tuple, or a dict by name.
        keywords: The names under which `forward` takes arguments; empty if it takes any name.
        required: The number of arguments without a default.
    """
    is_argument = isinstance(inputs, Mapping) and len(inputs) > 1 and not any(name in keywords for name in inputs)
    if not (is_argument and keywords and required == 1):
        return inputs, ""
    return (inputs,), "the dict of inputs was given as the only argument that forward needs"


def flatten(value: Any, is_leaf: Callable[[Any], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested tuples, lists and mappings with their names: "0", "logits", "hidden_states.3".

    Args:
        value: The nested structure.
        is_leaf: Returns whether a value is a leaf; other values that are no containers are left out.
        prefix: The name of the structure itself.
    """
    if is_leaf(value):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, is_leaf, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from flatten(item, is_leaf, f"{prefix}.{index}" if prefix else str(index))
