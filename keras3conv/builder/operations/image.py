"""Convert operations and layers for images: resizing, patches, pixel shuffles, colours."""

from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F, along, converted, fixed, is_float, tuple_of
from keras3conv.builder.operations.layers import images, padded, same_pads
from keras3conv.builder.program.names import OWN_FUNCTIONS
from keras3conv.builder.program.operation import Expression, Function, chained
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.rules.unsupported import AUGMENTATIONS


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
