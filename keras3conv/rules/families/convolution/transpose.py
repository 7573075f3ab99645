"""Rules for transposed convolutions.

Torch's padding crops the output. Keras with padding="valid" returns the whole output, so a cropping layer follows it.
"""

from functools import partial
from itertools import cycle

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import bound, ints, pads, paired, require_value, shape_of
from keras3conv.rules.helpers.padding import Pads, reach
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Array, Axes, Chain, Diagonal, Dilate, Same, Shape, Transform

_AXES = {1: "w", 2: "h w", 3: "d h w"}
_FIELDS = paired(
    "in_channels",
    "padding",
    "groups",
    "padding_mode",
    out_channels="filters",
    kernel_size="kernel_size",
    stride="strides",
    output_padding="output_padding",
    dilation="dilation_rate",
    bias="use_bias",
)


def _to_keras(config: Config, *, rank: int) -> LayerSpecs:
    strides, dilation = ints(config["stride"], rank), ints(config["dilation"], rank)
    size = ints(config["kernel_size"], rank)
    if _is_widened(config, rank):
        size, dilation = tuple(total + 1 for total in reach(size, dilation)), (1,) * rank
    added, crops = _added_and_cropped(config, strides, rank)
    keras = {
        "filters": config["out_channels"],
        "kernel_size": size,
        "strides": strides,
        "padding": "valid",
        "output_padding": added,
        "dilation_rate": dilation,
        "use_bias": config["bias"],
    }
    convolution = LayerSpec(kind=f"keras.layers.Conv{rank}DTranspose", config=keras)
    if not any(map(any, crops)):
        return (convolution,)
    cropping = crops[0] if rank == 1 else crops
    return convolution, LayerSpec(kind=f"keras.layers.Cropping{rank}D", config={"cropping": cropping})


def _is_widened(config: Config, rank: int) -> bool:
    """Return whether the kernel must be spread with zeros, because Keras has no dilation together with a stride."""
    return max(ints(config["stride"], rank)) > 1 and max(ints(config["dilation"], rank)) > 1


def _added_and_cropped(config: Config, strides: Shape, rank: int) -> tuple[Shape, Pads]:
    """Return Keras' output_padding, and how many elements a cropping layer must remove at the two ends of each axis.

    Keras' output_padding must be less than the stride. If torch's is larger (with a dilation), fewer elements are
    cropped at the end instead.
    """
    wanted, padding = ints(config["output_padding"], rank), ints(config["padding"], rank)
    added = tuple(min(extra, stride - 1) for extra, stride in zip(wanted, strides, strict=True))
    crops = tuple((pad, pad - extra + got) for pad, extra, got in zip(padding, wanted, added, strict=True))
    if min(end for _, end in crops) < 0:
        name = f"ConvTranspose{rank}d"
        raise RuleError(
            f"{name} has output_padding={wanted}, which is too large for Keras with stride={strides}"
            ": pad the output in a separate layer"
        )
    return added, crops


def _to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    convolution = layers[0]
    *kernel_size, outputs, inputs = shape_of(convolution, "kernel")
    strides = ints(convolution.config.get("strides", 1), rank)
    dilation = ints(convolution.config.get("dilation_rate", 1), rank)
    crops = keras_crops(layers, reach(tuple(kernel_size), dilation), rank)
    added = tuple(max(start - end, 0) for start, end in crops)
    limits = tuple(map(max, strides, dilation))
    if any(extra >= limit for extra, limit in zip(added, limits, strict=True)):
        name = f"Conv{rank}DTranspose"
        raise RuleError(
            f"{name} needs output_padding={added} in torch, where it must be less than the stride or the dilation"
            ": pad the output in a separate layer"
        )
    config = {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": tuple(kernel_size),
        "stride": strides,
        "padding": tuple(start for start, _ in crops),
        "output_padding": added,
        "dilation": dilation,
        "groups": 1,
        "bias": convolution.config.get("use_bias", True),
        "padding_mode": "zeros",
    }
    return (LayerSpec(kind=f"torch.nn.ConvTranspose{rank}d", config=config), *_cut(crops, rank))


def _cut(crops: Pads, rank: int) -> LayerSpecs:
    """Return the torch layer that crops the end of a transposed convolution's output, if Keras crops more there.

    Torch's padding crops both ends of an axis by the same number. If that is enough, the result is empty.

    Args:
        crops: The numbers of elements that Keras crops at the start and the end of each axis.
        rank: The number of spatial axes.
    """
    if all(end <= start for start, end in crops):
        return ()
    numbers = tuple(number for start, end in reversed(crops) for number in (0, min(start - end, 0)))
    return (LayerSpec(kind=f"torch.nn.ZeroPad{rank}d", config={"padding": numbers}),)


def keras_crops(layers: LayerSpecs, totals: Shape, rank: int) -> Pads:
    """Return how many elements Keras crops at the start and end of each axis of the full output; negative numbers add.

    Args:
        layers: The transposed convolution, and the cropping layer after it, if there is one.
        totals: For each axis, the size of the dilated kernel minus one.
        rank: The number of spatial axes.
    """
    convolution = layers[0]
    strides = ints(convolution.config.get("strides", 1), rank)
    added = convolution.config.get("output_padding")
    extras = (None,) * rank if added is None else ints(added, rank)
    padding = convolution.config.get("padding", "valid")
    require_value(convolution.kind, "padding", padding, "valid", "same")
    crop = _valid_crop if padding == "valid" else _same_crop
    crops = tuple(map(crop, (total + 1 for total in totals), strides, extras))
    if len(layers) == 1:
        return crops
    after = pads(layers[1].config["cropping"], rank)
    return tuple((start + more[0], end + more[1]) for (start, end), more in zip(crops, after, strict=True))


