"""Rules for separable convolutions: a depthwise and a pointwise torch convolution become one Keras layer."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import bound, ints, last, require_value, shape_of
from keras3conv.rules.helpers.padding import padding_layers, torch_padding
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same

_AXES = {1: "w", 2: "h w"}
_ONES = {1: "1", 2: "1 1"}
_FIELDS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "bias",
    "padding_mode",
)


def _is_separable(config: Config, *, rank: int) -> bool:
    """Return whether two torch convolutions form a separable one: depthwise without a bias, then pointwise.

    Args:
        config: The configurations of the two torch convolutions, under "0" and "1".
        rank: The number of spatial axes.
    """
    first, second = config["0"], config["1"]
    is_depthwise = first["groups"] == first["in_channels"] and not first["bias"]
    sizes = ("kernel_size", 1), ("stride", 1), ("groups", 1)
    is_pointwise = all(ints(second[name], rank) == (size,) * rank for name, size in sizes)
    return is_depthwise and is_pointwise and not any(padding_layers(second, rank)[0])


def _to_keras(config: Config, *, rank: int) -> LayerSpecs:
    if not _is_separable(config, rank=rank):
        raise RuleError(
            f"two Conv{rank}d become a SeparableConv{rank}D only if the first is depthwise without a bias and the "
            "second is pointwise"
            ": pair them with two Keras layers"
        )
    first, second = config["0"], config["1"]
    before, padding = padding_layers(first, rank)
    keras = {
        "filters": second["out_channels"],
        "kernel_size": ints(first["kernel_size"], rank),
        "strides": ints(first["stride"], rank),
        "padding": padding,
        "dilation_rate": ints(first["dilation"], rank),
        "depth_multiplier": first["out_channels"] // first["groups"],
        "use_bias": second["bias"],
    }
    return (*before, LayerSpec(kind=f"keras.layers.SeparableConv{rank}D", config=keras))


def _to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    convolution = last(layers)
    require_value("keras.layers.SeparableConv", "kind", convolution.kind, f"keras.layers.SeparableConv{rank}D")
    *kernel_size, inputs, multiplier = shape_of(convolution, "depthwise_kernel")
    *_, middle, outputs = shape_of(convolution, "pointwise_kernel")
    before, padding = torch_padding(layers, tuple(kernel_size), rank)
    first = {
        "in_channels": inputs,
        "out_channels": inputs * multiplier,
        "kernel_size": tuple(kernel_size),
        "stride": ints(convolution.config.get("strides", 1), rank),
        "dilation": ints(convolution.config.get("dilation_rate", 1), rank),
        "groups": inputs,
        "bias": False,
        **padding,
    }
    second = _pointwise(middle, outputs, convolution.config.get("use_bias", True), rank)
    return (*before, *(LayerSpec(kind=f"torch.nn.Conv{rank}d", config=config) for config in (first, second)))


def _pointwise(inputs: int, outputs: int, bias: bool, rank: int) -> Config:
    ones, zeros = (1,) * rank, (0,) * rank
    return {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": ones,
        "stride": ones,
        "padding": zeros,
        "dilation": ones,
        "groups": 1,
        "bias": bias,
        "padding_mode": "zeros",
    }


def _weights(config: Config, *, rank: int) -> tuple[WeightMapping, ...]:
    axes, first = _AXES[rank], config["0"]
    depthwise = Axes(f"(c m) 1 {axes} -> {axes} c m", m=first["out_channels"] // first["in_channels"])
    pointwise = Axes(f"o i {_ONES[rank]} -> {_ONES[rank]} i o")
    return (
        WeightMapping(torch=("0.weight",), keras=("depthwise_kernel",), transform=depthwise),
        WeightMapping(torch=("1.weight",), keras=("pointwise_kernel",), transform=pointwise),
        WeightMapping(torch=("1.bias",), keras=("bias",), transform=Same()),
    )


def _example(rank: int, sizes: tuple[int, ...], depthwise: dict[str, object], *, bias: bool) -> Example:
    first = {"in_channels": 3, "out_channels": 6, "kernel_size": (3, 2)[:rank], "groups": 3, "bias": False}
    return Example(
        config={"0": first | depthwise, "1": {"in_channels": 6, "out_channels": 5, "kernel_size": 1, "bias": bias}},
        inputs=((2, 3, *sizes[:rank]),),
    )


for _rank in (1, 2):
    _examples = (
        _example(_rank, (8, 11), {"stride": 2, "padding": (1, 1)[:_rank]}, bias=True),
        _example(_rank, (9, 8), {"kernel_size": (3, 5)[:_rank], "padding": (1, 2)[:_rank]}, bias=False),
        _example(_rank, (7, 10), {"dilation": (2, 2)[:_rank]}, bias=True),
        _example(_rank, (7, 10), {"padding": (2, 1)[:_rank], "padding_mode": "reflect"}, bias=True),
    )
    register(
        Rule(
            torch=f"torch.nn.Conv{_rank}d",
            keras=f"keras.layers.SeparableConv{_rank}D",
            torch_count=2,
            fields=_FIELDS,
            applies=partial(_is_separable, rank=_rank),
            **bound(_weights, _to_keras, _to_torch, rank=_rank),
            layout="channels",
            examples=_examples,
            train=True,
            note="The depthwise convolution must have no bias, because Keras has none between the two convolutions.",
        )
    )
