"""Rules for layers that multiply the last axis, or the channels of an image, by one matrix."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TypedDict

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, paired, require_value, shape_of
from keras3conv.rules.helpers.counterpart import counterpart_shapes
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Same, Split, Transform

GPT2_CONV1D = "transformers.pytorch_utils.Conv1D"
"""The linear layer of GPT-2, whose weight has the shape (in, out) as in Keras."""

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


def _dense_to_keras(config: Config) -> LayerSpecs:
    return (_dense(config["out_features"], config["bias"]),)


def _dense(units: int, bias: bool) -> LayerSpec:
    return LayerSpec(kind="keras.layers.Dense", config={"units": units, "use_bias": bias})


def _has_bias(layer: LayerSpec) -> bool:
    return bool(layer.config.get("use_bias", True))


def _dense_to_torch(layers: LayerSpecs, *, make: Callable[[int, int, bool], LayerSpec]) -> LayerSpecs:
    inputs, outputs = shape_of(last(layers), "kernel")
    return (make(inputs, outputs, _has_bias(last(layers))),)


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
        to_keras=_dense_to_keras,
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
        to_keras=lambda config: (_dense(config["nf"], True),),
        to_torch=partial(_dense_to_torch, make=gpt2_conv1d),
        examples=_GPT2_CONV1D_TO_DENSE_EXAMPLES,
        train=True,
        note="The weight has the shape (in, out) on both sides.",
    )
)


# Query, key and value packed in one torch layer, three layers in Keras.
def thirds(outputs: int) -> tuple[int, int, int]:
    """Return the sizes of query, key and value in a packed layer with this many outputs: a third each.

    Raises:
        RuleError: The number of outputs is not divisible by 3.
    """
    if outputs % 3:
        raise RuleError(
            f"a layer with {outputs} outputs cannot be split into query, key and value of equal size: {outputs} is "
            "not divisible by 3"
            "; pair it with a single Keras layer"
        )
    return (outputs // 3,) * 3


def _dense_sizes(config: Config, outputs: int) -> tuple[int, ...]:
    shapes = counterpart_shapes(config, "kernel", 3)
    return thirds(outputs) if shapes is None else tuple(shape[1] for shape in shapes)


def packed_weights(axis: int, sizes: tuple[int, ...], kernel: Transform, bias: Transform) -> tuple[WeightMapping, ...]:
    """Return the mappings that split a packed weight and bias into query, key and value, and transform each part.

    Args:
        axis: The axis of the outputs in the packed weight.
        sizes: The numbers of outputs of query, key and value.
        kernel: The transform of each part of the weight to a Keras kernel.
        bias: The transform of each part of the bias.
    """
    return (
        WeightMapping(torch=("weight",), keras=_numbered("kernel"), transform=Chain(Split(axis, sizes), Each(kernel))),
        WeightMapping(torch=("bias",), keras=_numbered("bias"), transform=Chain(Split(0, sizes), Each(bias))),
    )


def _numbered(role: str) -> tuple[str, ...]:
    return tuple(f"{place}/{role}" for place in range(3))


def _packed_dense_to_torch(layers: LayerSpecs, *, make: Callable[[int, int, bool], LayerSpec]) -> LayerSpecs:
    kernels = [shape_of(layer, "kernel") for layer in layers]
    return (packed([(kernel[0], kernel[-1]) for kernel in kernels], [_has_bias(layer) for layer in layers], make),)


def _packed_linear_weights(config: Config) -> tuple[WeightMapping, ...]:
    return packed_weights(0, _dense_sizes(config, config["out_features"]), Axes("o i -> i o"), Same())


def _packed_linear_to_keras(config: Config) -> LayerSpecs:
    return tuple(_dense(size, config["bias"]) for size in _dense_sizes(config, config["out_features"]))


def packed(sizes: list[tuple[int, int]], biases: list[bool], make: Callable[[int, int, bool], LayerSpec]) -> LayerSpec:
    """Return the specification of one torch layer that computes query, key and value together.

    Args:
        sizes: The numbers of inputs and outputs of query, key and value.
        biases: Whether each of them has a bias.
        make: Returns the specification of a torch layer from its inputs, its outputs, and whether it has a bias.

    Raises:
        RuleError: There are not three layers, or they differ in their number of inputs, or only some have a bias.
    """
    if len(sizes) != 3 or len({inputs for inputs, _ in sizes}) > 1 or len(set(biases)) > 1:
        raise RuleError(
            f"the layers with (inputs, outputs) {sizes} and bias {biases} cannot be packed into one torch layer, "
            "which needs three layers with equal inputs and bias"
            ": use one torch layer for each"
        )
    return make(sizes[0][0], sum(outputs for _, outputs in sizes), biases[0])


def packed_examples(*configs: Config) -> tuple[Example, ...]:
    """Return two examples with which the rules for packed layers are tested, one for each of two configurations.

    Args:
        configs: The constructor arguments of two packed torch layers: the first has 5 inputs and is tested on (batch,
            steps, features), the second has 6 and is tested on (batch, features).
    """
    return tuple(
        Example(config=config, inputs=(shape,)) for config, shape in zip(configs, ((2, 3, 5), (4, 6)), strict=True)
    )


LINEAR_PACKED = packed_examples(
    {"in_features": 5, "out_features": 12}, {"in_features": 6, "out_features": 18, "bias": False}
)
CONV1D_PACKED = packed_examples({"nf": 12, "nx": 5}, {"nf": 18, "nx": 6})


class _Parallel(TypedDict):
    keras_count: int
    parallel: bool
    train: bool
    note: str


QUERY_KEY_VALUE: _Parallel = {
    "keras_count": 3,
    "parallel": True,
    "train": True,
    "note": "Query, key and value of one size, unless the Keras layers have other sizes (grouped queries).",
}
"""The arguments of `Rule` that all rules for one packed torch layer and three Keras layers have in common."""


register(
    Rule(
        torch="torch.nn.Linear",
        keras="keras.layers.Dense",
        **QUERY_KEY_VALUE,
        fields=_LINEAR_FIELDS,
        weights=_packed_linear_weights,
        to_keras=_packed_linear_to_keras,
        to_torch=partial(_packed_dense_to_torch, make=linear),
        examples=LINEAR_PACKED,
    )
)

register(
    Rule(
        torch=GPT2_CONV1D,
        keras="keras.layers.Dense",
        **QUERY_KEY_VALUE,
        fields=paired("nx", nf="units"),
        weights=lambda config: packed_weights(1, _dense_sizes(config, config["nf"]), Same(), Same()),
        to_keras=lambda config: tuple(_dense(size, True) for size in _dense_sizes(config, config["nf"])),
        to_torch=partial(_packed_dense_to_torch, make=gpt2_conv1d),
        examples=CONV1D_PACKED,
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
    return (_dense(config["out_channels"], config["bias"]),)


def _pointwise_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    inputs, outputs = shape_of(last(layers), "kernel")
    settings = {name: (size,) * rank for name, size in {"kernel_size": 1, **_POINTWISE}.items()}
    config = {
        **settings,
        "in_channels": inputs,
        "out_channels": outputs,
        "groups": 1,
        "bias": _has_bias(last(layers)),
        "padding_mode": "zeros",
    }
    return (LayerSpec(kind=f"torch.nn.Conv{rank}d", config=config),)


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
    return (linear(inputs, outputs, _has_bias(convolution)),)


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
