"""Write the line of Keras code that computes what a torch call computes, for a mistake on the side of Keras."""

from collections.abc import Callable, Mapping

from keras3conv.frameworks.torch.calls import Operation
from keras3conv.rules.helpers.padding import Pads
from keras3conv.validators.diagnosis.suspects.base import Case, ints

_OF_IMAGES = ("torch.nn.Conv", "torch.nn.MaxPool", "torch.nn.AvgPool", "torch.nn.BatchNorm", "torch.nn.InstanceNorm")
"""The beginnings of the names of torch classes whose inputs have the channels second, and in Keras last."""


def in_keras(case: Case, operation: Operation, instead: str = "") -> str:
    """Return a line of Keras code for a torch call; a comment that names the call if no such line is known.

    Args:
        case: The point at which two models differ.
        operation: The torch call.
        instead: What the line replaces, for a comment: "the pooling"; empty if the line is an addition.
    """
    code = code_in_keras(case, operation)
    end = f", in place of {instead}" if instead else ""
    return f"x = {code}  # {case.where_keras}{end}" if code else f"{case.as_in_torch(operation)}{end}"


def code_in_keras(case: Case, operation: Operation) -> str:
    """Return the expression in Keras for a torch call of `x`; empty if none is known."""
    write = _EXPRESSIONS.get(operation.name)
    return write(case, operation) if write else ""


def padded(pads: Pads, values: str = "x") -> str:
    """Return the expression that pads images, or sequences, with zeros; just the values without any padding.

    Args:
        pads: For each axis, the padding before and after it.
        values: The expression to pad.
    """
    if not any(map(any, pads)):
        return values
    return f"keras.layers.ZeroPadding{len(pads)}D({pads if len(pads) > 1 else pads[0]})({values})"


def cropped(case: Case, operation: Operation) -> str:
    """Return the line that crops the result of a transposed convolution as torch does; else a comment with the call."""
    rank = len(operation.get("weight")) - 2
    names, defaults = ("padding", "stride", "dilation"), (0, 1, 1)
    padding, stride, dilation = (
        ints(operation.get(name, default), rank) for name, default in zip(names, defaults, strict=True)
    )
    sizes = zip(operation.get("input")[2:], operation.get("weight")[2:], operation.result or (), strict=False)
    crops = []
    for axis, (extent, window, _) in enumerate(sizes):
        whole = extent * stride[axis] + max((window - 1) * dilation[axis] + 1 - stride[axis], 0)
        crops.append((padding[axis], whole - padding[axis] - (operation.result or ())[2 + axis]))
    if any(end < 0 for _, end in crops):
        return case.as_in_torch(operation)
    code = f"keras.layers.Cropping{rank}D({tuple(crops) if rank > 1 else crops[0]})(x)"
    where = case.keras_path_of(operation)
    return f'padding="valid"  # {where}\nx = {code}  # after {where}, in place of any cropping'


def _pooling(case: Case, operation: Operation) -> str:
    del case
    rank = int(operation.name[-2])
    size, padding = ints(operation.get("kernel_size"), rank), ints(operation.get("padding", 0), rank)
    strides = operation.get("stride")
    stride = size if strides in (None, []) else ints(strides, rank)
    extents = operation.get("input")[-rank:], (operation.result or ())[-rank:]
    missing = [
        max(0, (made - 1) * step + window - extent - 2 * side)  # by ceil_mode, which torch never counts
        for extent, made, window, step, side in zip(*extents, size, stride, padding, strict=True)
    ]
    pads = tuple((side, side + more) for side, more in zip(padding, missing, strict=True))
    if operation.name.startswith("max"):
        layer = f"keras.layers.MaxPooling{rank}D({size}, strides={stride})"
        if max(ints(operation.get("dilation", 1), rank)) > 1:
            return ""
        if not any(map(any, pads)):
            return f"{layer}(x)"
        return f'{layer}(keras.ops.pad(x, {[(0, 0), *pads, (0, 0)]}, constant_values=-float("inf")))'
    layer = f"keras.layers.AveragePooling{rank}D({size}, strides={stride})"
    counts = bool(operation.get("count_include_pad", True)) and any(padding)
    if operation.get("divisor_override") or (counts and any(missing)):
        return ""
    if counts or not any(map(any, pads)):
        return f"{layer}({padded(pads)})"
    return f"{layer}({padded(pads)}) / {layer}({padded(pads, 'keras.ops.ones_like(x)')})"


def _adaptive_pooling(case: Case, operation: Operation) -> str:
    del case
    rank = int(operation.name[-2])
    kind = "Average" if "avg" in operation.name else "Max"
    extents = zip(operation.get("input")[-rank:], (operation.result or ())[-rank:], strict=True)
    if all(made == 1 for _, made in extents):
        return f"keras.layers.Global{kind}Pooling{rank}D(keepdims=True)(x)"
    return ""


