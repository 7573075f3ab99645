"""Vary the inputs of both sides in the same way: both signs, more samples, other sizes of dynamic axes."""

from collections.abc import Callable, Sequence

import numpy as np

from keras3conv.frameworks.shared.inputs import Inputs, arrays_of, first_samples
from keras3conv.frameworks.shared.inputs_scaled import changed, with_arrays
from keras3conv.frameworks.shared.layout import channels_first
from keras3conv.model.views import InputSpec
from keras3conv.transforms import Array

STRENGTHS = 16
"""The number of samples to which small inputs are repeated, each scaled differently."""

_SMALL_INPUTS = 2**14
"""The number of elements up to which inputs count as small."""

LARGER = 32
"""The number that is added to a dynamic size to make it larger: a multiple of the strides of most models."""

SMALLEST = 4
"""The smallest size that is tried for a dynamic axis."""

LONG = 128
"""The size from which on an axis is divided to make it smaller, because the time of a run may grow with its square."""

PARTS = 4
"""A long axis is divided by this number, but its smaller size is at least about half of `LONG`.

At that size an image model that divides the size by 32 still has two rows and columns of pixels at its end.
"""

FARTHEST = 2048
"""The largest size at which a slice ends, such as the `x[:, :512]` of a truncated text, that is exceeded."""

LARGEST = 256
"""The largest size that is still increased, because the time of a run may grow with the square of the size."""


