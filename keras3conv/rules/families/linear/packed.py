"""Rules for query, key and value packed in one torch layer, three layers in Keras."""

from typing import NamedTuple

from keras3conv.errors import RuleError
from keras3conv.rules.families.linear.dense import GPT2_CONV1D, Make, dense, gpt2_conv1d, has_bias, linear
from keras3conv.rules.families.linear.einsum import einsum
from keras3conv.rules.helpers.config import bound, shape_of
from keras3conv.rules.helpers.counterpart import counterpart, counterpart_shapes
from keras3conv.rules.helpers.einsum import (
    bias_pattern,
    kernel_pattern,
    read_product,
    sizes_of_product,
    with_usual_letters,
)
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Same, Split, Transform


class _Torch(NamedTuple):
    """A torch layer that computes query, key and value together.

    Attributes:
        make: Returns its specification.
        inputs: The name of its argument for the number of inputs.
        outputs: The name of its argument for the number of outputs.
        axis: The axis of the outputs in its weight.
    """

    make: Make
    inputs: str
    outputs: str
    axis: int

    @property
    def kernel(self) -> Transform:
        """The transform of its weight to the kernel of a Dense."""
        return Same() if self.axis else Axes("o i -> i o")


_TORCH = {
    "torch.nn.Linear": _Torch(linear, "in_features", "out_features", 0),
    GPT2_CONV1D: _Torch(gpt2_conv1d, "nx", "nf", 1),
}


def _thirds(outputs: int) -> tuple[int, int, int]:
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


def _mappings(axis: int, sizes: tuple[int, ...], kernel: Transform, bias: Transform) -> tuple[WeightMapping, ...]:
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


def _packed(sizes: list[tuple[int, int]], biases: list[bool], make: Make) -> LayerSpecs:
    """Return, in a tuple, the specification of one torch layer that computes query, key and value together.

    Args:
        sizes: The numbers of inputs and outputs of query, key and value.
        biases: Whether each of them has a bias.
        make: Returns the specification of the torch layer.

    Raises:
        RuleError: There are not three layers, or they differ in their number of inputs, or only some have a bias.
    """
    if len(sizes) != 3 or len({inputs for inputs, _ in sizes}) > 1 or len(set(biases)) > 1:
        raise RuleError(
            f"the layers with (inputs, outputs) {sizes} and bias {biases} cannot be packed into one torch layer, "
            "which needs three layers with equal inputs and bias"
            ": use one torch layer for each"
        )
    return (make(sizes[0][0], sum(outputs for _, outputs in sizes), biases[0]),)


# Three Dense
def _dense_sizes(config: Config, layer: _Torch) -> tuple[int, ...]:
    shapes = counterpart_shapes(config, "kernel", 3)
    return _thirds(config[layer.outputs]) if shapes is None else tuple(shape[1] for shape in shapes)


def _dense_weights(config: Config, *, layer: _Torch) -> tuple[WeightMapping, ...]:
    return _mappings(layer.axis, _dense_sizes(config, layer), layer.kernel, Same())


def _dense_to_keras(config: Config, *, layer: _Torch) -> LayerSpecs:
    return tuple(dense(size, config.get("bias", True)) for size in _dense_sizes(config, layer))


def _dense_to_torch(layers: LayerSpecs, *, layer: _Torch) -> LayerSpecs:
    kernels = [shape_of(one, "kernel") for one in layers]
    return _packed([(kernel[0], kernel[-1]) for kernel in kernels], [has_bias(one) for one in layers], layer.make)


# Three EinsumDense
def _einsum_parts(config: Config) -> tuple[LayerSpec, ...] | None:
    """Return the three Keras layers (query, key, value) that are paired with one packed torch layer.

    Return None if no Keras layers are paired with it yet. Their tensors are named "kernel" and "bias", without the
    index that they have in the combined layer ("0/kernel").

    Args:
        config: The configuration of the torch layer, with the three Keras layers, combined into one, under "keras".
    """
    keras, shapes = counterpart(config), counterpart_shapes(config, "kernel", 3)
    if keras is None or shapes is None:
        return None
    parts = []
    for place, shape in enumerate(shapes):
        own = {"kernel": shape}
        if (role := f"{place}/bias") in keras.shapes:
            own["bias"] = keras.shapes[role]
        parts.append(LayerSpec(kind=keras.kind, config=keras.config[str(place)], shapes=own))
    return tuple(parts)


def _einsum_weights(config: Config, *, layer: _Torch) -> tuple[WeightMapping, ...]:
    parts = _einsum_parts(config)
    if parts is None:
        return _mappings(layer.axis, _thirds(config[layer.outputs]), layer.kernel, Same())
    pairs = [(with_usual_letters(read_product(part.config)), shape_of(part, "kernel")) for part in parts]
    biases = [bias_pattern(*pair, part.shapes.get("bias")) for pair, part in zip(pairs, parts, strict=True)]
    return _mappings(
        layer.axis,
        tuple(sizes_of_product(*pair)[1] for pair in pairs),
        _only([kernel_pattern(*pair, outputs_first=layer.axis == 0) for pair in pairs]),
        _only(biases),
    )


def _only(patterns: list[Axes]) -> Axes:
    """Return the transform that query, key and value have in common; raise `RuleError` if they have different ones."""
    first, *others = patterns
    if any(other != first for other in others):
        raise RuleError(
            "query, key and value cannot share one torch layer, because their kernels need different transforms: "
            f"{', '.join(map(repr, patterns))}"
            "; use one torch layer for each"
        )
    return first


def _einsum_to_keras(config: Config, *, layer: _Torch) -> LayerSpecs:
    return tuple(einsum(size, config.get("bias", True)) for size in _thirds(config[layer.outputs]))


def _einsum_to_torch(layers: LayerSpecs, *, layer: _Torch) -> LayerSpecs:
    products = [read_product(one.config) for one in layers]
    shapes = [shape_of(one, "kernel") for one in layers]
    sizes = [sizes_of_product(*pair) for pair in zip(products, shapes, strict=True)]
    return _packed(sizes, [product.bias is not None for product in products], layer.make)


# A Conv1D of GPT-2 has no option for its bias.
for _keras, _functions, _units, _bias in (
    ("Dense", (_dense_weights, _dense_to_keras, _dense_to_torch), "units", "use_bias"),
    ("EinsumDense", (_einsum_weights, _einsum_to_keras, _einsum_to_torch), "output_shape", "bias_axes"),
):
    for _kind, _layer in _TORCH.items():
        _has_option = _kind != GPT2_CONV1D
        _examples = (
            Example(config={_layer.inputs: 5, _layer.outputs: 12}, inputs=((2, 3, 5),)),
            Example(
                config={_layer.inputs: 6, _layer.outputs: 18, **({"bias": False} if _has_option else {})},
                inputs=((4, 6),),
            ),
        )
        register(
            Rule(
                torch=_kind,
                keras=f"keras.layers.{_keras}",
                keras_count=3,
                parallel=True,
                fields={_layer.inputs: "", _layer.outputs: _units, **({"bias": _bias} if _has_option else {})},
                **bound(*_functions, layer=_layer),
                examples=_examples,
                train=True,
                note="Query, key and value of one size, unless the Keras layers have other sizes (grouped queries).",
            )
        )
