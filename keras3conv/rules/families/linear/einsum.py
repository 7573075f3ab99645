"""Rules for EinsumDense: a matrix product that also splits and merges axes, as attention does with its heads."""

from functools import partial

import numpy as np

from keras3conv.errors import RuleError
from keras3conv.rules.families.linear.dense import (
    GPT2_CONV1D,
    Make,
    bias_mapping,
    gpt2_conv1d,
    kernel_mapping,
    linear,
)
from keras3conv.rules.helpers.config import last, paired, shape_of
from keras3conv.rules.helpers.counterpart import counterpart
from keras3conv.rules.helpers.einsum import (
    Product,
    around,
    bias_pattern,
    kernel_pattern,
    read_product,
    sizes_of_product,
)
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Array, Arrays, Axes, Same, Shape

_EQUATION = "...i,io->...o"
_NOTE = "Torch merges the input axes and the output axes of the equation into one last axis each."


def einsum(outputs: int, bias: bool) -> LayerSpec:
    """Return the specification of a Keras EinsumDense layer that computes the same as a Dense layer.

    Args:
        outputs: The number of outputs.
        bias: Whether the layer has a bias.
    """
    config = {"equation": _EQUATION, "output_shape": (outputs,), "bias_axes": "o" if bias else None}
    return LayerSpec(kind="keras.layers.EinsumDense", config=config)


def _weights(config: Config, *, outputs_first: bool) -> tuple[WeightMapping, ...]:
    """Return the mappings of weight and bias from a Linear to an EinsumDense, by its equation.

    If the EinsumDense is not known yet (a conversion from torch creates it), the equation is that of a Dense.

    Args:
        config: The configuration of the torch layer, with the Keras layer under "keras".
        outputs_first: Whether torch's weight has the shape (out, in), as in a Linear; else (in, out).
    """
    keras = counterpart(config)
    if keras is None:
        plain = Axes("o i -> i o") if outputs_first else Same()
        return kernel_mapping(plain), bias_mapping(Same())
    product, shape = read_product(keras.config), shape_of(keras, "kernel")
    bias = bias_pattern(product, shape, keras.shapes.get("bias"))
    return kernel_mapping(kernel_pattern(product, shape, outputs_first=outputs_first)), bias_mapping(bias)


def _to_torch(layers: LayerSpecs, *, make: Make, views: bool = False) -> LayerSpecs:
    product, shape = read_product(last(layers).config), shape_of(last(layers), "kernel")
    owner = make(*sizes_of_product(product, shape), product.bias is not None)
    return around(product, shape, owner, views=views)


def _output(outputs: Arrays, torch_config: Config, keras_config: Config, keras_shape: Shape) -> Array:
    """Return the output that an EinsumDense is expected to have: a Linear's output whose last axis is split and moved.

    Args:
        outputs: The outputs of the torch layer; only the first is used.
        torch_config: The configuration of the torch layer; not used.
        keras_config: The configuration of the EinsumDense, with its equation.
        keras_shape: The shape of its output, which has the sizes of the axes.
    """
    product = read_product(keras_config)
    places = product.places(product.outputs, product.output_axes)
    split = outputs[0].reshape(*outputs[0].shape[:-1], *(keras_shape[place] for place in places))
    return np.moveaxis(split, tuple(range(-len(places), 0)), places)


_LINEAR_TO_EINSUM_DENSE_EXAMPLES = (
    Example(config={"in_features": 5, "out_features": 7}, inputs=((2, 3, 5),)),
    Example(config={"in_features": 6, "out_features": 6, "bias": False}, inputs=((4, 6),)),
)
register(
    Rule(
        torch="torch.nn.Linear",
        keras="keras.layers.EinsumDense",
        fields=paired("in_features", out_features="output_shape", bias="bias_axes"),
        weights=partial(_weights, outputs_first=True),
        to_keras=lambda config: (einsum(config["out_features"], config["bias"]),),
        to_torch=partial(_to_torch, make=linear),
        output=_output,
        examples=_LINEAR_TO_EINSUM_DENSE_EXAMPLES,
        train=True,
        note=_NOTE,
    )
)