def both_signs(inputs: Inputs) -> Inputs:
    """Return the inputs with positive and negative values: values of one sign are shifted by their median."""

    def shifted(array: Array) -> Array:
        is_one_sided = array.min() >= 0 or array.max() <= 0
        return array - np.sort(array, axis=None)[array.size // 2] if is_one_sided else array

    return changed(inputs, shifted)


def with_more_samples(inputs: Inputs, specs: Sequence[InputSpec]) -> Inputs | None:
    """Return the inputs with their samples repeated, and each sample scaled by another factor between 0 and 1.

    So some values lie between the limits of a clip, for example. Large inputs have such values anyway.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.

    Returns:
        The inputs; None if there is no batch axis, or if the inputs are large.
    """

    def weakened(array: Array) -> Array:
        strengths = np.linspace(1, 1 / STRENGTHS, STRENGTHS, dtype=array.dtype)
        weak: Array = array * strengths.reshape(-1, *(1,) * (array.ndim - 1))
        return weak

    many = repeated(inputs, specs)
    return None if many is None else changed(many, weakened)


def repeated(inputs: Inputs, specs: Sequence[InputSpec], most: int = _SMALL_INPUTS) -> Inputs | None:
    """Return the inputs with their samples repeated until there are `STRENGTHS` samples.

    None if there is no batch axis, or if the result would have more than `most` elements.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
        most: The largest number of elements of the result, in all inputs of one side.
    """
    if first_samples(inputs, specs, 1) is None:
        return None
    torch, keras = map(arrays_of, (inputs.torch, inputs.keras))
    if sum(array[:1].size for array in keras) * STRENGTHS > most:
        return None
    in_torch, in_keras = (
        [np.resize(array, (STRENGTHS, *array.shape[1:])) for array in side] for side in (torch, keras)
    )
    return with_arrays(inputs, in_torch, in_keras)


def smaller_sizes(inputs: Inputs, specs: Sequence[InputSpec]) -> tuple[str, Inputs] | None:
    """Return a copy of the inputs with smaller dynamic axes, and their sizes: ("63x62", inputs).

    Long axes are cut to a part, odd sizes become even, and height and width become different.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.

    Returns:
        The sizes and the inputs; None if there are no dynamic axes, or if one is too short.
    """
    found = dynamic_sizes(inputs, specs)
    return _with_sizes(inputs, specs, _smaller) if found and min(found) > SMALLEST else None


def larger_sizes(inputs: Inputs, specs: Sequence[InputSpec], beyond: int = 0) -> tuple[str, Inputs] | None:
    """Return a copy of the inputs with larger dynamic axes, and their sizes: ("256x256", inputs).

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
        beyond: The end of a slice in the model, such as the 512 of `x[:, :512]`. The copy has more steps than this,
            unless it exceeds `FARTHEST`, so that the slice leaves some out.

    Returns:
        The sizes and the inputs; None if there are no dynamic axes, or if one is too long.
    """
    found = dynamic_sizes(inputs, specs)
    if not found:
        return None
    longer = max(LARGER, -(-(beyond + 1 - min(found)) // LARGER) * LARGER) if beyond <= FARTHEST else LARGER
    is_possible = max(found) <= LARGEST or longer > LARGER
    return _with_sizes(inputs, specs, lambda size, place: size + longer) if is_possible else None


def are_long_images(inputs: Inputs, specs: Sequence[InputSpec]) -> bool:
    """Return whether each input has two or more dynamic axes, all of `LONG` elements or more, as those of large images.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
    """
    numbers = [len(free) for free in _dynamic_axes(specs)]
    return bool(numbers) and min(numbers) > 1 and min(dynamic_sizes(inputs, specs), default=0) >= LONG


def dynamic_sizes(inputs: Inputs, specs: Sequence[InputSpec]) -> set[int]:
    """Return the sizes of the inputs along all dynamic axes but the batch axis.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
    """
    keras, _ = _arrays_of(inputs)
    pairs = zip(keras, _dynamic_axes(specs), strict=False)
    return {array.shape[axis] for array, free in pairs for axis in free}


def _dynamic_axes(specs: Sequence[InputSpec]) -> list[tuple[int, ...]]:
    """Return, for each Keras input, the axes without a fixed size; the batch axis is left out."""
    return [tuple(axis for axis, size in enumerate(spec.shape) if axis and size is None) for spec in specs]


def _arrays_of(inputs: Inputs) -> tuple[list[Array], list[Array]]:
    """Return the arrays of the Keras inputs and those of the torch inputs."""
    keras, torch = map(arrays_of, (inputs.keras, inputs.torch))
    return keras, torch


def _with_sizes(inputs: Inputs, specs: Sequence[InputSpec], change: "_Change") -> tuple[str, Inputs] | None:
    """Return the new sizes as text ("256x256"), and a copy of the inputs in which the dynamic axes have these sizes.

    Returns:
        The sizes and the inputs; None if the dynamic axes of the torch inputs are unknown.
    """
    keras, torch = _arrays_of(inputs)
    axes = _dynamic_axes(specs)
    if len(keras) != len(specs) or len(torch) != len(keras):
        return None
    torch_axes = [_axes_in_torch(array, keras, axes) for array in torch]
    if any(free is None for free in torch_axes):
        return None
    sizes = {_in_words(array, free, change) for array, free in zip(keras, axes, strict=True) if free}
    in_torch = [_resize(array, free or (), change) for array, free in zip(torch, torch_axes, strict=True)]
    in_keras = [_resize(array, free, change) for array, free in zip(keras, axes, strict=True)]
    return ", ".join(sorted(sizes)), with_arrays(inputs, in_torch, in_keras)


def integers_in_words(inputs: Inputs) -> str:
    """Return the range of the integers in the Keras inputs, "integers from 0 to 99"; empty if there are no integers."""
    arrays = arrays_of(inputs.keras)
    integers = [array for array in arrays if array.dtype.kind in "iu" and array.size]
    if not integers:
        return ""
    return (
        f"integers from {min(int(array.min()) for array in integers)} to {max(int(array.max()) for array in integers)}"
    )


def sizes_in_words(inputs: Inputs, specs: Sequence[InputSpec]) -> str:
    """Return the sizes of the inputs along the dynamic axes of a Keras model as text: "224x224", or "" if it has none.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
    """
    keras = arrays_of(inputs.keras)
    words = set()
    for array, spec in zip(keras, specs, strict=False):
        free = tuple(axis for axis, size in enumerate(spec.shape) if axis and size is None)
        words |= {_in_words(array, free, lambda size, place: size)} if free else set()
    return ", ".join(sorted(words))


def _smaller(size: int, place: int) -> int:
    """Return a smaller size for a dynamic axis: a quarter of a long one, or half of `LONG` if that is larger.

    Args:
        size: The size.
        place: The number of the axis among the dynamic axes of an input, so that height and width become different.
    """
    if size >= LONG:
        part = max(LONG // 2, size // PARTS)
        size = part + (part + size) % 2
    return size - 1 - place


_Change = Callable[[int, int], int]
"""A function that returns the new size of an axis from its old size and its index among the dynamic axes."""


def _in_words(array: Array, axes: tuple[int, ...], change: _Change) -> str:
    return "x".join(str(change(array.shape[axis], place)) for place, axis in enumerate(axes))


def _axes_in_torch(array: Array, keras: Sequence[Array], axes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the indices of a torch input's dynamic axes: those that are dynamic in the Keras input of the same values.

    None if no Keras input has the same values, in the same layout or with the channels last.
    """
    for other, free in zip(keras, axes, strict=True):
        if array.shape == other.shape and np.array_equal(array, other):
            return free
        moved = channels_first(other)
        if array.shape == moved.shape and np.array_equal(array, moved):
            return tuple(1 if axis == other.ndim - 1 else axis + 1 for axis in free)
    return None


def _resize(array: Array, axes: tuple[int, ...], change: _Change) -> Array:
    """Return an array with new sizes of some axes, cut or repeated.

    Args:
        array: The array.
        axes: The axes.
        change: Returns the new size of an axis from its old size and its position in `axes`.
    """
    for place, axis in enumerate(axes):
        size = array.shape[axis]
        array = np.take(array, _places(size, change(size, place)), axis)
    return np.ascontiguousarray(array)


def _places(size: int, new: int) -> Array:
    """Return the indices of the elements from which an axis of another size is made: 0, 1, 2, ... up to `size - 1`.

    A longer axis has further indices after these, in an order that is not periodic: with a periodic one, a model that
    leaves out steps would compute the right mean of a sequence nevertheless.

    Args:
        size: The size of the axis.
        new: The size of the new axis, the number of indices.
    """
    step, repeat = np.arange(new) % size, np.arange(new) // size
    return np.where(repeat == 0, step, (step * step + repeat) % size)
