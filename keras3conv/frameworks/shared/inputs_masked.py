"""Make inputs with masks, padding and large integers, to find a model that ignores a mask or misreads an integer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras3conv.frameworks.shared.inputs import Inputs, arrays_of, as_array, flatten, is_array
from keras3conv.frameworks.shared.inputs_random import SEED, padded, random_mask
from keras3conv.frameworks.shared.inputs_scaled import with_arrays
from keras3conv.frameworks.shared.layout import channels_first
from keras3conv.model.views import InputSpec
from keras3conv.transforms import Array

_RANGES = (256, 64, 16, 8, 4)
"""The sizes of the ranges of integers to try, the largest first; an embedding accepts only indices below its size."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Inputs in which the integers of one array are replaced by integers from 0 to `end`.

    Attributes:
        end: The largest integer.
        inputs: The inputs.
        as_mask: The same inputs with every integer but 0 replaced by 1. A side that returns the same output for both
            reads the integers as a mask.
        negative: The same inputs with the integers negated; None if the dtype has no sign.
        between: The same inputs with padding between other steps too; None if the Keras model masks none.
        is_given: Whether `end` is the largest integer of the given inputs.
    """

    end: int
    inputs: Inputs
    as_mask: Inputs
    negative: Inputs | None
    between: Inputs | None = None
    is_given: bool = False


def with_padding(inputs: Inputs, specs: Sequence[InputSpec], mask_values: Sequence[float]) -> Inputs | None:
    """Return the inputs with padded steps at the end of samples; None if nothing can be padded.

    Several inputs are padded only if Keras masks all of them: one of the others may be the mask of another.

    Args:
        inputs: The inputs of both sides.
        specs: The input specification of the Keras model.
        mask_values: The values that the Keras model masks.
    """
    keras = arrays_of(inputs.keras)
    torch = arrays_of(inputs.torch)
    values = [_padding_of(array, mask_values) for array in keras]
    if len(keras) > 1 and (len(specs) != len(keras) or any(spec.padding is None for spec in specs)):
        return None
    if None in values or len(keras) != len(torch) or has_padding(inputs, mask_values):
        return None
    pairs = list(zip(torch, keras, strict=True))
    if any(
        first.ndim > 3 or first.shape != second.shape or not np.array_equal(first, second) for first, second in pairs
    ):
        return None
    made = [padded(array, value, place=place) for place, (array, value) in enumerate(zip(keras, values, strict=True))]
    return with_arrays(inputs, [new.astype(old.dtype) for new, old in zip(made, torch, strict=True)], made)


def _padding_of(array: Array, mask_values: Sequence[float]) -> float | None:
    """Return the value that pads an input; None if the Keras model masks no value of this input.

    Args:
        array: The input.
        mask_values: The values that layers of the model mask; tokens can only be padded with 0.
    """
    is_tokens = array.dtype.kind in "iu" or array.ndim < 3
    fitting = [value for value in mask_values if not (is_tokens and value)]
    return max(fitting, key=abs) if fitting and array.ndim >= 2 else None


def has_padding(inputs: Inputs, mask_values: Sequence[float]) -> bool:
    """Return whether a sample of a Keras input ends with a step that the model masks.

    Args:
        inputs: The inputs of both sides.
        mask_values: The values that the Keras model masks.
    """
    for _, value in flatten(inputs.keras, is_array):
        array = as_array(value)
        if array.ndim < 2 or array.dtype.kind not in "iuf":
            continue
        last = array[:, -1].reshape(len(array), -1)
        if any(bool(np.all(last == mask, axis=1).any()) for mask in mask_values):
            return True
    return False


def padded_at_the_start(inputs: Inputs, mask_values: Sequence[float]) -> Inputs | None:
    """Return padded inputs with the padding moved from the end of the sequences to the start.

    Args:
        inputs: The inputs of both sides.
        mask_values: The values that the Keras model masks.

    Returns:
        The inputs; None if they are not padded, or not the same on both sides.
    """
    if not has_padding(inputs, mask_values):
        return None
    torch, keras = map(arrays_of, (inputs.torch, inputs.keras))
    if len(torch) != len(keras) or any(first.shape != other.shape for first, other in zip(torch, keras, strict=True)):
        return None

    def turned(array: Array) -> Array:
        return np.ascontiguousarray(np.flip(array, 1)) if array.ndim >= 2 else array

    return with_arrays(inputs, map(turned, torch), map(turned, keras))


def with_masks(inputs: Inputs) -> Inputs | None:
    """Replace each input of ones only, which may be a mask, by a random mask; None if there is no such input."""
    sides = [arrays_of(side) for side in (inputs.torch, inputs.keras)]
    changed = [[_pattern(array) for array in side] for side in sides]
    if all(new is None for side in changed for new in side):
        return None
    return with_arrays(inputs, *changed)


def _pattern(array: Array) -> Array | None:
    is_mask = array.dtype.kind in "biu" and array.ndim >= 2 and bool(np.all(array == 1))
    return random_mask(array.shape).astype(array.dtype) if is_mask else None


def wider_integers(inputs: Inputs, rows: Iterable[int] = (), *, is_masked: bool = False) -> Iterator[Iterator[Range]]:
    """Yield, for each input of integers, an iterator over `Range`s: the inputs with other integers to try there.

    The inputs with the largest integers come first, those with integers in the range of the given inputs last.

    Args:
        inputs: The inputs of both sides.
        rows: The sizes of the embedding tables of the model, which are tried as well.
        is_masked: Whether the Keras model masks 0 as padding, which is only at the end of a sequence.
    """
    sides = [arrays_of(side) for side in (inputs.torch, inputs.keras)]
    for place, array in enumerate(sides[1]):
        layouts = [(other, in_torch) for other, values in enumerate(sides[0]) if (in_torch := _layout(values, array))]
        if array.dtype.kind in "iu" and array.size and len(layouts) == 1:
            sizes = sorted({*_RANGES, *rows}, reverse=True)
            yield _ranges(inputs, sides, (layouts[0][0], place), layouts[0][1], sizes, is_masked=is_masked)


def _layout(torch: Array, keras: Array) -> Callable[[Array], Array] | None:
    """Return the function that converts a Keras input to the layout of a torch input that has the same integers.

    Returns:
        The function; None if the two do not have the same integers in any layout.
    """
    for layout in (np.asarray, channels_first) if keras.ndim > 2 else (np.asarray,):
        moved = layout(keras)
        if torch.dtype.kind in "iu" and torch.shape == moved.shape and np.array_equal(torch, moved):
            return layout
    return None


def _ranges(
    pair_inputs: Inputs,
    sides: Sequence[Sequence[Array]],
    places: tuple[int, int],
    layout: Callable[[Array], Array],
    sizes: Sequence[int],
    *,
    is_masked: bool,
) -> Iterator[Range]:
    torch, keras = (side[place] for side, place in zip(sides, places, strict=True))
    limits = [np.iinfo(array.dtype) for array in (torch, keras)]
    highest = min(int(limit.max) for limit in limits)

    def replaced(codes: Array) -> Inputs:
        changed = []
        for arrays, place, values in zip(sides, places, (layout(codes), codes), strict=True):
            changed.append([values.astype(old.dtype) if at == place else None for at, old in enumerate(arrays)])
        return with_arrays(pair_inputs, *changed)

    largest = int(keras.max())
    ends = dict.fromkeys(min(size - 1, highest) for size in sizes)
    for end in [*(end for end in ends if end > largest), *([largest] if largest > 0 else [])]:
        codes = _covering(end + 1, keras.shape)
        inputs = replaced(padded(codes, 0) if is_masked and keras.ndim == 2 else codes)
        negative = replaced(-codes) if all(limit.min < 0 for limit in limits) else None
        between = replaced(codes) if is_masked else None
        as_mask = replaced(np.minimum(codes, 1))
        yield Range(
            end=end, inputs=inputs, as_mask=as_mask, negative=negative, between=between, is_given=end == largest
        )


def _covering(size: int, shape: tuple[int, ...]) -> Array:
    """Return an array of random integers from 0 to `size - 1`; the smallest and the largest integer occur in it.

    As many different integers as possible occur. The last rows have the same integer twice, because a module may count
    an integer or only note that it is there.
    """
    generator, room = np.random.default_rng(SEED), int(np.prod(shape))
    codes = np.arange(room) % size if room >= size else generator.choice(size, room, replace=False)
    codes[-1], codes[0] = size - 1, 0 if room > 1 else size - 1
    codes = generator.permutation(codes)
    rows = codes.reshape(-1, shape[-1])
    most = max(0, room - size) // shape[-1]  # the other rows have every integer
    if shape[-1] > 1 and most:
        again = rows[len(rows) - most :]
        rows = np.concatenate([_every(generator, size, rows[: len(rows) - most].shape), again])
        rows[len(rows) - most :, 1] = rows[len(rows) - most :, 0]
    return rows.reshape(shape)


def _every(generator: np.random.Generator, size: int, shape: tuple[int, ...]) -> Array:
    """Return an array of this shape in which all integers from 0 to `size - 1` are repeated, in random order."""
    return generator.permutation(np.arange(int(np.prod(shape))) % size).reshape(shape)