_GPT2_CONV1D_TO_EINSUM_DENSE_EXAMPLES = (
    Example(config={"nf": 7, "nx": 5}, inputs=((2, 3, 5),)),
    Example(config={"nf": 6, "nx": 6}, inputs=((4, 6),)),
)
register(
    Rule(
        torch=GPT2_CONV1D,
        keras="keras.layers.EinsumDense",
        fields=paired("nx", nf="output_shape"),
        weights=partial(_weights, outputs_first=False),
        to_keras=lambda config: (einsum(config["nf"], True),),
        to_torch=partial(_to_torch, make=gpt2_conv1d, views=True),
        output=_output,
        examples=_GPT2_CONV1D_TO_EINSUM_DENSE_EXAMPLES,
        train=True,
        note=_NOTE,
    )
)


# A product with two inputs: Keras takes their outer product.
_BILINEAR = "...ij,ijo->...o"
_BILINEAR_FIELDS = ("in1_features", "in2_features", "out_features", "bias")


def _bilinear_to_keras(config: Config) -> LayerSpecs:
    keras = {
        "equation": _BILINEAR,
        "output_shape": (config["out_features"],),
        "bias_axes": "o" if config["bias"] else None,
    }
    return (LayerSpec(kind="keras.layers.EinsumDense", config=keras),)


def _bilinear_product(layer: LayerSpec) -> Product:
    product = read_product(layer.config)
    if len(product.inputs) != 2 or len(product.outputs) != 1 or not product.input_axes.endswith(product.inputs):
        raise RuleError(
            f"EinsumDense({layer.config['equation']!r}) cannot become Bilinear, which has two inputs"
            ": pair it with a Linear"
        )
    return product


def _bilinear_to_torch(layers: LayerSpecs) -> LayerSpecs:
    product, shape = _bilinear_product(last(layers)), shape_of(last(layers), "kernel")
    sizes = dict(zip(product.kernel, shape, strict=True))
    numbers = (sizes[axis] for axis in product.inputs + product.outputs)
    config = dict(zip(_BILINEAR_FIELDS, (*numbers, product.bias is not None), strict=True))
    return (LayerSpec(kind="torch.nn.Bilinear", config=config),)


def _bilinear_weights(config: Config) -> tuple[WeightMapping, ...]:
    keras = counterpart(config)
    if keras is None:
        return kernel_mapping(Axes("o i j -> i j o")), bias_mapping(Same())
    product = _bilinear_product(keras)
    names = dict(zip(product.inputs + product.outputs, "ijo", strict=True))
    kernel = " ".join(names[axis] for axis in product.kernel)
    return kernel_mapping(Axes(f"o i j -> {kernel}")), bias_mapping(Same())


_BILINEAR_TO_EINSUM_DENSE_EXAMPLES = (
    Example(config={"in1_features": 5, "in2_features": 3, "out_features": 7}, inputs=((2, 4, 5), (2, 4, 3))),
    Example(
        config={"in1_features": 4, "in2_features": 4, "out_features": 4, "bias": False},
        inputs=((3, 4), (3, 4)),
    ),
)
register(
    Rule(
        torch="torch.nn.Bilinear",
        keras="keras.layers.EinsumDense",
        fields=paired("in1_features", "in2_features", out_features="output_shape", bias="bias_axes"),
        weights=_bilinear_weights,
        to_keras=_bilinear_to_keras,
        to_torch=_bilinear_to_torch,
        keras_arguments=lambda given: (given[0][..., :, None] * given[1][..., None, :],),
        examples=_BILINEAR_TO_EINSUM_DENSE_EXAMPLES,
        train=True,
        note="Keras takes the outer product of the two inputs.",
    )
)
