"""Find candidates for one Keras variable: a slice of a larger torch tensor, or a stack of several smaller tensors.

Models store the weights of experts in several ways: one layer per expert, all experts in one tensor, or also the gate
and the up projection of all experts in one tensor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import permutations

from keras3conv.alignment.shapes import same_axes
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import size_of
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.layouts import transforms_between
from keras3conv.planner.probe.option import Candidate, Owned, TensorSlice, variable_candidate
from keras3conv.planner.probe.row_orders import RowOrder
from keras3conv.transforms import Axes, Chain, Each, Same, Shape, Stack, Transform

_MOST_SLICES = 64


def slice_candidates(layer: LayerView, tensor: TensorRef, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
    """Yield the candidates in which a Keras variable is one of several equal slices of a torch tensor, along any axis.

    If some slices have the same axis sizes as the variable, in any order, only these are yielded.

    Args:
        layer: The torch layer that owns the tensor.
        tensor: The torch tensor.
        keras: The Keras layer.
        variable: A variable of the Keras layer.
    """
    count, rest = divmod(size_of(tensor.shape), size_of(variable.shape) or 1)
    if rest or not 1 < count <= _MOST_SLICES:
        return
    found = [*_equal_slices(layer, tensor, keras, variable, count), *_half_candidates(layer, tensor, keras, variable)]
    with_axes = [candidate for shape, candidate in found if same_axes(shape, variable.shape)]
    yield from with_axes or [candidate for _, candidate in found]


_Cut = tuple[Shape, Candidate]
"""A candidate after the shape of its slice."""


def _equal_slices(
    layer: LayerView, tensor: TensorRef, keras: LayerView, variable: TensorRef, count: int
) -> Iterator[_Cut]:
    for axis, size in enumerate(tensor.shape):
        if size % count == 0:
            length = size // count
            shape = (*tensor.shape[:axis], length, *tensor.shape[axis + 1 :])
            for transform in transforms_between(shape, variable.shape):
                for part in _slices(tensor, axis, size, length):
                    yield shape, variable_candidate([(layer, tensor)], keras, variable, transform, part=part)


def _slices(tensor: TensorRef, axis: int, size: int, length: int) -> Iterator[TensorSlice]:
    for start in range(0, size, length):
        yield TensorSlice(path=tensor.path, axis=axis, start=start, stop=start + length, storage=tensor.storage)


def _half_candidates(layer: LayerView, tensor: TensorRef, keras: LayerView, variable: TensorRef) -> Iterator[_Cut]:
    """Yield the candidates that slice one expert's gate or up projection from a torch tensor of all experts.

    Args:
        layer: The torch layer that owns the tensor.
        tensor: The torch tensor.
        keras: The Keras layer.
        variable: A variable of the Keras layer, which has the values of one projection of one expert.
    """
    if len(tensor.shape) < 2 or size_of(tensor.shape) != 2 * tensor.shape[0] * size_of(variable.shape):
        return
    for axis in (axis for axis in range(1, len(tensor.shape)) if tensor.shape[axis] % 2 == 0):
        rows = _halves_of_experts(axis)
        shape = (1, *[size // 2 if place == axis else size for place, size in enumerate(tensor.shape)][1:])
        for transform in transforms_between(shape, variable.shape):
            for part in _slices(tensor, 0, 2 * tensor.shape[0], 1):
                made = variable_candidate([(layer, tensor)], keras, variable, transform, part=part)
                yield shape, replace(made, rows=rows)


def _halves_of_experts(axis: int) -> RowOrder:
    """Return the row order that moves the two halves of an axis to the first axis: (experts, 2n) to (2 * experts, n).

    The gates of all experts come first, then all up projections.

    Args:
        axis: The axis whose first half is the gate, and whose second half is the up projection.
    """

    def transform(axes: int) -> Transform:
        letters = [*"uvwxyz"[:axes]]
        cut = [*letters]
        cut[axis] = f"(p {letters[axis]})"
        return Axes(f"{' '.join(cut)} -> (u p) {' '.join(letters[1:])}", p=2)

    return RowOrder(f"the halves of axis {axis} apart", transform)


def stack_candidates(layers: Iterable[LayerView], keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
    """Yield the candidates in which a Keras variable is a stack of torch tensors whose paths differ in one number."""
    for family in _families(layers, variable):
        axis = variable.shape.index(len(family))
        shape = (*variable.shape[:axis], *variable.shape[axis + 1 :])
        for each in transforms_between(family[0][1].shape, shape):
            stack = Stack(axis, len(family))
            transform = stack if each == Same() else Chain(Each(each), stack)
            yield variable_candidate(family, keras, variable, transform)


def stack_of_halves_candidates(
    layers: Iterable[LayerView], keras: LayerView, variable: TensorRef
) -> Iterator[Candidate]:
    """Yield the candidates that join the gate and the up projection of every expert, two torch tensors for each.

    Args:
        layers: The torch layers to choose from.
        keras: The Keras layer.
        variable: A variable of the Keras layer, which has the values of both projections of all experts.
    """
    if len(variable.shape) < 2:
        return
    families = list(_families(layers, variable, parts=2))
    for first, second in permutations(families, 2):
        shape, experts = first[0][1].shape, len(first)
        if (shape, experts) != (second[0][1].shape, len(second)) or experts != variable.shape[0]:
            continue
        owned = [entry for both in zip(first, second, strict=True) for entry in both]
        for transform in _joined_halves((experts, *shape), variable.shape):
            yield variable_candidate(owned, keras, variable, Chain(Stack(0, 2 * experts), transform))


def _joined_halves(shape: Shape, target: Shape) -> Iterator[Transform]:
    """Yield the transforms that join the gate and the up projection of each expert along an axis.

    They take the gate and up matrices of all experts as one array, (2 * experts, 5, 7), and return one matrix for each
    expert, (experts, 5, 14) or (experts, 10, 7), also with its axes exchanged.

    Args:
        shape: The shape of the gate matrices of all experts: (experts, 5, 7).
        target: The shape of the Keras variable; only transforms to this shape are yielded.
    """
    for order in permutations(range(1, len(shape))):
        sizes = [shape[place] for place in order]
        for axis, size in enumerate(sizes):
            if (shape[0], *sizes[:axis], 2 * size, *sizes[axis + 1 :]) != target:
                continue
            letters = [*"uvwxyz"[: len(shape)]]
            for halves in ("(p {})", "({} p)"):
                right = [letters[place] for place in order]
                right[axis] = halves.format(right[axis])
                yield Axes(f"(u p) {' '.join(letters[1:])} -> u {' '.join(right)}", p=2)


def _families(layers: Iterable[LayerView], variable: TensorRef, parts: int = 1) -> Iterator[list[Owned]]:
    """Yield lists of torch tensors that may be stacked: tensors of the same shape whose paths differ in one number.

    A list has as many tensors as an axis of the variable has elements, because the tensors are stacked along that axis.

    Args:
        layers: The torch layers to choose from.
        variable: The Keras variable.
        parts: The number of lists that together fill the variable: 2 if it joins gate and up projections, else 1.
    """
    found: dict[tuple[object, ...], dict[int, Owned]] = {}
    for layer in layers:
        for tensor in layer.tensors:
            words = names.words(tensor.path)
            if size_of(tensor.shape) and size_of(variable.shape) % size_of(tensor.shape) == 0:
                for position, word in enumerate(words):
                    if word.isdigit():
                        key = (position, words[:position], words[position + 1 :], tensor.shape)
                        found.setdefault(key, {})[int(word)] = (layer, tensor)
    for family in found.values():
        total = sum(size_of(tensor.shape) for _, tensor in family.values())
        if len(family) > 1 and len(family) in variable.shape and size_of(variable.shape) == parts * total:
            yield [family[number] for number in sorted(family)]


def has_equal_variables(keras: LayerView, variable: TensorRef, count: int) -> bool:
    """Return whether a Keras layer has at least `count` variables with as many elements as `variable`.

    Such variables may be slices of one torch tensor.
    """
    sizes = [size_of(tensor.shape) for tensor in keras.tensors if not tensor.is_seed]
    return sizes.count(size_of(variable.shape)) >= count
