"""Convolutions.

Torch pads symmetrically, Keras' "same" pads more at the end: where the two differ, the padding is a layer of its own.
"""

from functools import partial
from itertools import cycle

from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping, register
from keras3conv.rules._keras import ints, last, pads, require_value, shape_of
from keras3conv.transforms import Axes, Same

_SPATIAL = {1: "w", 2: "h w", 3: "d h w"}
_FIELDS = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
)  # fmt: skip


def _is_depthwise(config: Config) -> bool:
    return bool(config["groups"] == config["in_channels"] > 1)


def _says_same(config: Config, rank: int) -> bool:
    """Whether torch's padding is what Keras calls "same"."""
    if isinstance(config["padding"], str):
        return bool(config["padding"] == "same")
    reach = _reach(config["kernel_size"], ints(config["dilation"], rank))
    return set(ints(config["stride"], rank)) == {1} and tuple(2 * pad for pad in ints(config["padding"], rank)) == reach


def _reach(kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """How far a kernel reaches along each axis, beyond its first element."""
    return tuple(step * (size - 1) for size, step in zip(kernel_size, dilation, strict=True))


def _padding_layers(config: Config, rank: int) -> tuple[LayerSpecs, str]:
    """The padding layer that Keras needs before the convolution, if any, and the convolution's own padding."""
    if config["padding"] in ("valid", 0) or (not isinstance(config["padding"], str) and not any(config["padding"])):
        return (), "valid"
    if _says_same(config, rank):
        return (), "same"
    both_sides = tuple((pad, pad) for pad in ints(config["padding"], rank))
    padding = both_sides[0] if rank == 1 else both_sides
    return (LayerSpec(kind=f"keras.layers.ZeroPadding{rank}D", config={"padding": padding}),), "valid"


def _to_keras(config: Config, *, rank: int) -> LayerSpecs:
    require_value(f"torch.nn.Conv{rank}d", "padding_mode", config["padding_mode"], "zeros")
    before, padding = _padding_layers(config, rank)
    keras = {
        "kernel_size": ints(config["kernel_size"], rank),
        "strides": ints(config["stride"], rank),
        "padding": padding,
        "dilation_rate": ints(config["dilation"], rank),
        "use_bias": config["bias"],
    }
    if _is_depthwise(config) and rank < 3:
        keras["depth_multiplier"] = config["out_channels"] // config["groups"]
        return (*before, LayerSpec(kind=f"keras.layers.DepthwiseConv{rank}D", config=keras))
    keras |= {"filters": config["out_channels"], "groups": config["groups"]}
    return (*before, LayerSpec(kind=f"keras.layers.Conv{rank}D", config=keras))


Pads = tuple[tuple[int, int], ...]


def _keras_pads(layers: LayerSpecs, kernel_size: tuple[int, ...], rank: int) -> Pads | str:
    """What Keras pads at the start and the end of every axis; "same" where that depends on an input of unknown size."""
    convolution = last(layers)
    padding = convolution.config.get("padding", "valid")
    if len(layers) > 1:
        require_value(convolution.kind, "padding", padding, "valid")
        return pads(layers[0].config.get("padding", 1), rank)
    if padding == "valid":
        return ((0, 0),) * rank
    strides = ints(convolution.config.get("strides", 1), rank)
    reach = _reach(kernel_size, ints(convolution.config.get("dilation_rate", 1), rank))
    if padding == "causal":
        return ((reach[0], 0),)
    if set(strides) == {1}:
        return tuple((total // 2, total - total // 2) for total in reach)
    first = 2 if convolution.config.get("data_format") == "channels_first" else 1
    spatial = convolution.inputs[0][first : first + rank] if convolution.inputs else ()
    return tuple(map(_same_pads, spatial, strides, reach)) if spatial and None not in spatial else "same"  # type: ignore[arg-type]


def _same_pads(size: int, stride: int, reach: int) -> tuple[int, int]:
    """What "same" pads for a stride: as much as ceil(size / stride) windows need, the odd one at the end."""
    total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2, total - total // 2


def _torch_padding(
    keras_pads: Pads | str, convolution: LayerSpec, rank: int
) -> tuple[LayerSpecs, tuple[int, ...] | str]:
    """Torch's own padding, and the layer before the convolution that it needs where the two ends differ."""
    if isinstance(keras_pads, str):
        return (), keras_pads  # torch refuses "same" with a stride: nothing is built that is wrong
    if all(start == end for start, end in keras_pads):
        return (), tuple(start for start, _ in keras_pads)
    strides = ints(convolution.config.get("strides", 1), rank)
    if convolution.config.get("padding") == "same" and set(strides) == {1}:
        return (), "same"
    numbers = tuple(number for axis in reversed(keras_pads) for number in axis)
    return (LayerSpec(kind=f"torch.nn.ZeroPad{rank}d", config={"padding": numbers}),), (0,) * rank


def _to_torch(layers: LayerSpecs, *, rank: int, depthwise: bool) -> LayerSpecs:
    convolution = last(layers)
    *kernel_size, inputs, outputs = shape_of(convolution, "kernel")
    groups = inputs if depthwise else convolution.config.get("groups", 1)
    before, padding = _torch_padding(_keras_pads(layers, tuple(kernel_size), rank), convolution, rank)
    config = {
        "in_channels": inputs if depthwise else inputs * groups,
        "out_channels": inputs * outputs if depthwise else outputs,
        "kernel_size": tuple(kernel_size),
        "stride": ints(convolution.config.get("strides", 1), rank),
        "padding": padding,
        "dilation": ints(convolution.config.get("dilation_rate", 1), rank),
        "groups": groups,
        "bias": convolution.config.get("use_bias", True),
        "padding_mode": "zeros",
    }
    return (*before, LayerSpec(kind=f"torch.nn.Conv{rank}d", config=config))


def _weights(config: Config, *, rank: int) -> tuple[WeightMapping, ...]:
    axes = _SPATIAL[rank]
    return (
        WeightMapping(torch=("weight",), keras=("kernel",), transform=Axes(f"o i {axes} -> {axes} i o")),
        WeightMapping(torch=("bias",), keras=("bias",), transform=Same()),
    )


def _depthwise_weights(config: Config, *, rank: int) -> tuple[WeightMapping, ...]:
    axes = _SPATIAL[rank]
    kernel = Axes(f"(c m) 1 {axes} -> {axes} c m", m=config["out_channels"] // config["groups"])
    return (
        WeightMapping(torch=("weight",), keras=("kernel",), transform=kernel),
        WeightMapping(torch=("bias",), keras=("bias",), transform=Same()),
    )


_EVEN, _ODD = (8, 11, 9), (9, 8, 10)
"""Spatial sizes that all differ; the first of the one is even, of the other odd."""


def _examples(rank: int) -> tuple[Example, ...]:
    kernel = (3, 2, 5)[:rank]
    base = {"in_channels": 4, "out_channels": 6, "kernel_size": kernel}
    configs: tuple[tuple[dict[str, object], bool], ...] = (
        ({"stride": 2, "padding": (1, 1, 2)[:rank]}, True),
        ({"stride": 2, "padding": (1, 1, 2)[:rank]}, True),
        ({"kernel_size": (3, 5, 3)[:rank], "padding": (1, 2, 1)[:rank], "bias": False}, True),
        ({"padding": "same", "kernel_size": (2, 3, 4)[:rank]}, True),
        ({"padding": "same", "kernel_size": (3, 5, 3)[:rank]}, False),
        ({"groups": 2, "dilation": (2, 1, 2)[:rank]}, True),
        ({"kernel_size": (1, 1, 1)[:rank], "stride": (2, 3, 1)[:rank]}, True),
        ({"padding": "valid"}, False),
    )
    return tuple(
        Example(config=base | options, inputs=((2, 4, *sizes[:rank]),), canonical=canonical)
        for sizes, (options, canonical) in zip(cycle((_EVEN, _ODD)), configs, strict=False)
    )


def _depthwise_examples(rank: int) -> tuple[Example, ...]:
    base = {"in_channels": 3, "groups": 3, "kernel_size": (3, 2)[:rank]}
    configs: tuple[dict[str, object], ...] = (
        {"out_channels": 6, "padding": (1, 1)[:rank], "stride": 2},
        {"out_channels": 6, "padding": (1, 1)[:rank], "stride": 2},
        {"out_channels": 3, "bias": False, "kernel_size": (3, 5)[:rank], "padding": (1, 2)[:rank]},
        {"out_channels": 9, "dilation": 2},
    )
    return tuple(
        Example(config=base | options, inputs=((2, 3, *sizes[:rank]),))
        for sizes, options in zip(cycle((_EVEN, _ODD)), configs, strict=False)
    )


for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.Conv{_rank}d",
            keras=f"keras.layers.Conv{_rank}D",
            fields=_FIELDS,
            applies=lambda config, rank=_rank: rank == 3 or not _is_depthwise(config),  # type: ignore[misc]
            weights=partial(_weights, rank=_rank),
            to_keras=partial(_to_keras, rank=_rank),
            to_torch=partial(_to_torch, rank=_rank, depthwise=False),
            layout="channels",
            examples=_examples(_rank),
            train=True,
        )
    )

for _rank in (1, 2):
    register(
        Rule(
            torch=f"torch.nn.Conv{_rank}d",
            keras=f"keras.layers.DepthwiseConv{_rank}D",
            fields=_FIELDS,
            applies=_is_depthwise,
            weights=partial(_depthwise_weights, rank=_rank),
            to_keras=partial(_to_keras, rank=_rank),
            to_torch=partial(_to_torch, rank=_rank, depthwise=True),
            layout="channels",
            aliases={"depthwise_kernel": "kernel"},
            examples=_depthwise_examples(_rank),
            train=True,
        )
    )
