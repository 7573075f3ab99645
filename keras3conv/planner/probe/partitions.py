"""Find tensors of one side that together make up one tensor of the other side, along any axis.

Many models have one table for all categories, with an offset for each category, and others have a table for each. One
kernel for two joined inputs (a recurrent cell, an additive attention) is two kernels whose products are added.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice, takewhile
from math import prod

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.probe.layouts import likely_first
from keras3conv.planner.probe.option import Candidate, Owned, TensorSlice, variable_candidate
from keras3conv.planner.probe.weights import is_weight
from keras3conv.transforms import Axes, Chain, Concat, Shape, Transform

_MOST = 256
"""The largest number of ways in which one variable is a slice of torch tensors, or several torch tensors joined."""


@dataclass(frozen=True)
class _Cut:
    """A slice of a torch tensor: `size` elements from `start` along an axis."""

    owned: Owned
    axis: int
    start: int
    size: int


@dataclass(frozen=True)
class _Join:
    """Several torch tensors, joined along an axis."""

    owned: tuple[Owned, ...]
    axis: int


@dataclass(frozen=True)
class Partitions:
    """The tensors of one side that together make up a tensor of the other side.

    Attributes:
        cuts: For each Keras variable, by path, the slices of torch tensors that it may be.
        joins: For each Keras variable, by path, the torch tensors that may be joined to it.
    """

    cuts: Mapping[str, Sequence[_Cut]] = field(default_factory=dict)
    joins: Mapping[str, Sequence[_Join]] = field(default_factory=dict)

    @classmethod
    def of(cls, torch: Iterable[LayerView], keras: Iterable[LayerView]) -> "Partitions":
        """Return the partitions of tensors of layers that fit no layer of the other side.

        Args:
            torch: The torch layers that fit no Keras layer by class and shapes.
            keras: The Keras layers that fit no torch layer.
        """
        torch_groups, keras_groups = tuple(_groups(torch)), tuple(_groups(keras))
        cuts: dict[str, dict[object, _Cut]] = {}
        joins: dict[str, dict[object, _Join]] = {}
        for whole in {owned[1].path: owned for group in torch_groups for owned in group}.values():
            for axis, parts, sizes in _partitions(whole[1].shape, keras_groups):
                start = 0
                for (_, variable), size in zip(parts, sizes, strict=True):
                    key = whole[1].path, axis, start
                    cuts.setdefault(variable.path, {}).setdefault(key, _Cut(whole, axis, start, size))
                    start += size
        for whole in {owned[1].path: owned for group in keras_groups for owned in group}.values():
            for _, parts, sizes in _partitions(whole[1].shape, torch_groups):
                for axis in _axes_of_parts([tensor.shape for _, tensor in parts], sizes):
                    paths = tuple(tensor.path for _, tensor in parts)
                    joins.setdefault(whole[1].path, {}).setdefault((axis, paths), _Join(parts, axis))
        return cls(
            cuts={path: tuple(found.values())[:_MOST] for path, found in cuts.items()},
            joins={path: tuple(found.values())[:_MOST] for path, found in joins.items()},
        )

    def layers(self) -> frozenset[str]:
        """Return the paths of the torch layers that own a tensor of a partition."""
        cut = (entry.owned[0].path for entries in self.cuts.values() for entry in entries)
        joined = (layer.path for entries in self.joins.values() for entry in entries for layer, _ in entry.owned)
        return frozenset((*cut, *joined))

    def has_cuts(self, keras: LayerView) -> bool:
        """Return whether a variable of a Keras layer may be a slice of a torch tensor."""
        return any(tensor.path in self.cuts for tensor in keras.tensors)

    def candidates(self, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
        """Yield the slices of a larger torch tensor, and the joined smaller ones, that may become a Keras variable."""
        for cut in self.cuts.get(variable.path, ()):
            yield from _cut_candidates(cut, keras, variable)
        for join in self.joins.get(variable.path, ()):
            yield from _joined_candidates(join, keras, variable)


def _cut_candidates(cut: _Cut, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
    _, tensor = cut.owned
    shape = (*tensor.shape[: cut.axis], cut.size, *tensor.shape[cut.axis + 1 :])
    stop = cut.start + cut.size
    part = TensorSlice(path=tensor.path, axis=cut.axis, start=cut.start, stop=stop, storage=tensor.storage)
    for transform in _likely_transforms(replace(tensor, shape=shape), variable.shape):
        yield variable_candidate([cut.owned], keras, variable, transform, part=part)


def _joined_candidates(join: _Join, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
    shapes = tuple(tensor.shape for _, tensor in join.owned)
    concat = Concat(join.axis, tuple(shape[join.axis] for shape in shapes))
    joined = replace(join.owned[0][1], shape=concat.shapes(shapes)[0])
    for transform in _likely_transforms(joined, variable.shape):
        yield variable_candidate(join.owned, keras, variable, Chain(concat, transform))


_KERNELS = {3: Axes("o i w -> w i o"), 4: Axes("o i h w -> h w i o"), 5: Axes("o i d h w -> d h w i o")}
"""The transforms of the kernels of convolutions, by the number of axes."""


def _likely_transforms(torch: TensorRef, wanted: Shape) -> Iterator[Transform]:
    """Yield the transforms from a tensor to a shape; of three axes or more only one, that of a kernel if it fits."""
    kernel = _KERNELS.get(len(torch.shape))
    if kernel is not None and kernel.shapes((torch.shape,)) == (wanted,):
        yield kernel
    else:
        yield from islice(likely_first(torch, wanted), 1 if len(torch.shape) > 2 else None)


def _groups(layers: Iterable[LayerView]) -> Iterator[tuple[Owned, ...]]:
    """Yield the tensors that may be parts of one: those of one class and role, and those of one layer, in order."""
    by_role: dict[object, list[Owned]] = {}
    for layer in layers:
        own = [(layer, tensor) for tensor in layer.tensors if is_weight(tensor) and len(tensor.shape) > 1]
        for owned in own:
            role = owned[1].role.rpartition("/")[2]
            by_role.setdefault((layer.kinds[:1], role, len(owned[1].shape)), []).append(owned)
        if len(own) > 1:
            yield tuple(own)
    yield from map(tuple, by_role.values())


def _partitions(
    shape: Shape, groups: Iterable[tuple[Owned, ...]]
) -> Iterator[tuple[int, tuple[Owned, ...], tuple[int, ...]]]:
    """Yield an axis of a tensor, the neighbours in a group that make it up along this axis, and their sizes there.

    Neighbours are also yielded in reverse order.
    """
    for group in groups:
        for axis, total in enumerate(shape):
            rest = _sizes(shape, total)
            fitting = []
            for owned in group:
                size, left = divmod(prod(owned[1].shape) * total, prod(shape))
                if not left and 0 < size < total and _sizes(owned[1].shape, size) == rest:
                    fitting.append((owned, size))
            for chosen in _windows([size for _, size in fitting], total):
                parts = [fitting[place] for place in chosen]
                yield axis, tuple(owned for owned, _ in parts), tuple(size for _, size in parts)


def _windows(sizes: Sequence[int], total: int) -> Iterator[list[int]]:
    """Yield the places of neighbouring sizes that add up to a total, in order, then those in reverse order."""
    found = []
    for first in range(len(sizes)):
        ends = list(takewhile(lambda end: end <= total, accumulate(sizes[first:])))
        if ends[-1:] == [total]:
            found.append([*range(first, first + len(ends))])
    yield from found
    yield from (places[::-1] for places in found)


def _axes_of_parts(shapes: Sequence[Shape], sizes: Sequence[int]) -> Iterator[int]:
    """Yield the axes, the last first, along which tensors have these sizes and otherwise equal shapes."""
    for axis in reversed(range(len(shapes[0]))):
        others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(others) == 1 and all(shape[axis] == size for shape, size in zip(shapes, sizes, strict=True)):
            yield axis


def _sizes(shape: Shape, without: int) -> list[int] | None:
    """Return the sizes of the axes except those of size one and one of the size `without`; None if it has none."""
    sizes = sorted(shape)
    if without not in sizes:
        return None
    sizes.remove(without)
    return [size for size in sizes if size != 1]
