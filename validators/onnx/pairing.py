"""Two ONNX files of strangers: which input of one is which of the other, in which layout, and the same for outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs import BATCH, SEED
from keras3conv.frameworks.shared.layout import channels_first, channels_last
from keras3conv.transforms import Array

Sizes = tuple[int | None, ...]

SAME, LAST, FIRST = "", "channels moved last", "channels moved first"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a file says of one of its inputs.

    Attributes:
        name: Its name.
        shape: Its sizes, None for free ones; None where not even the number of axes is said.
        dtype: Its dtype.
    """

    name: str
    shape: Sizes | None
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape or ''}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What the two files are run on.

    Attributes:
        first: The arrays, in the first file's order.
        second: The same, in the second file's order, in its layouts.
        told: Which input is which, for the report.
    """

    first: list[Array]
    second: list[Array]
    told: str


def wanted(path: Path, model: Any) -> tuple[Wanted, ...]:
    """The inputs of a file; raises `InputError` for one that is no array of numbers."""
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    made = []
    for entry in model.graph.input:
        if entry.name in stored:
            continue
        kind = entry.type.WhichOneof("value")
        tensor = entry.type.tensor_type
        if kind != "tensor_type" or tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            what = "strings" if kind == "tensor_type" else f"a {str(kind).removesuffix('_type')}"
            raise InputError(f"{path}: the input {entry.name} takes {what}: only arrays of numbers can be fed")
        dims = [axis.dim_value if axis.dim_value > 0 else None for axis in tensor.shape.dim]
        shape = tuple(dims) if tensor.HasField("shape") else None
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        made.append(Wanted(name=entry.name, shape=shape, dtype=dtype))
    return tuple(made)


def feed(paths: tuple[Path, Path], ours: Sequence[Wanted], theirs: Sequence[Wanted], inputs: Any) -> Fed:
    """The inputs of both files: given for the first, or made up of what both say; the second's derived by layout.

    Raises:
        InputError: They cannot be made up, or the files do not take the same.
    """
    if len(ours) != len(theirs):
        told = " and ".join(
            f"{path.name} takes {len(specs)} ({', '.join(map(str, specs))})"
            for path, specs in zip(paths, (ours, theirs), strict=True)
        )
        raise InputError(f"the files take different inputs: {told}")
    places, how = matched(
        [spec.name for spec in ours], [spec.name for spec in theirs], lambda a, b: _alike(ours[a], theirs[b])
    )
    others = [theirs[place] for place in places]
    given = _made(paths, ours, others) if inputs is None else _given(paths[0], ours, inputs)
    layouts = [_layout(array.shape, other.shape) for array, other in zip(given, others, strict=True)]
    if bad := [
        f"{spec.name} of shape {array.shape} does not fit {other} of {paths[1].name}, nor with its channels moved"
        for spec, array, other, layout in zip(ours, given, others, layouts, strict=True)
        if layout is None
    ]:
        raise InputError(f"the files do not take the same: {'; '.join(bad)}")
    second: dict[int, Array] = {
        place: moved(array, layout or SAME) for place, array, layout in zip(places, given, layouts, strict=True)
    }
    pairs = [
        f"{spec.name} <-> {other.name}{f' ({layout})' if layout else ''}"
        for spec, other, layout in zip(ours, others, layouts, strict=True)
    ]
    return Fed(first=given, second=[second[place] for place in sorted(second)], told=f"{', '.join(pairs)}, {how}")


def pair_outputs(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> tuple[list[tuple[str, str, str]], str]:
    """Which output is which, with the layout that the first's is brought into; and how that was told, in words."""
    first, second = list(ours), list(theirs)
    places, how = matched(first, second, lambda a, b: bool(_layouts(ours[first[a]].shape, theirs[second[b]].shape)))
    pairs = []
    for name, place in zip(first, places, strict=True):
        other = second[place]
        layouts = _layouts(ours[name].shape, theirs[other].shape) or [SAME]
        nearest = min(layouts, key=lambda layout: _distance(moved(ours[name], layout), theirs[other]))
        pairs.append((name, other, nearest if len(layouts) > 1 else layouts[0]))
    return pairs, how


