"""Rules for convolutions: plain, grouped and depthwise."""

from functools import partial
from itertools import cycle

from keras3conv.rules.helpers.config import bound, ints, last, paired, shape_of
from keras3conv.rules.helpers.padding import padding_layers, torch_padding
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same

_SPATIAL = {1: "w", 2: "h w", 3: "d h w"}
_FIELDS = paired(
    "in_channels",
    "padding_mode",
    out_channels="filters",
    kernel_size="kernel_size",
    stride="strides",
    padding="padding",
    dilation="dilation_rate",
    groups="groups",
    bias="use_bias",
)
_DEPTHWISE_FIELDS = {**_FIELDS, "out_channels": "depth_multiplier", "groups": ""}


def _is_depthwise(config: Config) -> bool:
    return bool(config["groups"] == config["in_channels"] > 1)


def _to_keras(config: Config, *, rank: int) -> LayerSpecs:
    before, padding = padding_layers(config, rank)
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


def _to_torch(layers: LayerSpecs, *, rank: int, depthwise: bool) -> LayerSpecs:
    convolution = last(layers)
    *kernel_size, inputs, outputs = shape_of(convolution, "kernel")
    groups = inputs if depthwise else convolution.config.get("groups", 1)
    before, padding = torch_padding(layers, tuple(kernel_size), rank)
    config = {
        "in_channels": inputs if depthwise else inputs * groups,
        "out_channels": inputs * outputs if depthwise else outputs,
        "kernel_size": tuple(kernel_size),
        "stride": ints(convolution.config.get("strides", 1), rank),
        "dilation": ints(convolution.config.get("dilation_rate", 1), rank),
        "groups": groups,
        "bias": convolution.config.get("use_bias", True),
    }
    return (*before, LayerSpec(kind=f"torch.nn.Conv{rank}d", config={**config, **padding}))


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
"""Sizes of spatial axes for examples; all sizes differ, and a tuple starts with an even or with an odd size."""


_FEW = 0, 2, 3, 5, 8, 11
"""The indices of the examples that 1-D and 3-D convolutions use; 2-D convolutions, with the same code, use all."""


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
        ({"padding": (2, 1, 3)[:rank], "padding_mode": "reflect", "stride": (2, 1, 3)[:rank]}, True),
        ({"padding": (1, 3, 2)[:rank], "padding_mode": "replicate", "groups": 2}, True),
        ({"padding": "same", "padding_mode": "replicate", "kernel_size": (2, 4, 3)[:rank]}, True),
        ({"padding": (2, 3, 1)[:rank], "padding_mode": "circular", "dilation": (1, 2, 1)[:rank]}, True),
    )
    examples = tuple(
        Example(config=base | options, inputs=((2, 4, *sizes[:rank]),), canonical=canonical)
        for sizes, (options, canonical) in zip(cycle((_EVEN, _ODD)), configs, strict=False)
    )
    return examples if rank == 2 else tuple(examples[place] for place in _FEW)


def _depthwise_examples(rank: int) -> tuple[Example, ...]:
    base = {"in_channels": 3, "groups": 3, "kernel_size": (3, 2)[:rank]}
    configs: tuple[dict[str, object], ...] = (
        {"out_channels": 6, "padding": (1, 1)[:rank], "stride": 2},
        {"out_channels": 6, "padding": (1, 1)[:rank], "stride": 2},
        {"out_channels": 3, "bias": False, "kernel_size": (3, 5)[:rank], "padding": (1, 2)[:rank]},
        {"out_channels": 9, "dilation": 2},
        {"out_channels": 6, "padding": (2, 1)[:rank], "padding_mode": "reflect"},
    )
    return tuple(
        Example(config=base | options, inputs=((2, 3, *sizes[:rank]),))
        for sizes, options in zip(cycle((_EVEN, _ODD)), configs, strict=False)
    )


# The rule for DepthwiseConv comes first, so a depthwise convolution becomes one. It may also be paired with a grouped
# Conv, whose rule follows.
for _rank in (1, 2):
    register(
        Rule(
            torch=f"torch.nn.Conv{_rank}d",
            keras=f"keras.layers.DepthwiseConv{_rank}D",
            fields=_DEPTHWISE_FIELDS,
            applies=_is_depthwise,
            **bound(_depthwise_weights, _to_keras, partial(_to_torch, depthwise=True), rank=_rank),
            layout="channels",
            aliases={"depthwise_kernel": "kernel"},
            examples=_depthwise_examples(_rank),
            train=True,
        )
    )

for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.Conv{_rank}d",
            keras=f"keras.layers.Conv{_rank}D",
            fields=_FIELDS,
            **bound(_weights, _to_keras, partial(_to_torch, depthwise=False), rank=_rank),
            layout="channels",
            examples=_examples(_rank),
            train=True,
        )
    )
