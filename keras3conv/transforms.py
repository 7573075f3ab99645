"""Reversible tensor transforms.

A transform maps a tuple of arrays to a tuple of arrays, so one to one, one to three (a packed query, key, value) and
two to one (two biases of an LSTM) are the same type. Inverses are derived, never written by hand. The laws, which the
tests check for every transform of every rule:

- `f(f.inverse(y)) == y`, bit for bit, for every `y` that `f` can make;
- `f.inverse(f(x)) == x` if `f.lossless`;
- `f.inverse.inverse == f`;
- `from_json(f.to_json()) == f`;
- `f.shapes(shapes)` is what `f` does to arrays of these shapes.

Results are views where numpy can give one: nothing is copied before it is written.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

from keras3conv.errors import TransformError
from keras3conv.transforms_axes import Axes
from keras3conv.transforms_base import Array, Arrays, Shape, Shapes, Transform
from keras3conv.transforms_blocks import Concat, Split, Stack, Take, Unstack
from keras3conv.transforms_chain import Chain, Each, Same
from keras3conv.transforms_constant import Drop, Fill
from keras3conv.transforms_each import Beside
from keras3conv.transforms_rows import Lead, Skip
from keras3conv.transforms_shift import Shift
from keras3conv.transforms_sums import Spread, Sum
from keras3conv.transforms_zeros import Blocks, Diagonal, Dilate, Thin

__all__ = [
    "Array",
    "Arrays",
    "Axes",
    "Beside",
    "Blocks",
    "Chain",
    "Concat",
    "Diagonal",
    "Dilate",
    "Drop",
    "Each",
    "Fill",
    "Lead",
    "Same",
    "Shape",
    "Shapes",
    "Shift",
    "Skip",
    "Split",
    "Spread",
    "Stack",
    "Sum",
    "Take",
    "Thin",
    "Transform",
    "Unstack",
    "from_json",
]

_READERS: dict[str, Callable[[Mapping[str, Any]], Transform]] = {
    "axes": lambda data: Axes(data["axes"], **{name: index(size) for name, size in data.get("sizes", {}).items()}),
    "same": lambda data: Same(),
    "take": lambda data: Take(index(data["axis"]), _indices(data["take"])),
    "split": lambda data: Split(index(data["axis"]), _indices(data["split"])),
    "concat": lambda data: Concat(index(data["axis"]), _indices(data["concat"])),
    "stack": lambda data: Stack(index(data["axis"]), index(data["stack"])),
    "unstack": lambda data: Unstack(index(data["axis"]), index(data["unstack"])),
    "sum": lambda data: Sum(index(data["sum"])),
    "spread": lambda data: Spread(index(data["spread"])),
    "shift": lambda data: Shift(index(data["shift"])),
    "skip": lambda data: Skip(index(data["axis"]), index(data["skip"])),
    "lead": lambda data: Lead(index(data["axis"]), index(data["lead"])),
    "diagonal": lambda data: Diagonal(index(data["rows"]), index(data["columns"]), index(data["diagonal"])),
    "blocks": lambda data: Blocks(index(data["rows"]), index(data["columns"]), index(data["blocks"])),
    "dilate": lambda data: Dilate(index(data["axis"]), index(data["dilate"])),
    "thin": lambda data: Thin(index(data["axis"]), index(data["thin"])),
    "drop": lambda data: Drop(index(data["drop"]), _indices(data["shape"])),
    "fill": lambda data: Fill(index(data["fill"]), _indices(data["shape"])),
    "chain": lambda data: Chain(*map(from_json, data["chain"])),
    "each": lambda data: Each(from_json(data["each"])),
    "beside": lambda data: Beside(*map(from_json, data["beside"])),
}


def from_json(data: Any) -> Transform:
    """The transform that `to_json` wrote; raises `TransformError` for anything else."""
    kinds = [kind for kind in _READERS if isinstance(data, Mapping) and kind in data]
    if len(kinds) != 1:
        raise TransformError(f"not a transform: {data!r}; known: {', '.join(_READERS)}")
    try:
        return _READERS[kinds[0]](data)
    except (KeyError, TypeError, AttributeError) as error:
        raise TransformError(f"not a transform: {data!r} ({error})") from None


def _indices(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(map(index, values))