def _resizing(case: Case, operation: Operation) -> str:
    """Return the expression for a resizing by whole factors; Keras has none for aligned corners and cubic curves."""
    del case
    before, after = operation.get("input")[2:], (operation.result or ())[2:]
    mode = operation.get("mode", "nearest")
    if mode not in ("nearest", "bilinear") or operation.get("align_corners") or operation.get("antialias"):
        return ""
    if not after or any(made % extent for extent, made in zip(before, after, strict=True)):
        return ""
    factors = tuple(made // extent for extent, made in zip(before, after, strict=True))
    if len(factors) == 2:
        return f'keras.layers.UpSampling2D({factors}, interpolation="{mode}")(x)'
    return f"keras.layers.UpSampling{len(factors)}D({factors if len(factors) > 1 else factors[0]})(x)"


_BORDERS = {"constant": "constant", "reflect": "reflect", "circular": "circular"}
"""The modes of torch's `pad`, each with that of Keras; Keras cannot repeat the last value on torch."""


def _padding(case: Case, operation: Operation) -> str:
    pads, mode = list(operation.get("pad", ())), operation.get("mode", "constant")
    rank = len(operation.get("input"))
    by_axis = {rank - 1 - place // 2: (pads[place], pads[place + 1]) for place in range(0, len(pads), 2)}
    axes = {_axis(case, operation, axis): sides for axis, sides in by_axis.items()}
    value = operation.get("value") or 0
    if mode not in _BORDERS or None in axes or any(side < 0 for side in pads):
        return ""
    widths = [axes.get(axis, (0, 0)) for axis in range(rank)]
    end = f", constant_values={value!r}" if value else ""
    return f"keras.ops.pad(x, {widths}, mode={_BORDERS[mode]!r}{end})"


def _along_axis(name: str, default: int | None = None) -> "_Write":
    """Return a function that returns the code of a `keras.ops` call along one axis, for a torch call."""

    def write(case: Case, operation: Operation) -> str:
        axis = operation.get("dim", default)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        return f"keras.ops.{name}(x, axis={_written_axis(case, operation, axis)})" if isinstance(axis, int) else ""

    return write


def _normalization(case: Case, operation: Operation) -> str:
    is_euclidean = operation.get("p", 2.0) == 2.0
    return _along_axis("normalize", default=1)(case, operation) if is_euclidean else ""


def _reduction(name: str) -> "_Write":
    """Return a function that returns the code of a `keras.ops` reduction, for a torch call."""

    def write(case: Case, operation: Operation) -> str:
        axes = operation.get("dim")
        rank = len(operation.get("input"))
        keep = f", keepdims={bool(operation.get('keepdim'))}" if operation.get("keepdim") else ""
        if axes is None or isinstance(axes, tuple):
            return ""
        places = [axis % rank for axis in (axes if isinstance(axes, list) else [axes])]
        if rank > 3 and sorted(places) == list(range(2, rank)):
            return f"keras.ops.{name}(x, axis={tuple(range(1, rank - 1))}{keep})"
        written = [_written_axis(case, operation, axis) for axis in places]
        several = written[0] if len(written) == 1 else f"({', '.join(written)})"
        return f"keras.ops.{name}(x, axis={several}{keep})"

    return write


def _rolling(case: Case, operation: Operation) -> str:
    shifts, axes = operation.get("shifts"), operation.get("dims")
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [axes] if isinstance(axes, int) else list(axes or ())
    if len(shifts) != len(axes) or not axes:
        return ""
    code = "x"
    for shift, axis in zip(shifts, axes, strict=True):
        code = f"keras.ops.roll({code}, {shift}, axis={_written_axis(case, operation, axis)})"
    return code


def _clipping(case: Case, operation: Operation) -> str:
    del case
    default = (-1.0, 1.0) if operation.name == "hardtanh" else (None, None)
    least = operation.get("dim", operation.get("min", operation.get("min_val", default[0])))
    most = operation.get("2", operation.get("max", operation.get("max_val", default[1])))
    return "" if least is None or most is None else f"keras.ops.clip(x, {least!r}, {most!r})"


def _written_axis(case: Case, operation: Operation, axis: int) -> str:
    """Return the axis in Keras as code; dots if it is not known whether the channels are last."""
    found = _axis(case, operation, axis)
    return "..." if found is None else str(found)


def _axis(case: Case, operation: Operation, axis: int) -> int | None:
    """Return the axis in Keras of an axis of a torch call; None if it is not known whether the channels are last."""
    rank = len(operation.get("input"))
    place = axis % rank
    is_last = _are_channels_last(case, operation)
    if rank <= 2 or place == 0 or is_last is False:
        return place
    return None if is_last is None else (rank - 1 if place == 1 else place - 1)


def _are_channels_last(case: Case, operation: Operation) -> bool | None:
    """Return whether a tensor that has the channels second in torch has them last in Keras; None if it is unknown."""
    first, *rest = (operation.result or ())[1:] or (0,)
    shape = case.keras.value.shape[1:]
    is_same, is_moved = shape == (first, *rest), shape == (*rest, first)
    if is_same != is_moved:
        return is_moved
    kind, axes = case.torch.classes.get(case.point.torch_path, ""), len(operation.get("input")) - 2
    return True if kind.startswith(_OF_IMAGES) and kind.endswith(f"{axes}d") else None


_Write = Callable[[Case, Operation], str]

_EXPRESSIONS: Mapping[str, _Write] = {
    **{f"{kind}_pool{rank}d": _pooling for kind in ("max", "avg") for rank in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{rank}d": _adaptive_pooling for kind in ("max", "avg") for rank in (1, 2, 3)},
    **{name: _along_axis(name) for name in ("softmax", "log_softmax", "cumsum", "flip")},
    **{name: _reduction(name.removeprefix("a")) for name in ("mean", "sum", "max", "min", "amax", "amin")},
    **dict.fromkeys(("clamp", "clip", "hardtanh"), _clipping),
    "interpolate": _resizing,
    "normalize": _normalization,
    "pad": _padding,
    "roll": _rolling,
}
"""For each torch function, the function that writes its call in Keras."""
