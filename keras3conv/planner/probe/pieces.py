"""A Keras variable that is a piece of a torch tensor, or several torch tensors on top of each other.

Experts are kept in many ways: one layer each, all in one tensor, the gate and what it opens in one tensor too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import size_of
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.layouts import transforms_between
from keras3conv.planner.probe.option import Option, Part, whole
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Chain, Each, Same, Stack, Transform

_MOST_PIECES = 64


def piece_options(layer: LayerView, mine: TensorRef, keras: LayerView, wanted: TensorRef) -> Iterator[Option]:
    """The ways in which a Keras variable is one of the equal pieces of a torch tensor, along any of its axes.

    Args:
        layer: The torch layer that owns the tensor.
        mine: The torch tensor.
        keras: The Keras layer.
        wanted: Its variable.
    """
    count, rest = divmod(size_of(mine.shape), size_of(wanted.shape) or 1)
    if rest or not 1 < count <= _MOST_PIECES:
        return
    for axis, size in enumerate(mine.shape):
        if size % count == 0:
            piece = replace(mine, shape=(*mine.shape[:axis], size // count, *mine.shape[axis + 1 :]))
            for transform in transforms_between(piece.shape, wanted.shape):
                for start in range(0, size, size // count):
                    yield _piece(layer, piece, (axis, start), keras, wanted, transform)


def _piece(
    layer: LayerView,
    piece: TensorRef,
    place: tuple[int, int],
    keras: LayerView,
    wanted: TensorRef,
    transform: Transform,
) -> Option:
    axis, start = place
    stop = start + piece.shape[axis]
    name = f"{piece.path}[{', '.join([':'] * axis + [f'{start}:{stop}'])}]"
    part = Part(path=piece.path, axis=axis, start=start, stop=stop, storage=piece.storage)
    mapping = WeightMapping(torch=(name,), keras=(wanted.path,), transform=transform)
    return Option(
        kind="parameter", layers=(layer,), keras=keras, rule=None, mappings=(mapping,), sources={name: (part,)}
    )


def stack_options(layers: Iterable[LayerView], keras: LayerView, wanted: TensorRef) -> Iterator[Option]:
    """The ways in which a Keras variable is the tensors of equal torch layers, which a number in their paths counts."""
    for row in _rows(layers, wanted):
        tensors = [tensor for _, tensor in row]
        axis = next(place for place, size in enumerate(wanted.shape) if size == len(row))
        shape = (*wanted.shape[:axis], *wanted.shape[axis + 1 :])
        for each in transforms_between(tensors[0].shape, shape):
            stack = Stack(axis, len(row))
            transform = stack if each == Same() else Chain(Each(each), stack)
            paths = tuple(tensor.path for tensor in tensors)
            yield Option(
                kind="parameter",
                layers=tuple(layer for layer, _ in row),
                keras=keras,
                rule=None,
                mappings=(WeightMapping(torch=paths, keras=(wanted.path,), transform=transform),),
                sources={tensor.path: whole(tensor) for tensor in tensors},
            )


def _rows(layers: Iterable[LayerView], wanted: TensorRef) -> Iterator[list[tuple[LayerView, TensorRef]]]:
    """As many tensors as an axis of the variable is long, all of one shape, whose paths differ in one number."""
    found: dict[tuple[object, ...], dict[int, tuple[LayerView, TensorRef]]] = {}
    for layer in layers:
        for tensor in layer.tensors:
            words = names.words(tensor.path)
            if size_of(tensor.shape) and size_of(wanted.shape) % size_of(tensor.shape) == 0:
                for place, word in enumerate(words):
                    if word.isdigit():
                        key = (place, words[:place], words[place + 1 :], tensor.shape)
                        found.setdefault(key, {})[int(word)] = (layer, tensor)
    for row in found.values():
        if len(row) > 1 and len(row) in wanted.shape and size_of(wanted.shape) == _sizes(row.values()):
            yield [row[number] for number in sorted(row)]


def _sizes(row: Iterable[tuple[LayerView, TensorRef]]) -> int:
    return sum(size_of(tensor.shape) for _, tensor in row)


def has_as_many(keras: LayerView, wanted: TensorRef, count: int) -> bool:
    """Whether a Keras layer has so many variables of one size, so that they may be pieces of one tensor."""
    sizes: Sequence[int] = [size_of(tensor.shape) for tensor in keras.tensors if not tensor.is_seed]
    return sizes.count(size_of(wanted.shape)) >= count