def matched(ours: Sequence[str], theirs: Sequence[str], fits: Callable[[int, int], bool]) -> tuple[list[int], str]:
    """For each of ours the place of its counterpart, and how it was told.

    By name where the names are the same; else by order where every one fits there; else by what fits, where that
    leaves no choice; else by order, for want of anything better.
    """
    if set(ours) == set(theirs):
        return [list(theirs).index(name) for name in ours], "by name"
    in_order = list(range(len(ours)))
    if all(fits(place, place) for place in in_order):
        return in_order, "by order"
    choices = [[other for other in range(len(theirs)) if fits(place, other)] for place in in_order]
    if all(len(choice) == 1 for choice in choices) and len({choice[0] for choice in choices}) == len(ours):
        return [choice[0] for choice in choices], "by shape"
    return in_order, "by order"


def moved(array: Array, layout: str) -> Array:
    """An array in another layout."""
    made = channels_last(array) if layout == LAST else channels_first(array) if layout == FIRST else array
    return np.ascontiguousarray(made)


def _alike(one: Wanted, other: Wanted) -> bool:
    return one.dtype[:3] == other.dtype[:3] and _layout(one.shape, other.shape) is not None


def _layout(shape: Sizes | None, other: Sizes | None) -> str | None:
    """How an array of one shape becomes one of another; None where it cannot. As it is, unless a move fits better."""
    if shape is None or other is None:
        return SAME
    fitting = {layout: _score(_move(shape, layout), other) for layout in (SAME, LAST, FIRST)}
    best = max(fitting, key=lambda layout: fitting[layout])
    return best if fitting[best] >= 0 else None


def _layouts(shape: Sizes, other: Sizes) -> list[str]:
    """Every layout in which two whole shapes are the same; a move that changes nothing is none."""
    found = [layout for layout in (SAME, LAST, FIRST) if _move(shape, layout) == other]
    return found if len(shape) > 2 else found[:1]


def _score(shape: Sizes, other: Sizes) -> int:
    """How many sizes are said by both, and the same; -1 where they contradict."""
    if len(shape) != len(other):
        return -1
    both = [(one, two) for one, two in zip(shape, other, strict=True) if one is not None and two is not None]
    return len(both) if all(one == two for one, two in both) else -1


def _move(shape: Sizes, layout: str) -> Sizes:
    if layout == SAME or len(shape) < 3:
        return shape
    return (shape[0], *shape[2:], shape[1]) if layout == LAST else (shape[0], shape[-1], *shape[1:-1])


def _distance(one: Array, other: Array) -> float:
    if one.shape != other.shape or not one.size:
        return float("inf")
    distance = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return float(np.max(distance, where=np.isfinite(distance), initial=0.0))


def _given(path: Path, specs: Sequence[Wanted], inputs: Any) -> list[Array]:
    """The inputs in the order of the first file: an array, a tuple of them, or a dict by name."""
    names = [spec.name for spec in specs]
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise InputError(f"{path.name} takes {', '.join(names)}; given are {', '.join(map(str, inputs))}")
        return [np.asarray(inputs[name]) for name in names]
    given = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    if len(given) != len(specs):
        raise InputError(f"{path.name} takes {len(specs)} inputs ({', '.join(names)}); given are {len(given)}")
    return [np.asarray(array) for array in given]


def _made(paths: tuple[Path, Path], ours: Sequence[Wanted], theirs: Sequence[Wanted]) -> list[Array]:
    """Random inputs of the sizes that the two files say, either of them."""
    generator = np.random.default_rng(SEED)
    made = []
    for spec, other in zip(ours, theirs, strict=True):
        sizes = _sizes(spec, other)
        if sizes is None or None in sizes[1:] or not spec.dtype.startswith("float"):
            raise InputError(f"{paths[0].name}: the input {spec} cannot be made up: give inputs=...")
        shape = [size or BATCH for size in sizes]
        made.append(np.asarray(generator.standard_normal(shape)).astype(spec.dtype))
    return made


def _sizes(spec: Wanted, other: Wanted) -> Sizes | None:
    """The sizes that one file says of an input, and where it leaves one free, what the other says of it."""
    layout = _layout(spec.shape, other.shape)
    if spec.shape is None or other.shape is None or layout is None:
        return spec.shape
    back = {SAME: SAME, LAST: FIRST, FIRST: LAST}[layout]
    return tuple(one or two for one, two in zip(spec.shape, _move(other.shape, back), strict=True))
