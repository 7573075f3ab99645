"""Operations on images: padding, cropping, resizing, patches; and the layers that are nothing else."""

from collections.abc import Sequence
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import behind, fixed, is_float, number, tuple_of
from keras3conv.builder.operations.layers import images, padded, same_pads
from keras3conv.builder.program.program import Order, Value, channels_first, identity

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
            raise call.refuse("padding with a tensor is not supported")
        call.returns(_pad_template(given, pads, f", value={number(value)}" if value else ""), [given], given.order)
    elif mode in _MODES:
        _mirrored(call, given, pads, mode)
    else:
        raise call.refuse(f"mode={mode!r} is not supported")


def _pad_pairs(call: Call, rank: int) -> Sequence[Any]:
    width = call["pad_width"]
    if isinstance(width, int) or (len(width) == 1 and rank > 1):
        raise call.refuse("one width for all axes is read as that of the last axis alone by Keras' torch backend")
    pairs = [one if isinstance(one, tuple | list) else (one, one) for one in width]
    if any(not isinstance(number, int) for pair in pairs for number in pair):
        raise call.refuse("a width that depends on the inputs is not supported")
    return pairs


def _pad_template(given: Value, pads: Sequence[tuple[int, int]], more: str, least: int = 0) -> str:
    """The expression; torch takes the pads from the last axis on, and none for the axes in front of the first."""
    in_order = [pads[axis] for axis in given.order]
    count = max(given.rank - next(place for place, pair in enumerate(in_order) if any(pair)), least)
    numbers = ", ".join(f"{start}, {end}" for start, end in reversed(in_order[given.rank - count :]))
    return f"F.pad({{0}}, ({numbers}){more})"


def _mirrored(call: Call, given: Value, pads: Sequence[tuple[int, int]], mode: str) -> None:
    if mode == "symmetric" and max(map(max, pads)) > 1:
        raise call.refuse(
            "wider than one, Keras' torch backend repeats the edge where the others mirror what is inside"
        )
    padded_axes = [axis for axis in given.order if any(pads[axis])]
    if len(padded_axes) > min(given.rank - 1, 3):
        raise call.refuse(f"mode={mode!r} along {len(padded_axes)} axes of {given.rank} is not supported by torch")
    count = max(given.rank - 2, len(padded_axes))
    if any(axis in given.order[: given.rank - count] for axis in padded_axes):
        given = call.order(given, behind(given.order, padded_axes))
    if not is_float(given):
        raise call.refuse("whole numbers are not supported: torch mirrors floating-point numbers only")
    call.returns(_pad_template(given, pads, f', mode="{_MODES[mode]}"', count), [given], given.order)


@handles("keras.ops.image.pad_images")
def _pad_images(call: Call) -> None:
    given = images(call, call["images"])
    height, width = given.torch_shape[-2:]
    pairs = [
        _sides(call, size, call[f"{first}_padding"], call[f"{last}_padding"], call[f"target_{name}"], sign=1)
        for size, first, last, name in ((height, "top", "bottom", "height"), (width, "left", "right", "width"))
    ]
    made = padded(call, given, pairs)
    call.passes(made)


@handles("keras.ops.image.crop_images")
def _crop_images(call: Call) -> None:
    given = images(call, call["images"])
    height, width = given.torch_shape[-2:]
    pairs = [
        _sides(call, size, call[f"{first}_cropping"], call[f"{last}_cropping"], call[f"target_{name}"], sign=-1)
        for size, first, last, name in ((height, "top", "bottom", "height"), (width, "left", "right", "width"))
    ]
    call.returns(f"{{0}}[..., {', '.join(_kept(start, end) for start, end in pairs)}]", [given], given.order)


def _kept(start: int, end: int) -> str:
    return f"{start or ''}:{-end if end else ''}"


def _sides(
    call: Call, size: Any, first: int | None, last: int | None, target: int | None, sign: int
) -> tuple[int, int]:
    """What comes to, or goes from, both sides; one of them may follow from the size that is wanted."""
    if first is not None and last is not None:
        return first, last
    if target is None:
        raise call.refuse("two of start, end and size must be given")
    change = sign * (target - fixed(call, size, "how much is added or cut"))
    return (change - last, last) if first is None and last is not None else (first or 0, change - (first or 0))


@handles("keras.ops.image.resize", "keras.layers.Resizing")
def _resize(call: Call) -> None:
    given, mode = images(call, call.tensor), call.get("interpolation")
    if given.rank != 4 or not is_float(given):
        raise call.refuse("only batches of images of floating-point numbers are supported")
    if call.get("antialias"):
        raise call.refuse("antialias=True is not supported: Keras' backends use different filters")
    if mode not in ("bilinear", "nearest"):
        raise call.refuse(
            f"interpolation={mode!r} is not supported: it differs between Keras' backends, or is not in all"
        )
    height, width = call.get("size") or (call.get("height"), call.get("width"))
    given = _to_aspect_ratio(call, given, height, width)
    shown = '"bilinear", align_corners=False' if mode == "bilinear" else '"nearest-exact"'
    call.returns(f"F.interpolate({{0}}, size=({height}, {width}), mode={shown})", [given], given.order)