def _valid_crop(size: int, stride: int, extra: int | None) -> tuple[int, int]:
    """Return (0, -n), because a transposed convolution with padding="valid" adds n elements at the end of an axis.

    n is `extra`. Without output_padding, n is stride - size if the stride is larger than the kernel, else 0.

    Args:
        size: The size of the kernel, dilation included.
        stride: The stride.
        extra: The argument output_padding; None if it is not given.
    """
    return 0, -(max(stride - size, 0) if extra is None else extra)


def _same_crop(size: int, stride: int, extra: int | None) -> tuple[int, int]:
    """Return how many elements a transposed convolution with padding="same" crops at the start and end of an axis.

    The output has input size x stride elements, unless output_padding is given. If the number to crop is odd, one more
    element is cropped at the end.

    Args:
        size: The size of the kernel, dilation included.
        stride: The stride.
        extra: The argument output_padding; None if it is not given.
    """
    kept = stride + size - 2 if extra is None else size + size % 2 - 2 + extra
    start = min(kept - kept // 2, size - 1)
    return size - 1 - start, size - 1 - (kept - start)


def _cropped(array: Array, torch: Config, keras: Config, *, rank: int) -> Array:
    """Return the part of a Keras convolution's output that equals torch's output, which torch's padding crops.

    A Keras convolution with padding="valid" returns the full output, and a layer after it crops. With padding="same" or
    channels first, the output is returned unchanged.
    """
    if keras.get("padding", "valid") != "valid" or keras.get("data_format") == "channels_first":
        return array
    crops = _added_and_cropped(torch, ints(torch["stride"], rank), rank)[1]
    inner = (slice(start, size - end) for (start, end), size in zip(crops, array.shape[1:-1], strict=True))
    return array[(slice(None), *inner)]


def _weights(config: Config, *, rank: int) -> tuple[WeightMapping, ...]:
    axes, groups = _AXES[rank], config["groups"]
    links: list[Transform] = [Diagonal(0, 1, groups)] if groups > 1 else []
    if _is_widened(config, rank):
        steps = enumerate(ints(config["dilation"], rank), 2)
        links += [Dilate(axis, step) for axis, step in steps if step > 1]
    moved = Axes(f"i o {axes} -> {axes} o i")
    kernel = Chain(*links, moved) if links else moved
    return (
        WeightMapping(torch=("weight",), keras=("kernel",), transform=kernel),
        WeightMapping(torch=("bias",), keras=("bias",), transform=Same()),
    )


_EVEN, _ODD = (4, 5, 3), (5, 4, 6)
"""Sizes of spatial axes for examples; a tuple starts with an even or with an odd size."""


def _examples(rank: int) -> tuple[Example, ...]:
    base = {
        "in_channels": 3,
        "out_channels": 7,
        "kernel_size": (3, 4, 2)[:rank],
        "stride": 1,
        "dilation": 1,
        "groups": 1,
    }
    configs: tuple[dict[str, object], ...] = (
        {},
        {"stride": (2, 3, 2)[:rank], "padding": (1, 2, 0)[:rank], "output_padding": (1, 2, 0)[:rank]},
        {"stride": 2, "padding": (0, 1, 1)[:rank], "output_padding": (1, 0, 1)[:rank], "bias": False},
        {"kernel_size": (2, 2, 3)[:rank], "stride": (3, 2, 2)[:rank]},
        {"dilation": (2, 1, 3)[:rank], "padding": (1, 2, 1)[:rank], "output_padding": (1, 0, 1)[:rank]},
    )
    # Zeros in the kernel replace options that Keras lacks, so the torch layer made from Keras has a larger kernel.
    wide = {"in_channels": 6, "out_channels": 4, "groups": 2, "stride": (2, 3, 2)[:rank]}
    widened: tuple[dict[str, object], ...] = (
        wide | {"padding": (1, 2, 0)[:rank], "output_padding": (1, 2, 0)[:rank]},
        wide | {"dilation": (3, 1, 2)[:rank], "padding": (2, 0, 1)[:rank], "output_padding": (1, 2, 1)[:rank]},
    )
    return tuple(
        Example(config=base | options, inputs=((2, 3, *sizes[:rank]),))
        for sizes, options in zip(cycle((_EVEN, _ODD)), configs, strict=False)
    ) + tuple(
        Example(config=base | options, inputs=((2, 6, *sizes[:rank]),), canonical=False)
        for sizes, options in zip(cycle((_EVEN, _ODD)), widened, strict=False)
    )


_NOTE = (
    "Keras has no argument for groups, nor for a dilation with a stride: zeros in the kernel replace them. If training "
    "in Keras changes these zeros, the transfer to torch fails."
)

for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.ConvTranspose{_rank}d",
            keras=f"keras.layers.Conv{_rank}DTranspose",
            fields=_FIELDS,
            **bound(_weights, _to_keras, _to_torch, rank=_rank),
            layout="channels",
            part=partial(_cropped, rank=_rank),
            examples=_examples(_rank),
            train=True,
            note=_NOTE,
        )
    )
