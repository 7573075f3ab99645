"""Make the inputs of both models from random arrays or given ones; check, shorten and flatten any inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs_random import SEED, random_array
from keras3conv.model.views import InputSpec, ModelView
from keras3conv.numerics.fingerprint import Fingerprint, fingerprint_of
from keras3conv.transforms import Array

SAMPLES = 1
"""The number of samples with which layers are compared; one is enough, as all elements of its output are compared."""

_ROUNDING = 1e-4
"""The relative difference up to which torch and Keras inputs count as equal; their dtypes may differ."""

FREE_SIZES = (32, 64, 128, 224, 16, 8, 4)
"""The sizes to try for dynamic axes, in this order: some models halve images several times, others have few positions.
"""

_DOUBLED = tuple(2**power for power in range(9, 16))
"""More sizes to try for a model of sequences that crops its input; images of these sizes would be too large."""

_IMAGE = 4
"""The number of axes from which on an input is an image or volume, with the channels second in torch."""


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


Accepts = Callable[[Inputs], bool]
"""A function that runs both models on inputs, and returns whether both accept them."""


def random_inputs(torch: ModelView, keras: ModelView, accepts: Accepts | None = None) -> Inputs:
    """Return random inputs for both sides, of the shapes in the Keras input specification.

    Args:
        torch: The torch side, whose layers show which inputs are channels-first.
        keras: The Keras side, for its input specification.
        accepts: Returns whether the models run on inputs, to choose dynamic sizes; None if the models cannot be run.

    Raises:
        InputError: There is no specification, or the models accept none of the sizes.
    """
    if not keras.input_specs:
        raise InputError(f"{keras.title} has no input specification: give inputs=..., the inputs of the torch module")
    free = [spec for spec in keras.input_specs if None in spec.shape[1:]]
    layouts = possible_layouts(torch, keras)
    if not free and (accepts is None or len(layouts) == 1):
        return _made(torch, keras, 0, channels_first=layouts[0])
    is_image = any(len(spec.shape) > 3 for spec in free)
    sizes = (FREE_SIZES if is_image else (*FREE_SIZES, *_DOUBLED)) if free else (0,)
    for place, size in enumerate(sizes if accepts else ()):
        for first in layouts:
            made = _made(torch, keras, size, channels_first=first)
            if accepts and accepts(made):
                refused = ", ".join(map(str, sizes[:place]))
                chosen = f"; the dynamic sizes are {size}" if free else ""
                return replace(made, note=made.note + chosen + (f", as the models refuse {refused}" if refused else ""))
    if not free:
        return _made(torch, keras, 0, channels_first=layouts[0])
    tried = f", and the models accept none of {', '.join(map(str, sizes))}" if accepts else ""
    raise InputError(
        f"{keras.title} takes an input of shape {free[0].shape}, with None for dynamic sizes{tried}: give inputs=..., "
        "the inputs of the torch module"
    )


def possible_layouts(torch: ModelView, keras: ModelView) -> tuple[bool | None, ...]:
    """Return the layouts to try for torch inputs, the more likely ones first.

    Images have their channels second in torch; for sequences, True means (batch, channels, steps), and False means
    (batch, steps, channels). None means that all inputs have the layout of Keras, as after
    `convert(..., channels="last")`.

    Args:
        torch: The torch side; a convolution or pooling over one axis makes channels before the steps likely.
        keras: The Keras side, whose input specification shows which inputs are sequences.
    """
    as_in_keras = (None,) if any(len(spec.shape) >= _IMAGE for spec in keras.input_specs) else ()
    if all(len(spec.shape) != 3 for spec in keras.input_specs):
        return (False, *as_in_keras)
    likely = any(kind.endswith(("Conv1d", "Pool1d")) for layer in torch.layers for kind in layer.kinds)
    return (likely, not likely, *as_in_keras)


def _made(torch: ModelView, keras: ModelView, size: int, *, channels_first: bool | None) -> Inputs:
    """Return random inputs for both sides, with the same values in both.

    Args:
        torch: The torch side.
        keras: The Keras side, whose input specification determines the shapes.
        size: The size of every dynamic axis.
        channels_first: Whether sequences have the channels before the steps in torch; None if torch has the layout of
            Keras, also for images.
    """
    made = [random_array(spec, keras, size, place) for place, spec in enumerate(keras.input_specs)]
    shapes = ", ".join(str(array.shape) for array in _in_torch(made, channels_first=channels_first))
    note = f"random inputs of shape {shapes}, seed {SEED}, made from the Keras model's input specification"
    return with_arrays(torch, keras, made, note, channels_first=channels_first)


def with_arrays(
    torch: ModelView, keras: ModelView, arrays: list[Array], note: str, *, channels_first: bool | None
) -> Inputs:
    """Return the inputs of both sides, made from the arrays of the Keras inputs.

    Args:
        torch: The torch side.
        keras: The Keras side.
        arrays: The arrays in Keras' layout, in the order of its input specification.
        note: The origin of the inputs, for the report.
        channels_first: Whether sequences have the channels before the steps in torch; None if torch has the layout of
            Keras, also for images.
    """
    torch_made = _in_torch(arrays, channels_first=channels_first)
    names = [spec.argument for spec in keras.input_specs]
    by_name = dict(zip(names, torch_made, strict=True))
    are_named = len(names) > 1 and set(names) == set(torch.arguments[: len(names)])
    are_one_argument = len(names) > 1 and len(torch.keywords) == 1 and all(spec.key for spec in keras.input_specs)
    return Inputs(
        torch=by_name if are_named else (by_name,) if are_one_argument else tuple(torch_made),
        keras=together(arrays, [spec.key for spec in keras.input_specs]),
        note=note,
    )


def together(arrays: list[Array], keys: Sequence[str]) -> Any:
    """Return arrays in the form in which a Keras model takes its inputs: a dict, a single array, or a list.

    Args:
        arrays: The arrays.
        keys: The key of each array; empty texts if the model takes no dict.
    """
    if all(keys):
        return dict(zip(keys, arrays, strict=True))
    return arrays[0] if len(arrays) == 1 else arrays


def _in_torch(arrays: list[Array], *, channels_first: bool | None) -> list[Array]:
    """Return Keras inputs in a layout of torch, as `possible_layouts` returns it: None leaves all inputs unchanged."""
    return arrays if channels_first is None else [_torch_layout(one, sequences_first=channels_first) for one in arrays]


def _torch_layout(array: Array, *, sequences_first: bool) -> Array:
    """Return a Keras input in the layout of torch: an image of shape (1, 32, 32, 3) becomes (1, 3, 32, 32).

    Args:
        array: The input of the Keras model.
        sequences_first: Whether the channels of a sequence become the second axis, too.
    """
    if array.ndim >= _IMAGE or (array.ndim == 3 and sequences_first):
        return np.ascontiguousarray(np.moveaxis(array, -1, 1))
    return array


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
    torch, keras = (map_arrays(side, lambda array: array[:number]) for side in (inputs.torch, inputs.keras))
    return Inputs(torch=torch, keras=keras, note=inputs.note, samples=samples)


def _alike(one: Fingerprint, other: Fingerprint) -> bool:
    return one.agrees(other, _ROUNDING)


def map_arrays(inputs: Any, function: Callable[[Any], Any]) -> Any:
    """Return nested inputs of one side with a function applied to each array, in the order of `flatten`."""
    if is_array(inputs):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {name: map_arrays(value, function) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(map_arrays(value, function) for value in inputs)
    return inputs


def arrays_of(inputs: Any) -> list[Array]:
    """Return the arrays in nested inputs of one side, as numpy arrays in the order of `flatten`."""
    return [as_array(value) for _, value in flatten(inputs, is_array)]


def is_array(value: object) -> bool:
    """Return whether a value is an array or a tensor of any framework."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def as_array(array: Any) -> Array:
    """Return an input of any framework as an array of the same dtype."""
    if hasattr(array, "detach"):
        from keras3conv.frameworks.torch.tensors import to_numpy

        return to_numpy(array)
    return np.asarray(array)


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
