"""Convert operations and layers for images: padding, cropping, resizing, patches."""

from collections.abc import Sequence
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F, along, behind, converted, fixed, is_float, tuple_of
from keras3conv.builder.operations.layers import images, padded, same_pads, torch_pads
from keras3conv.builder.program.names import OWN_FUNCTIONS
from keras3conv.builder.program.operation import Expression, Function, chained
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.rules.unsupported import AUGMENTATIONS

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


@handles("keras.ops.image.resize", "keras.layers.Resizing")
def _resize(call: Call) -> None:
    given, mode = images(call, call.tensor), call.get("interpolation")
    if given.rank != 4 or not is_float(given):
        raise call.refuse(
            "resizing is supported only for tensors of four axes (a batch of images) with a floating-point dtype, "
            f"found {given.rank} axes of {given.dtype}"
        )
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise call.refuse(
            f"interpolation={mode!r} is not supported, because torch has no counterpart; use bilinear, bicubic with "
            "antialias=True, or nearest"
        )
    height, width = call.get("size") or (call.get("height"), call.get("width"))
    given = _to_aspect_ratio(call, given, height, width)
    settings: dict[str, Any] = {"mode": "nearest-exact"}
    if mode != "nearest":
        settings = {"mode": mode, "align_corners": False}
        if mode == "bicubic" and not call.get("antialias"):
            _require_one_bicubic(call, given, (height, width))
        if mode == "bicubic" or call.get("antialias"):
            settings["antialias"] = True
    call.returns(F.interpolate(given, size=(height, width), **settings), given.order)


