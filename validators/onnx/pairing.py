"""Match the inputs and outputs of two ONNX files, and convert between their memory layouts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs_random import BATCH, SEED
from keras3conv.frameworks.shared.layout import channels_first, channels_last
from keras3conv.messages import count, with_article
from keras3conv.transforms import Array

Sizes = tuple[int | None, ...]
"""A symbolic shape: None for a dynamic axis."""

SAME, LAST, FIRST = "", "channels moved last", "channels moved first"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """An input that an ONNX file declares.

    Attributes:
        name: Name of the input.
        shape: Symbolic shape; None if the file does not declare the number of axes.
        dtype: Name of the dtype.
    """

    name: str
    shape: Sizes | None
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape or ''}".rstrip()


@dataclass(frozen=True, kw_only=True)
class PairedInputs:
    """The input arrays of two ONNX files, matched with each other.

    Attributes:
        first: The arrays in the first file's order.
        second: The same arrays in the second file's order and layouts.
        description: The matched names, for the report.
    """

    first: list[Array]
    second: list[Array]
    description: str


@dataclass(frozen=True, kw_only=True)
class Match:
    """A matched input or output of two files.

    Attributes:
        first: The name in the first file.
        second: The name in the second file.
        layout: Conversion of the first file's values to the layout of the second file, in words; empty if not needed.
    """

    first: str
    second: str
    layout: str

    def __str__(self) -> str:
        names = f"{self.first} <-> {self.second}"
        return f"{names} ({self.layout})" if self.layout else names


def input_specs(path: Path, model: Any) -> tuple[InputSpec, ...]:
    """Return the inputs that a file declares; raise `InputError` if an input is not an array of numbers."""
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    specs = []
    for entry in model.graph.input:
        if entry.name in stored:
            continue
        kind = entry.type.WhichOneof("value")
        tensor = entry.type.tensor_type
        if kind != "tensor_type" or tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            content = "strings" if kind == "tensor_type" else with_article(str(kind).removesuffix("_type"))
            raise InputError(
                f"{path}: the input {entry.name} takes {content}, but only files whose inputs are arrays of numbers "
                "can be compared"
            )
        dims = [axis.dim_value if axis.dim_value > 0 else None for axis in tensor.shape.dim]
        shape = tuple(dims) if tensor.HasField("shape") else None
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        specs.append(InputSpec(name=entry.name, shape=shape, dtype=dtype))
    return tuple(specs)


def pair_inputs(
    paths: tuple[Path, Path], first: Sequence[InputSpec], second: Sequence[InputSpec], inputs: Any
) -> PairedInputs:
    """Return the input arrays of both files: the caller's or random ones for the first, the same values for the second.

    Args:
        paths: The two files.
        first: Inputs that the first file declares.
        second: Inputs that the second file declares.
        inputs: Inputs for the first file; None for random ones.

    Raises:
        InputError: The files take different inputs, or random inputs cannot be made.
    """
    if len(first) != len(second):
        counts = [
            f"{path.name} takes {len(specs)} ({', '.join(map(str, specs))})"
            for path, specs in zip(paths, (first, second), strict=True)
        ]
        raise InputError(
            f"the files cannot be compared, because they take different numbers of inputs: {' and '.join(counts)}"
        )
    indices, how = _match(
        [spec.name for spec in first],
        [spec.name for spec in second],
        lambda index, other: _may_match(first[index], second[other]),
    )
    counterparts = [second[index] for index in indices]
    arrays = _random(paths[0], first, counterparts) if inputs is None else _ordered(paths[0], first, inputs)
    matches, mismatches = [], []
    second_arrays: dict[int, Array] = {}
    for index, spec, other, array in zip(indices, first, counterparts, arrays, strict=True):
        layout = _best_layout(array.shape, other.shape)
        if layout is None:
            mismatches.append(f"{spec.name} of shape {array.shape} does not fit {other} of {paths[1].name}")
            continue
        matches.append(Match(first=spec.name, second=other.name, layout=layout))
        second_arrays[index] = to_layout(array, layout)
    if mismatches:
        raise InputError(
            "the files cannot be compared, because their inputs have different shapes, even with channels moved: "
            f"{'; '.join(mismatches)}"
        )
    return PairedInputs(
        first=arrays,
        second=[second_arrays[index] for index in sorted(second_arrays)],
        description=f"{', '.join(map(str, matches))}, matched {how}",
    )


def pair_outputs(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[list[Match], str]:
    """Return the matched outputs of two files, and the method of matching, in words, such as "by name".

    Of several layouts in which the shapes are equal, the one with the closest values is chosen.
    """
    first_names, second_names = list(first), list(second)

    def fits(index: int, other: int) -> bool:
        return bool(_layouts(first[first_names[index]].shape, second[second_names[other]].shape))

    indices, how = _match(first_names, second_names, fits)
    matches = []
    for name, index in zip(first_names, indices, strict=True):
        array, other = first[name], second[second_names[index]]
        best, smallest = SAME, float("inf")
        for layout in _layouts(array.shape, other.shape):
            distance = _distance(to_layout(array, layout), other)
            if distance < smallest:
                best, smallest = layout, distance
        matches.append(Match(first=name, second=second_names[index], layout=best))
    return matches, how


def _match(first: Sequence[str], second: Sequence[str], fits: Callable[[int, int], bool]) -> tuple[list[int], str]:
    """Match the names of two files: return the index in `second` for each name in `first`, and the method in words.

    The methods are tried in this order: by equal names, by order if all shapes fit, by shape if each shape fits only
    one other, and else by order. `fits(i, j)` returns whether the shapes of `first[i]` and `second[j]` fit.
    """
    if set(first) == set(second):
        return [list(second).index(name) for name in first], "by name"
    in_order = list(range(len(first)))
    if all(fits(index, index) for index in in_order):
        return in_order, "by order"
    choices = [[other for other in range(len(second)) if fits(index, other)] for index in in_order]
    if all(len(choice) == 1 for choice in choices) and len({choice[0] for choice in choices}) == len(first):
        return [choice[0] for choice in choices], "by shape"
    return in_order, "by order"


def to_layout(array: Array, layout: str) -> Array:
    """Return an array in another memory layout of images: `SAME` (unchanged), channels `LAST` or `FIRST`."""
    if layout == LAST:
        array = channels_last(array)
    elif layout == FIRST:
        array = channels_first(array)
    return np.ascontiguousarray(array)


def _may_match(first: InputSpec, second: InputSpec) -> bool:
    return first.dtype[:3] == second.dtype[:3] and _best_layout(first.shape, second.shape) is not None


def _best_layout(first: Sizes | None, second: Sizes | None) -> str | None:
    """Return the memory layout in which most sizes of two symbolic shapes are equal; None if they fit in no layout."""
    if first is None or second is None:
        return SAME
    scores = {layout: _equal_sizes(_shape_in_layout(first, layout), second) for layout in (SAME, LAST, FIRST)}
    best = max(scores, key=lambda layout: scores[layout])
    return best if scores[best] >= 0 else None


def _layouts(first: Sizes, second: Sizes) -> list[str]:
    """Return the layouts (same, channels last, channels first) that turn the first shape into the second.

    Shapes with two axes or fewer have no channels to move, so they have at most one layout.
    """
    layouts = [layout for layout in (SAME, LAST, FIRST) if _shape_in_layout(first, layout) == second]
    return layouts if len(first) > 2 else layouts[:1]


def _equal_sizes(first: Sizes, second: Sizes) -> int:
    """Return the number of axes with equal known sizes; -1 if two known sizes differ."""
    if len(first) != len(second):
        return -1
    known = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    return len(known) if all(one == other for one, other in known) else -1


def _shape_in_layout(shape: Sizes, layout: str) -> Sizes:
    if layout == SAME or len(shape) < 3:
        return shape
    return (shape[0], *shape[2:], shape[1]) if layout == LAST else (shape[0], shape[-1], *shape[1:-1])


def _distance(first: Array, second: Array) -> float:
    if first.shape != second.shape or not first.size:
        return float("inf")
    distance = np.abs(first.astype(np.float64) - second.astype(np.float64))
    return float(np.max(distance, where=np.isfinite(distance), initial=0.0))


def _ordered(path: Path, specs: Sequence[InputSpec], inputs: Any) -> list[Array]:
    """Return the caller's inputs (an array, a tuple of arrays, or a dict by name) in the order of the file."""
    names = [spec.name for spec in specs]
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise InputError(
                f"{path.name} takes the inputs {', '.join(names)}, but {', '.join(map(str, inputs))} are given"
            )
        return [np.asarray(inputs[name]) for name in names]
    arrays = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    if len(arrays) != len(specs):
        raise InputError(
            f"{path.name} takes {count(len(specs), 'input')} ({', '.join(names)}), but {len(arrays)} are given"
        )
    return [np.asarray(array) for array in arrays]


