"""Propose calls of `plan.pair` for tensors of different shapes, with a transform from one shape to the other."""

from collections.abc import Iterator, Sequence
from itertools import permutations

from keras3conv.alignment.shapes import same_axes, without_ones
from keras3conv.errors import TransformError
from keras3conv.model.views import TensorRef
from keras3conv.transforms import Axes, Chain, Concat, Same, Shape, Split, Transform
from keras3conv.transforms.axes import side_of

_NAMES = "abcdefgh"

_MOST_AXES = 5
"""The largest number of axes for which all permutations are tried."""


def call_that_fits(torch: Sequence[TensorRef], keras: Sequence[TensorRef]) -> tuple[str, ...]:
    """Return code that pairs tensors of different shapes: at most two calls of `plan.pair`, each with a transform.

    A transform that fits the shapes may still be wrong; `validate` shows whether it is right. The result is empty if no
    transform fits.

    Args:
        torch: The torch tensors, one or several.
        keras: The Keras tensors, one or several; only one side has several.
    """
    given, wanted = [tensor.shape for tensor in torch], [tensor.shape for tensor in keras]
    if len(given) == 1:
        fitting = _splits(given[0], wanted) if len(wanted) > 1 else _moves(given[0], wanted[0])
    elif len(wanted) == 1:
        fitting = _joins(given, wanted[0])
    else:
        return ()
    paths = [tensor.path for tensor in torch], [tensor.path for tensor in keras]
    return tuple(_call(*paths, transform) for transform in fitting)[:2]


def _moves(source: Shape, target: Shape) -> Iterator[Transform]:
    """Yield the transforms that turn one shape into another by a permutation of the axes.

    Axes of size one may also be added or removed: (1, 4, 3) -> (3, 4).
    """
    sizes = without_ones(source)
    if not same_axes(source, target) or len(sizes) > _MOST_AXES:
        return
    names = _NAMES[: len(sizes)]
    left = side_of(source, names)
    for order in permutations(range(len(sizes))):
        if tuple(sizes[place] for place in order) == without_ones(target):
            right = side_of(target, "".join(names[place] for place in order))
            yield Same() if left == right else Axes(f"{left} -> {right}")


def _joins(sources: Sequence[Shape], target: Shape) -> Iterator[Transform]:
    """Yield the transforms that concatenate several tensors to one, and permute its axes if needed."""
    for axis in range(min(map(len, sources))):
        join = Concat(axis, tuple(shape[axis] for shape in sources))
        try:
            (joined,) = join.shapes(tuple(sources))
        except TransformError:
            continue
        yield from (join if move == Same() else Chain(join, move) for move in _moves(joined, target))


def _splits(source: Shape, targets: Sequence[Shape]) -> Iterator[Transform]:
    """Yield the transforms that split one tensor into several, after a permutation of its axes if needed."""
    for transform in _joins(targets, source):
        inverse = transform.inverse
        if inverse.shapes((source,)) == tuple(targets):
            yield inverse


def _call(torch: Sequence[str], keras: Sequence[str], transform: Transform) -> str:
    given = "" if transform == Same() else f", transform={_code(transform)}"
    return f"plan = plan.pair({_written(torch)}, {_written(keras)}{given})"


def _code(transform: Transform) -> str:
    """Return a transform as Python code with qualified names: `k3c.transforms.Concat(0, (8, 8))`."""
    if isinstance(transform, Chain):
        return f"k3c.transforms.Chain({', '.join(map(_code, transform.transforms))})"
    if isinstance(transform, Axes) and not transform.sizes:
        return f'k3c.transforms.Axes("{transform.pattern}")'
    assert isinstance(transform, Concat | Split), "only these are made here"
    return f"k3c.transforms.{transform!r}"


def _written(paths: Sequence[str]) -> str:
    """Return paths as the source code of an argument: `"fc"` for one path, `["q", "k"]` for several."""
    quoted = [f'"{path}"' for path in paths]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