def _require_one_bicubic(call: Call, tensor: Value, sizes: tuple[int, int]) -> None:
    """Raise `RuleError` if TensorFlow and JAX do not return the same for a bicubic resize without antialiasing.

    TensorFlow rounds the position of each pixel to a multiple of 1/1024 of a pixel, JAX does not. If an image is
    enlarged by a power of two, its positions are such multiples, and both return the same. torch returns the same
    for enlarged images only with antialias=True; without it, torch uses another kernel.

    Args:
        call: The call of a resize.
        tensor: The images, channels-first.
        sizes: The new height and width.
    """
    olds = [fixed(call, size, "the size of the images") for size in tensor.target_shape[2:]]
    if any(new % old or (new // old) not in (1, 2, 4, 8, 16, 32) for old, new in zip(olds, sizes, strict=True)):
        raise call.refuse(
            "interpolation='bicubic' without antialias is supported only if the images become 2, 4, 8, 16 or 32 times "
            "as large, because Keras' backends differ otherwise; use antialias=True, which is the same on all of them"
        )


def _to_aspect_ratio(call: Call, tensor: Value, height: int, width: int) -> Value:
    """Return images cropped or padded to the aspect ratio of a target size, as the arguments of a resize say.

    Args:
        call: The call of a resize.
        tensor: The images, channels-first; returned unchanged without crop_to_aspect_ratio and pad_to_aspect_ratio.
        height: The target height.
        width: The target width.
    """
    if not (call.get("crop_to_aspect_ratio") or call.get("pad_to_aspect_ratio")):
        return tensor
    old_height, old_width = (fixed(call, size, "the size of the images") for size in tensor.target_shape[2:])
    wanted = int(float(old_width * height) / width), int(float(old_height * width) / height)
    pairs = zip((old_height, old_width), wanted, strict=True)
    if call.get("crop_to_aspect_ratio"):
        return call.step(tensor[..., *(_centred(old, max(min(old, new), 1)) for old, new in pairs)])
    ends = [int(float(max(old, new) - old) / 2) for old, new in pairs]
    return padded(call, tensor, [(end, end) for end in ends], call.get("fill_value"))


def _centred(old: int, new: int) -> slice:
    start = int(float(old - new) / 2)
    return slice(start, start + new)


@handles("keras.layers.CenterCrop")
def _center_crop(call: Call) -> None:
    given, target = images(call, call.tensor), (call.get("height"), call.get("width"))
    sizes = [fixed(call, size, "the size of the images") for size in given.target_shape[-2:]]
    if any(size < wanted for size, wanted in zip(sizes, target, strict=True)):
        raise call.refuse(
            f"the images of size {tuple(sizes)} are smaller than the crop {tuple(target)}, so Keras resizes them, "
            "which is not supported"
        )
    cropped = (_centred(size, wanted) for size, wanted in zip(sizes, target, strict=True))
    call.returns(given[..., *cropped], given.order)


@handles(*(f"keras.layers.{name}" for name in AUGMENTATIONS))
def _not_augmented(call: Call) -> None:
    """Convert an augmentation to nothing, as in inference; only the dtype changes."""
    call.passes(converted(call, call.tensor, call.dtype))


@handles("keras.ops.image.extract_patches")
def _extract_patches(call: Call) -> None:
    """Convert `extract_patches`, and reorder the values of each patch.

    torch orders the values of a patch by channel and then by pixel, Keras by pixel and then by channel.
    """
    given = images(call, call["images"])
    if given.rank != 4 or not (isinstance(call["size"], int) or len(call["size"]) == 2):
        raise call.refuse(
            "extract_patches is supported only for a tensor of four axes (a batch of images) and a two-dimensional "
            "patch size"
        )
    size, dilation = tuple_of(call["size"], 2), tuple_of(call["dilation_rate"], 2)
    strides = tuple_of(call["strides"] or size, 2)
    channels = fixed(call, given.target_shape[1], "the number of channels")
    if call["padding"] == "same":
        given = padded(call, given, same_pads(call, given, size, strides, dilation))
    options = {"dilation": dilation} if {*dilation} != {1} else {}
    options |= {"stride": strides} if {*strides} != {1} else {}
    patches: Expression = F.unfold(given, size, **options)
    if channels > 1:
        patches = patches.method("unflatten", 1, (channels, size[0] * size[1])).method("transpose", 1, 2)
    order: Order = identity(4) if call.get("data_format") == "channels_first" else channels_first(4)
    call.returns(patches.method("reshape", *call.sizes([call.shape[axis] for axis in order])), order)


@handles("keras.ops.depth_to_space", "keras.ops.space_to_depth")
def _depth_and_space(call: Call) -> None:
    """Convert `depth_to_space` and `space_to_depth`.

    In the channel axis, torch orders the values by channel and then by pixel in a patch. Keras does so only for
    channels-first images; for channels-last images it orders them by pixel and then by channel.
    """
    given, block = images(call, call["x"]), int(call["block_size"])
    channels, pixels = fixed(call, given.target_shape[1], "the number of channels"), block * block
    to_space, is_first = call.node.kind.endswith("space"), call["data_format"] == "channels_first"
    moved: Expression = given
    if to_space and not is_first:
        moved = _swapped(moved, pixels, channels // pixels)
    moved = (F.pixel_shuffle if to_space else F.pixel_unshuffle)(moved, block)
    if not to_space and not is_first:
        moved = _swapped(moved, channels, pixels)
    call.returns(moved, given.order)


def _swapped(tensor: Expression, first: int, second: int) -> Expression:
    """Return the expression that splits the channel axis of images into two axes, swaps these, and merges them again.

    Args:
        tensor: The images, channels-first.
        first: The size of the first axis after the split.
        second: The size of the second axis after the split.
    """
    return tensor.method("unflatten", 1, (first, second)).method("transpose", 1, 2).method("flatten", 1, 2)


@handles("keras.ops.image.rgb_to_grayscale")
def _rgb_to_grayscale(call: Call) -> None:
    given = call["images"]
    axis = -3 if call.get("data_format") == "channels_first" else -1
    if given.shape[axis] == 1:
        call.passes(given)
        return
    parts = (factor * given[along(given.position(axis), slice(at, at + 1))] for at, factor in enumerate(_GRAY))
    call.returns(chained("+", parts), given.order)


_GRAY = (0.2989, 0.587, 0.114)


@handles("keras.ops.image.rgb_to_hsv")
def _rgb_to_hsv(call: Call) -> None:
    given, axis = call["images"], -3 if call.get("data_format") == "channels_first" else -1
    function = Function(f"{OWN_FUNCTIONS}.rgb_to_hsv")
    call.returns(function(given, given.position(axis % given.rank)), given.order)


@handles("keras.ops.unfold")
def _unfold(call: Call) -> None:
    call.returns(F.unfold(call.keras_order(call["x"]), *_window(call)))


@handles("keras.ops.fold")
def _fold(call: Call) -> None:
    size = tuple_of(call["output_size"], 2)
    call.returns(F.fold(call.keras_order(call["x"]), size, *_window(call)))


def _window(call: Call) -> list[tuple[int, ...]]:
    return [tuple_of(call[name], 2) for name in ("kernel_size", "dilation", "padding", "stride")]