def _random(path: Path, first: Sequence[InputSpec], second: Sequence[InputSpec]) -> list[Array]:
    """Return random arrays for the inputs of the first file; a dynamic size is taken from the second file."""
    generator = np.random.default_rng(SEED)
    arrays = []
    for spec, other in zip(first, second, strict=True):
        sizes = _known_sizes(spec, other)
        if sizes is None or None in sizes[1:] or not spec.dtype.startswith("float"):
            raise InputError(
                f"{path.name}: the input {spec} has a dynamic size or is not floating-point, so no random values can "
                "be made for it: give inputs=..."
            )
        shape = [size or BATCH for size in sizes]
        arrays.append(np.asarray(generator.standard_normal(shape)).astype(spec.dtype))
    return arrays


def _known_sizes(spec: InputSpec, other: InputSpec) -> Sizes | None:
    """Return the symbolic shape of an input, with the other file's sizes for its dynamic axes."""
    layout = _best_layout(spec.shape, other.shape)
    if spec.shape is None or other.shape is None or layout is None:
        return spec.shape
    inverse = {SAME: SAME, LAST: FIRST, FIRST: LAST}[layout]
    other_shape = _shape_in_layout(other.shape, inverse)
    return tuple(size or other_size for size, other_size in zip(spec.shape, other_shape, strict=True))
