"""Rules for layers that multiply the last axis, or the channels of an image, by one matrix."""

from collections.abc import Callable
from functools import partial
from math import prod

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, paired, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same, Transform

GPT2_CONV1D = "transformers.pytorch_utils.Conv1D"
"""The linear layer of GPT-2, whose weight has the shape (in, out) as in Keras."""

Make = Callable[[int, int, bool], LayerSpec]
"""A function that returns a torch layer from its inputs, its outputs, and whether it has a bias."""

_LINEAR_FIELDS = paired("in_features", out_features="units", bias="use_bias")


def bias_mapping(transform: Transform) -> WeightMapping:
    """Return the mapping from the torch tensor "bias" to the Keras variable "bias", with the given transform."""
    return WeightMapping(torch=("bias",), keras=("bias",), transform=transform)


def kernel_mapping(transform: Transform) -> WeightMapping:
    """Return the mapping from the torch tensor "weight" to the Keras variable "kernel", with the given transform."""
    return WeightMapping(torch=("weight",), keras=("kernel",), transform=transform)


def linear(inputs: int, outputs: int, bias: bool) -> LayerSpec:
    """Return the specification of a torch Linear with these numbers of inputs and outputs, with or without a bias."""
    return LayerSpec(
        kind="torch.nn.Linear", config={"in_features": inputs, "out_features": outputs, "bias": bool(bias)}
    )


def gpt2_conv1d(inputs: int, outputs: int, bias: bool) -> LayerSpec:
    """Return the specification of a Conv1D of GPT-2, a Linear with a transposed weight.

    Args:
        inputs: The number of inputs.
        outputs: The number of outputs.
        bias: True; a Conv1D always has a bias, so False raises `RuleError`.
    """
    require_value("keras.layers.Dense", "use_bias", bool(bias), True)
    return LayerSpec(kind=GPT2_CONV1D, config={"nf": outputs, "nx": inputs})


def dense(units: int, bias: bool) -> LayerSpec:
    """Return the specification of a Keras Dense with this number of outputs, with or without a bias."""
    return LayerSpec(kind="keras.layers.Dense", config={"units": units, "use_bias": bias})


def has_bias(layer: LayerSpec) -> bool:
    """Return whether a Keras layer has a bias."""
    return bool(layer.config.get("use_bias", True))


def _dense_to_torch(layers: LayerSpecs, *, make: Make) -> LayerSpecs:
    inputs, outputs = shape_of(last(layers), "kernel")
    return (make(inputs, outputs, has_bias(last(layers))),)


def _dense_weights(config: Config) -> tuple[WeightMapping, ...]:
    """Return the mappings of weight and bias from a Linear to a Dense.

    If the input is a flattened image, torch has flattened (c, h, w) and Keras (h, w, c), so the kernel's rows are
    permuted.

    Args:
        config: The configuration of the Linear; the shape (c, h, w) is under "flattened".
    """
    channels, *spatial = config.get("flattened") or (1,)
    kernel = Axes("o i -> i o")
    if channels > 1 and prod(spatial) > 1:
        kernel = Axes("o (c s) -> (s c) o", c=channels, s=prod(spatial))
    return kernel_mapping(kernel), bias_mapping(Same())


_LINEAR_TO_DENSE_EXAMPLES = (
    Example(config={"in_features": 5, "out_features": 7}, inputs=((3, 5),)),
    Example(config={"in_features": 5, "out_features": 7, "bias": False}, inputs=((2, 3, 5),)),
    Example(config={"in_features": 6, "out_features": 6}, inputs=((2, 3, 4, 6),)),
)
DENSE = register(
    Rule(
        torch="torch.nn.Linear",
        keras="keras.layers.Dense",
        fields=_LINEAR_FIELDS,
        weights=_dense_weights,
        to_keras=lambda config: (dense(config["out_features"], config["bias"]),),
        to_torch=partial(_dense_to_torch, make=linear),
        examples=_LINEAR_TO_DENSE_EXAMPLES,
        train=True,
    )
)


_GPT2_CONV1D_TO_DENSE_EXAMPLES = (
    Example(config={"nf": 7, "nx": 5}, inputs=((2, 3, 5),)),
    Example(config={"nf": 6, "nx": 6}, inputs=((4, 6),)),
)
register(
    Rule(
        torch=GPT2_CONV1D,
        keras="keras.layers.Dense",
        fields=paired("nx", nf="units"),
        weights=lambda config: (kernel_mapping(Same()), bias_mapping(Same())),
        to_keras=lambda config: (dense(config["nf"], True),),
        to_torch=partial(_dense_to_torch, make=gpt2_conv1d),
        examples=_GPT2_CONV1D_TO_DENSE_EXAMPLES,
        train=True,
        note="The weight has the shape (in, out) on both sides.",
    )
)


