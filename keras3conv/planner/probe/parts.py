"""Find candidates that slice one torch layer (the query of a packed layer) or join several along an axis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations

from keras3conv.alignment.binding import make_pair
from keras3conv.model.paths import join_layers
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.probe.option import Candidate, Kind, TensorSlice
from keras3conv.rules.rule import Rule
from keras3conv.transforms import Shape

_MOST_JOINED = 4
_MOST_SLICES = 8
_MOST_MIXED = 24
"""The maximum number of candidates that join layers of different torch modules."""


@dataclass(frozen=True)
class AxisDifference:
    """The only axis along which the tensors of a larger and a smaller layer of one class differ in size.

    Attributes:
        axes: The index of this axis in each tensor, by the tensor's name in the layer.
        larger: The size of the axis in the larger layer.
        smaller: The size of the axis in the smaller layer.
    """

    axes: Mapping[str, int]
    larger: int
    smaller: int


@dataclass(frozen=True)
class JoinedLayer:
    """A torch layer to join with others along an axis.

    Attributes:
        layer: The torch layer.
        axes: The index of the axis in each tensor, by the tensor's name in the layer.
        size: The size of the axis in this layer.
    """

    layer: LayerView
    axes: Mapping[str, int]
    size: int


def size_along(shapes: Mapping[str, Shape], axes: Mapping[str, int]) -> int:
    """Return the size of the axis along which a layer is sliced or joined.

    Args:
        shapes: The shapes of the layer's tensors, by name in the layer.
        axes: The index of the axis in each tensor, by the tensor's name in the layer.
    """
    role, axis = next(iter(axes.items()))
    return shapes[role][axis]


def differing_axes(larger: Mapping[str, Shape], smaller: Mapping[str, Shape]) -> AxisDifference | None:
    """Return the one axis along which the tensors of two layers differ in size, and its sizes.

    Args:
        larger: The shapes of the tensors of the larger layer, by name in the layer.
        smaller: The shapes of the tensors of the smaller layer, by name in the layer.

    Returns:
        The axis of each tensor; None if a tensor differs along several axes, if none differs, or if `larger` is not
        larger.
    """
    axes: dict[str, int] = {}
    sizes = set()
    for role, shape in larger.items():
        other = smaller[role]
        differing = [axis for axis in range(len(shape)) if len(other) == len(shape) and shape[axis] != other[axis]]
        if len(differing) != 1:
            return None
        axes[role] = differing[0]
        sizes.add((shape[differing[0]], other[differing[0]]))
    if len(sizes) != 1 or not any(len(shape) > 1 for shape in larger.values()):
        return None
    total, size = sizes.pop()
    return AxisDifference(axes, total, size) if total > size else None


def sliced_layer_candidates(
    rule: Rule, torch: LayerView, keras: LayerView, difference: AxisDifference
) -> Iterator[Candidate]:
    """Yield the slices of a torch layer that have the Keras layer's size; slices start at multiples of this size.

    Args:
        rule: The rule that pairs the two classes.
        torch: The torch layer.
        keras: The Keras layer, which is smaller.
        difference: The axis along which the tensors of the two layers differ in size.
    """
    total, size = difference.larger, difference.smaller
    starts = [*range(0, total - size + 1, size)][:_MOST_SLICES]
    for start in dict.fromkeys([*starts, total - 2 * size if total > 2 * size else 0, total - size]):
        sources = {
            f"{tensor.path}[{start}:{start + size}]": (
                TensorSlice(
                    path=tensor.path,
                    axis=difference.axes[tensor.role],
                    start=start,
                    stop=start + size,
                    storage=tensor.storage,
                ),
            )
            for tensor in torch.tensors
            if tensor.role in difference.axes
        }
        yield from _resized("slice", rule, (torch,), keras, sources, (total, size))


def joined_layer_candidates(
    rule: Rule, entries: Sequence[JoinedLayer], keras: LayerView, total: int
) -> Iterator[Candidate]:
    """Yield as candidates the sequences of torch layers whose sizes add up to the size of a Keras layer.

    Sequences of layers of one module come first, then a limited number of other sequences.

    Args:
        rule: The rule that pairs the classes.
        entries: The torch layers that may be joined.
        keras: The Keras layer.
        total: The size of the Keras layer along the axis of the join.
    """
    modules: dict[str, list[JoinedLayer]] = {}
    for entry in entries:
        modules.setdefault(entry.layer.path.rpartition(".")[0], []).append(entry)
    for inside in modules.values():
        yield from _joined(rule, inside, keras, total)
    if len(modules) > 1:
        mixed = (chosen for chosen in _joined(rule, entries, keras, total) if _modules(chosen) > 1)
        yield from islice(mixed, _MOST_MIXED)


def _modules(candidate: Candidate) -> int:
    return len({layer.path.rpartition(".")[0] for layer in candidate.layers})


def _joined(rule: Rule, entries: Sequence[JoinedLayer], keras: LayerView, total: int) -> Iterator[Candidate]:
    for count in range(2, _MOST_JOINED + 1):
        for chosen in permutations(entries, count):
            if sum(entry.size for entry in chosen) != total:
                continue
            layers = tuple(entry.layer for entry in chosen)
            sources = {
                join_layers(_tensor(layer, role).path for layer in layers): tuple(
                    _all_of(_tensor(layer, role), axis) for layer in layers
                )
                for role, axis in chosen[0].axes.items()
            }
            yield from _resized("joined", rule, layers, keras, sources, (chosen[0].size, total))


def _all_of(tensor: TensorRef, axis: int) -> TensorSlice:
    return TensorSlice(path=tensor.path, axis=axis, stop=tensor.shape[axis], storage=tensor.storage)


def _tensor(layer: LayerView, role: str) -> TensorRef:
    return next(tensor for tensor in layer.tensors if tensor.role == role)


def _resized(
    kind: Kind,
    rule: Rule,
    layers: tuple[LayerView, ...],
    keras: LayerView,
    sources: Mapping[str, tuple[TensorSlice, ...]],
    sizes: tuple[int, int],
) -> Iterator[Candidate]:
    """Yield the candidate that a rule gives for a slice of a torch layer, or for several torch layers joined into one.

    The rule gets the view of such a layer, with its sizes. Nothing is yielded if the rule maps none of its tensors.

    Args:
        kind: The kind of the candidate.
        rule: The rule that pairs the two classes.
        layers: The torch layers.
        keras: The Keras layer.
        sources: For each tensor of the sliced or joined layer, by name: the slices of torch tensors that it is made of.
        sizes: The number of outputs of the first of `layers`, and that of the sliced or joined layer: (768, 256). The
            second replaces the first wherever it occurs in the configuration (`out_features=768`).
    """
    tensors_by_path = {tensor.path: tensor for layer in layers for tensor in layer.tensors}
    tensors = []
    for name, slices in sources.items():
        first = tensors_by_path[slices[0].path]
        extent = sum(part.stop - part.start for part in slices)
        shape = (*first.shape[: slices[0].axis], extent, *first.shape[slices[0].axis + 1 :])
        tensors.append(replace(first, path=name, shape=shape))
    config = {name: sizes[1] if value == sizes[0] else value for name, value in (layers[0].config or {}).items()}
    resized = replace(layers[0], tensors=tuple(tensors), config=config, run=replace(layers[0].run, flattened=None))
    mappings = make_pair(rule, resized, keras, ()).weights
    if mappings and all(name in sources for mapping in mappings for name in mapping.torch):
        yield Candidate(kind=kind, layers=layers, keras=keras, rule=rule, mappings=mappings, sources=sources)