def _to_aspect_ratio(call: Call, given: Value, height: int, width: int) -> Value:
    """The images cut or padded to the shape that is wanted, where that is asked for."""
    if not (call.get("crop_to_aspect_ratio") or call.get("pad_to_aspect_ratio")):
        return given
    old_height, old_width = (fixed(call, size, "the size of the images") for size in given.torch_shape[2:])
    wanted = int(float(old_width * height) / width), int(float(old_height * width) / height)
    if call.get("crop_to_aspect_ratio"):
        pairs = [_centred(old, max(min(old, new), 1)) for old, new in zip((old_height, old_width), wanted, strict=True)]
        index = ", ".join(f"{start}:{end}" for start, end in pairs)
        return call.step(f"{{0}}[..., {index}]", [given])
    ends = [int(float(max(old, new) - old) / 2) for old, new in zip((old_height, old_width), wanted, strict=True)]
    return padded(call, given, [(end, end) for end in ends], number(call.get("fill_value")))


def _centred(old: int, new: int) -> tuple[int, int]:
    start = int(float(old - new) / 2)
    return start, start + new


@handles("keras.layers.CenterCrop")
def _center_crop(call: Call) -> None:
    given, target = images(call, call.tensor), (call.get("height"), call.get("width"))
    sizes = [fixed(call, size, "the size of the images") for size in given.torch_shape[-2:]]
    if any(size < wanted for size, wanted in zip(sizes, target, strict=True)):
        raise call.refuse("images that are smaller than what is cut out are resized by Keras, which is not supported")
    starts = [int((size - wanted) / 2) for size, wanted in zip(sizes, target, strict=True)]
    index = ", ".join(f"{start}:{start + wanted}" for start, wanted in zip(starts, target, strict=True))
    call.returns(f"{{0}}[..., {index}]", [given], given.order)


@handles("keras.ops.image.extract_patches")
def _extract_patches(call: Call) -> None:
    """Torch has the channels of a patch before its places, Keras behind."""
    given = images(call, call["images"])
    if given.rank != 4 or not (isinstance(call["size"], int) or len(call["size"]) == 2):
        raise call.refuse("only patches of batches of images are supported")
    size, dilation = tuple_of(call["size"], 2), tuple_of(call["dilation_rate"], 2)
    strides = tuple_of(call["strides"] or size, 2)
    channels = fixed(call, given.torch_shape[1], "the number of channels")
    if call["padding"] == "same":
        given = padded(call, given, same_pads(call, given, size, strides, dilation))
    options = f", dilation={dilation}" if {*dilation} != {1} else ""
    options += f", stride={strides}" if {*strides} != {1} else ""
    places, shape = size[0] * size[1], call.node.outputs[0].shape
    order: Order = identity(4) if call.get("data_format") == "channels_first" else channels_first(4)
    sizes = call.sizes([shape[axis] for axis in order])
    moved = f".unflatten(1, ({channels}, {places})).transpose(1, 2)" if channels > 1 else ""
    call.returns(f"F.unfold({{0}}, {size}{options}){moved}.reshape({sizes})", [given], order)


@handles("keras.ops.depth_to_space", "keras.ops.space_to_depth")
def _depth_and_space(call: Call) -> None:
    """Torch has the channels before the places of a block, Keras behind, unless its own channels are first."""
    given, block = images(call, call["x"]), int(call["block_size"])
    channels = fixed(call, given.torch_shape[1], "the number of channels")
    if call["data_format"] == "channels_first":
        name = "shuffle" if call.node.kind.endswith("space") else "unshuffle"
        call.returns(f"F.pixel_{name}({{0}}, {block})", [given], given.order)
    elif call.node.kind.endswith("space"):
        places = block * block
        moved = f"{{0}}.unflatten(1, ({places}, {channels // places})).transpose(1, 2).flatten(1, 2)"
        call.returns(f"F.pixel_shuffle({moved}, {block})", [given], given.order)
    else:
        moved = f".unflatten(1, ({channels}, {block * block})).transpose(1, 2).flatten(1, 2)"
        call.returns(f"F.pixel_unshuffle({{0}}, {block}){moved}", [given], given.order)


@handles("keras.ops.image.rgb_to_grayscale")
def _rgb_to_grayscale(call: Call) -> None:
    given = call["images"]
    axis = -3 if call.get("data_format") == "channels_first" else -1
    if given.shape[axis] == 1:
        call.passes(given)
        return
    front = ":, " * given.place(axis)
    parts = (f"{factor} * {{0}}[{front}{at}:{at + 1}]" for at, factor in enumerate((0.2989, 0.587, 0.114)))
    call.returns(" + ".join(parts), [given], given.order)


@handles("keras.ops.unfold")
def _unfold(call: Call) -> None:
    given = call.keras_order(call["x"])
    call.returns(f"F.unfold({{0}}, {_window(call)})", [given])


@handles("keras.ops.fold")
def _fold(call: Call) -> None:
    given, size = call.keras_order(call["x"]), tuple_of(call["output_size"], 2)
    call.returns(f"F.fold({{0}}, {size}, {_window(call)})", [given])


def _window(call: Call) -> str:
    names = ("kernel_size", "dilation", "padding", "stride")
    return ", ".join(str(tuple_of(call[name], 2)) for name in names)
