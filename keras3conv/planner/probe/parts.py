"""Torch layers that do not exist: a part of one (the query of a packed layer), or several joined."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations

from keras3conv.alignment.binding import make_pair
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.probe.option import Kind, Option, Part
from keras3conv.rules.rule import Rule
from keras3conv.transforms import Shape

_MOST_JOINED = 4
_MOST_PARTS = 8


def cut_size(shapes: Mapping[str, Shape], axes: Mapping[str, int]) -> int:
    """The size along the axis that is cut."""
    role, axis = next(iter(axes.items()))
    return shapes[role][axis]


def cut(larger: Mapping[str, Shape], smaller: Mapping[str, Shape]) -> tuple[dict[str, int], int, int] | None:
    """The axis of every tensor along which the two sizes differ, and the two sizes; None where they differ more."""
    axes: dict[str, int] = {}
    pairs = set()
    for role, shape in larger.items():
        other = smaller[role]
        differing = [axis for axis in range(len(shape)) if len(other) == len(shape) and shape[axis] != other[axis]]
        if len(differing) != 1:
            return None
        axes[role] = differing[0]
        pairs.add((shape[differing[0]], other[differing[0]]))
    if len(pairs) != 1 or not any(len(shape) > 1 for shape in larger.values()):
        return None
    total, size = pairs.pop()
    return (axes, total, size) if total > size else None


def part_options(
    rule: Rule, torch: LayerView, keras: LayerView, axes: Mapping[str, int], total: int, size: int
) -> Iterator[Option]:
    """The parts of a torch layer that are as large as a Keras layer: at the multiples of its size, and at the end."""
    starts = [*range(0, total - size + 1, size)][:_MOST_PARTS]
    for start in dict.fromkeys([*starts, total - size]):
        sources = {
            f"{tensor.path}[{start}:{start + size}]": (
                Part(
                    path=tensor.path,
                    axis=axes[tensor.role],
                    start=start,
                    stop=start + size,
                    storage=tensor.storage,
                ),
            )
            for tensor in torch.tensors
            if tensor.role in axes
        }
        yield from _virtual("part", rule, (torch,), keras, sources, (total, size))


def joined_options(
    rule: Rule, entries: Sequence[tuple[LayerView, dict[str, int], int]], keras: LayerView, total: int
) -> Iterator[Option]:
    """The torch layers, each with its axes and size, that are together as large as a Keras layer; in every order."""
    for count in range(2, _MOST_JOINED + 1):
        for chosen in permutations(entries, count):
            if sum(size for _, _, size in chosen) != total:
                continue
            layers = tuple(layer for layer, _, _ in chosen)
            sources = {
                " + ".join(_tensor(layer, role).path for layer in layers): tuple(
                    _all_of(_tensor(layer, role), axis) for layer in layers
                )
                for role, axis in chosen[0][1].items()
            }
            yield from _virtual("joined", rule, layers, keras, sources, (chosen[0][2], total))


def _all_of(tensor: TensorRef, axis: int) -> Part:
    return Part(path=tensor.path, axis=axis, stop=tensor.shape[axis], storage=tensor.storage)


def _tensor(layer: LayerView, role: str) -> TensorRef:
    return next(tensor for tensor in layer.tensors if tensor.role == role)


def _virtual(
    kind: Kind,
    rule: Rule,
    layers: tuple[LayerView, ...],
    keras: LayerView,
    sources: Mapping[str, tuple[Part, ...]],
    sizes: tuple[int, int],
) -> Iterator[Option]:
    """The pair with a torch layer that does not exist: the part of one, or several joined."""
    shapes = {tensor.path: tensor for layer in layers for tensor in layer.tensors}
    tensors = []
    for name, parts in sources.items():
        first = shapes[parts[0].path]
        extent = sum(part.stop - part.start for part in parts)
        shape = (*first.shape[: parts[0].axis], extent, *first.shape[parts[0].axis + 1 :])
        tensors.append(replace(first, path=name, shape=shape))
    config = {name: sizes[1] if value == sizes[0] else value for name, value in (layers[0].config or {}).items()}
    made = replace(layers[0], tensors=tuple(tensors), config=config, flattened=None)
    mappings = make_pair(rule, made, keras, ()).weights
    if mappings and all(name in sources for mapping in mappings for name in mapping.torch):
        yield Option(kind=kind, layers=layers, keras=keras, rule=rule, mappings=mappings, sources=sources)
