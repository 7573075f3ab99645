"""Convert padding, and the padding and cropping of images."""

from collections.abc import Sequence
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F, behind, fixed, is_float
from keras3conv.builder.operations.layers import images, padded, torch_pads
from keras3conv.builder.program.program import Value

_MODES = {"reflect": "reflect", "symmetric": "replicate"}


@handles("keras.ops.pad")
def _pad(call: Call) -> None:
    given, mode = call["x"], call["mode"]
    pads = [(int(start), int(end)) for start, end in _pad_pairs(call, given.rank)]
    if not any(map(any, pads)):
        call.passes(given)
    elif mode == "constant":
        value = call["constant_values"]
        if isinstance(value, Value):
            raise call.refuse("pad is supported only with a number as constant_values, not a tensor")
        settings = {"value": value} if value else {}
        call.returns(F.pad(given, _padding(given, pads), **settings), given.order)
    elif mode in _MODES:
        _mirrored(call, given, pads, mode)
    else:
        raise call.refuse(f"pad is not supported with mode={mode!r}, only with: {', '.join(('constant', *_MODES))}")


def _pad_pairs(call: Call, rank: int) -> Sequence[Any]:
    width = call["pad_width"]
    if isinstance(width, int) or (len(width) == 1 and rank > 1):
        raise call.refuse(
            "a single pad_width for all axes is not supported: Keras' torch backend pads only the last axis with it; "
            "give one pair for each axis"
        )
    pairs = [one if isinstance(one, tuple | list) else (one, one) for one in width]
    if any(not isinstance(number, int) for pair in pairs for number in pair):
        raise call.refuse("pad_width must consist of integers, but one of its entries depends on the inputs")
    return pairs


def _padding(tensor: Value, pads: Sequence[tuple[int, int]], least: int = 0) -> tuple[int, ...]:
    """Return the argument of `F.pad` that pads a value, without numbers for the first axes if these are not padded.

    Args:
        tensor: The value that is padded.
        pads: The padding at the start and the end of each axis, in the axis order of Keras.
        least: The minimum number of axes, counted from the last one, for which the argument has numbers.
    """
    in_order = [pads[axis] for axis in tensor.order]
    count = max(tensor.rank - next(place for place, pair in enumerate(in_order) if any(pair)), least)
    return torch_pads(in_order[tensor.rank - count :])


def _mirrored(call: Call, tensor: Value, pads: Sequence[tuple[int, int]], mode: str) -> None:
    if mode == "symmetric" and max(map(max, pads)) > 1:
        raise call.refuse(
            'mode="symmetric" with more than one pixel is not supported: Keras\' torch backend repeats the edge, '
            "but the other backends mirror the image"
        )
    padded_axes = [axis for axis in tensor.order if any(pads[axis])]
    if len(padded_axes) > min(tensor.rank - 1, 3):
        raise call.refuse(
            f"torch cannot pad {len(padded_axes)} of {tensor.rank} axes with mode={mode!r}: it pads at most three "
            "axes, and must leave at least one axis unpadded"
        )
    count = max(tensor.rank - 2, len(padded_axes))
    if any(axis in tensor.order[: tensor.rank - count] for axis in padded_axes):
        tensor = call.order(tensor, behind(tensor.order, padded_axes))
    if not is_float(tensor):
        raise call.refuse(
            f"pad with mode={mode!r} is supported only for floating-point numbers, not for {tensor.dtype}"
        )
    call.returns(F.pad(tensor, _padding(tensor, pads, count), mode=_MODES[mode]), tensor.order)


@handles("keras.ops.image.pad_images")
def _pad_images(call: Call) -> None:
    given = images(call, call["images"])
    call.passes(padded(call, given, _changes(call, given, "padding", sign=1)))


@handles("keras.ops.image.crop_images")
def _crop_images(call: Call) -> None:
    given = images(call, call["images"])
    pairs = _changes(call, given, "cropping", sign=-1)
    kept = [slice(start or None, -end if end else None) for start, end in pairs]
    call.returns(given[..., *kept], given.order)


def _changes(call: Call, tensor: Value, name: str, sign: int) -> list[tuple[int, int]]:
    """Return how many pixels a padding or cropping changes at the ends of images: (top, bottom), (left, right).

    Args:
        call: The call, with arguments such as `top_padding` and `target_height`.
        tensor: The images, channels-first.
        name: The word in the names of these arguments: "padding" or "cropping".
        sign: 1 if pixels are added, -1 if they are removed.
    """
    height, width = tensor.target_shape[-2:]
    axes = ((height, "top", "bottom", "height"), (width, "left", "right", "width"))
    return [
        _sides(call, size, call[f"{first}_{name}"], call[f"{last}_{name}"], call[f"target_{target}"], sign=sign)
        for size, first, last, target in axes
    ]


def _sides(
    call: Call, size: Any, first: int | None, last: int | None, target: int | None, sign: int
) -> tuple[int, int]:
    """Return the numbers of pixels to add or remove at the start and at the end of one axis.

    Args:
        call: The call of the padding or cropping.
        size: The size of the axis before the padding or cropping.
        first: The number of pixels at the start, if the call has this argument.
        last: The number of pixels at the end, if the call has this argument.
        target: The size of the axis afterwards, if the call has this argument. It determines `first` or `last` if one
            of them is None.
        sign: 1 if pixels are added, -1 if they are removed.
    """
    if first is not None and last is not None:
        return first, last
    if target is None:
        raise call.refuse(
            "padding and cropping need two of these three for each axis: pixels at the start, pixels at the end, "
            "target size"
        )
    change = sign * (target - fixed(call, size, "the number of pixels that are added or removed"))
    return (change - last, last) if first is None and last is not None else (first or 0, change - (first or 0))