# A convolution with a kernel of one pixel multiplies the channels by a matrix.
_SPATIAL = {1: "1", 2: "1 1", 3: "1 1 1"}
_POINTWISE = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
CONV_FIELDS = paired("in_channels", "kernel_size", *_POINTWISE, "padding_mode", out_channels="units", bias="use_bias")


def _is_pointwise(config: Config, *, rank: int) -> bool:
    sizes = {"kernel_size": 1, **_POINTWISE}
    plain = not isinstance(config["padding"], str) and config["padding_mode"] == "zeros"
    return plain and all(ints(config[name], rank) == (size,) * rank for name, size in sizes.items())


def _pointwise_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    if not _is_pointwise(config, rank=rank):
        raise RuleError(
            f"Conv{rank}d can become Dense only with kernel size 1 and without stride, padding and groups"
            ": pair it with a Keras convolution"
        )
    return (dense(config["out_channels"], config["bias"]),)


def _pointwise_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    return (patchwise_convolution(last(layers), (1,) * rank),)


def patchwise_convolution(layer: LayerSpec, size: tuple[int, ...]) -> LayerSpec:
    """Return the torch convolution that computes a Dense on each patch of an image; the patches do not overlap.

    Args:
        layer: The Dense, whose inputs are the values of a patch.
        size: The size of a patch along each axis.
    """
    inputs, outputs = shape_of(layer, "kernel")
    config = {
        "in_channels": inputs // prod(size),
        "out_channels": outputs,
        "kernel_size": size,
        "stride": size,
        "padding": (0,) * len(size),
        "dilation": (1,) * len(size),
        "groups": 1,
        "bias": has_bias(layer),
        "padding_mode": "zeros",
    }
    return LayerSpec(kind=f"torch.nn.Conv{len(size)}d", config=config)


def _pixel_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    keras = {"filters": config["out_features"], "kernel_size": (1,) * rank, "use_bias": config["bias"]}
    return (LayerSpec(kind=f"keras.layers.Conv{rank}D", config=keras),)


def _pixel_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    convolution = last(layers)
    *kernel_size, inputs, outputs = shape_of(convolution, "kernel")
    given = {"kernel_size": kernel_size, "strides": convolution.config.get("strides", 1)}
    for name, value in {**given, "groups": convolution.config.get("groups", 1)}.items():
        require_value(convolution.kind, name, ints(value, rank), (1,) * rank)
    require_value(convolution.kind, "data_format", convolution.config.get("data_format"), None, "channels_last")
    return (linear(inputs, outputs, has_bias(convolution)),)


def _pixel_weights(config: Config, *, pattern: str) -> tuple[WeightMapping, ...]:
    return kernel_mapping(Axes(pattern)), bias_mapping(Same())


for _rank in (1, 2, 3):
    _ones, _odd, _even = _SPATIAL[_rank], (7, 4, 3)[:_rank], (4, 7, 5)[:_rank]
    _examples = (
        Example(config={"in_channels": 5, "out_channels": 6, "kernel_size": 1}, inputs=((2, 5, *_odd),)),
        Example(
            config={"in_channels": 6, "out_channels": 6, "kernel_size": 1, "bias": False},
            inputs=((3, 6, *_even),),
        ),
    )
    register(
        Rule(
            torch=f"torch.nn.Conv{_rank}d",
            keras="keras.layers.Dense",
            fields=CONV_FIELDS,
            applies=partial(_is_pointwise, rank=_rank),
            weights=partial(_pixel_weights, pattern=f"o i {_ones} -> i o"),
            to_keras=partial(_pointwise_to_keras, rank=_rank),
            to_torch=partial(_pointwise_to_torch, rank=_rank),
            layout="channels",
            examples=_examples,
            train=True,
        )
    )
    _examples = (
        Example(config={"in_features": 5, "out_features": 6}, inputs=((2, *_odd, 5),)),
        Example(config={"in_features": 6, "out_features": 6, "bias": False}, inputs=((3, *_even, 6),)),
    )
    register(
        Rule(
            torch="torch.nn.Linear",
            keras=f"keras.layers.Conv{_rank}D",
            fields={**_LINEAR_FIELDS, "out_features": "filters"},
            weights=partial(_pixel_weights, pattern=f"o i -> {_ones} i o"),
            to_keras=partial(_pixel_to_keras, rank=_rank),
            to_torch=partial(_pixel_to_torch, rank=_rank),
            examples=_examples,
            train=True,
            note="A Linear over the channels of an image that torch stores in Keras' layout.",
        )
    )
