"""Turn the user's functions of arrays (`additional_transfer`) into transforms, which a plan can store and reverse.

A function is called with arrays in which every number is different. If each array that it returns has the numbers of
one input array, with axes moved, merged, split, added or removed, then an `Axes` transform does the same. For any other
function a `TransformError` is raised.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from math import gcd, prod

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.model.views import LayerView
from keras3conv.transforms import Array, Axes, Same, Shape, Transform
from keras3conv.transforms.axes import write_side

Function = Callable[[list[Array]], Sequence[Array]]
"""A function from the arrays of a torch layer, after the transforms of its rule, to the values of the Keras variables.
"""

Transfer = Function | Transform | Sequence[Transform]
"""An entry of `additional_transfer`: a function, a transform of the only array, or one transform for each array."""

Transfers = Mapping[str, Transfer]
"""The option `additional_transfer`: functions or transforms by Keras class, or by the end of a Keras layer's name."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST_AXES = 6


def transfers_for(layer: LayerView, name: str, transfers: Transfers) -> list[Transfer]:
    """Return the functions and transforms of the table `additional_transfer` that apply to a Keras layer, in order.

    Args:
        layer: The Keras layer; an entry applies to it if its key is one of the layer's qualified class names.
        name: The name of the layer; an entry also applies if `name` ends with its key.
        transfers: The table.
    """
    return [value for key, value in transfers.items() if key in layer.kinds or ("." not in key and name.endswith(key))]


def steps(transfer: Transfer, shapes: Sequence[Shape]) -> list[tuple[int, Transform]]:
    """Express a function of the user by transforms: for each output array, an index of an input array and a transform.

    The output (0, Axes("a b -> b a")) is the first input array, transposed.

    Args:
        transfer: A function from a list of arrays to one or several arrays, a transform for the only array, or a
            sequence of one transform per array.
        shapes: The shapes of the input arrays.

    Raises:
        TransformError: A function changes values or does not return an array; the message names the array.
    """
    if isinstance(transfer, Sequence):
        if len(transfer) != len(shapes):
            raise TransformError(
                f"a layer has {len(shapes)} torch arrays, but {len(transfer)} transforms are given; give one for each "
                "array"
            )
        return list(enumerate(transfer))
    if isinstance(transfer, Transform):
        return steps([transfer], shapes)
    return list(_recognised(transfer, shapes))


def _recognised(function: Function, shapes: Sequence[Shape]) -> Iterator[tuple[int, Transform]]:
    given = _numbered(shapes)
    results = function([array.copy() for array in given])
    used: set[int] = set()
    for index, result in enumerate(results):
        found = np.asarray(result)
        source = _source(found, given)
        transform = None if source is None or source in used else _moved(given[source], found)
        if source is None or transform is None:
            raise TransformError(
                f"array {index} that the function returns, of shape {found.shape}, is not one of the given arrays "
                "of the shapes "
                f"{', '.join(map(str, shapes))}, permuted or reshaped: give a transform instead, such as "
                'keras3conv.transforms.Axes("a b -> b a")'
            )
        used.add(source)
        yield source, transform
    if left := sorted(set(range(len(shapes))) - used):
        fact = f"the function does not return array {left[0]}, of shape {shapes[left[0]]}"
        raise TransformError(f"{fact}: return this array too, or name its tensor in skip_weights")


def _numbered(shapes: Sequence[Shape]) -> list[Array]:
    """Return one array for each shape, filled with consecutive numbers, so that no number occurs twice in them."""
    arrays, start = [], 0
    for shape in shapes:
        size = prod(shape)
        arrays.append(np.arange(start, start + size, dtype=np.float64).reshape(shape))
        start += size
    return arrays


def _source(output: Array, inputs: Sequence[Array]) -> int | None:
    """Return the index of the input array that has the same numbers as an output array; None if there is none.

    The order of the numbers and the shape do not count.
    """
    values = np.sort(output, axis=None)
    return next((index for index, array in enumerate(inputs) if np.array_equal(values, array.ravel())), None)


def _moved(source: Array, result: Array) -> Transform | None:
    """Return the transform that permutes and reshapes one array into another with the same numbers; None if none.

    Args:
        source: The input array of the transform; every element is a different number.
        result: The output array.
    """
    if source.shape == result.shape and np.array_equal(source, result):
        return Same()
    axes = [axis for axis, size in enumerate(source.shape) if size != 1]
    squeezed = source.reshape([source.shape[axis] for axis in axes])
    flat = result.ravel()
    if len(axes) > _MOST_AXES:
        return None
    for order in permutations(range(len(axes))):
        if np.array_equal(squeezed.transpose(order).ravel(), flat):
            return _axes(source.shape, [axes[index] for index in order], result.shape)
    return None


def _axes(before: Shape, order: Sequence[int], after: Shape) -> Transform | None:
    """Return the transform that permutes the axes of an array and then splits or merges them.

    Args:
        before: The shape of the array; axes of size one do not count.
        order: The order of the other axes after the permutation.
        after: The shape of the result.

    Returns:
        The transform; None if the permuted axes cannot be split and merged into axes of the sizes of `after`.
    """
    sources = [(axis, before[axis]) for axis in order]
    targets = [(axis, size) for axis, size in enumerate(after) if size != 1]
    parts: list[tuple[int, int, int, int]] = []  # source axis, running number, target axis, size
    (source, rest), (target, room) = (0, 1), (0, 1)
    while sources or targets or rest > 1 or room > 1:
        if rest == 1:
            source, rest = sources.pop(0)
        if room == 1:
            target, room = targets.pop(0)
        size = gcd(rest, room)
        if size not in (rest, room):
            return None
        parts.append((source, len(parts), target, size))
        rest, room = rest // size, room // size
    letters = {part: _LETTERS[number] for number, part in enumerate(sorted(parts))}
    owners = [[letters[part] for part in parts if part[0] == axis] for axis in range(len(before))]
    targets_of = [[letters[part] for part in parts if part[2] == axis] for axis in range(len(after))]
    sizes = {letter: part[3] for part, letter in letters.items()}
    needed = {letter: sizes[letter] for group in (*owners, *targets_of) if len(group) > 1 for letter in group}
    return Axes(f"{write_side(owners)} -> {write_side(targets_of)}", **needed)
