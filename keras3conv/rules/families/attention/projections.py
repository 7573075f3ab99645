"""Rules that pair the Linear projections of an attention in torch with one attention layer of Keras.

Most torch models have four Linear (query, key, value, output), or two, of which the first packs query, key and value.
The rest of the attention is code without weights. The number of heads is known only from the Keras layer.
"""

from functools import partial
from math import prod
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.families.attention.grouped_query import GROUPED, MULTI_HEAD
from keras3conv.rules.families.linear.dense import GPT2_CONV1D, Make, gpt2_conv1d, linear
from keras3conv.rules.helpers.config import last, require_value, shape_of
from keras3conv.rules.helpers.counterpart import counterpart
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Same, Shape, Split, Transform

_LINEAR = "torch.nn.Linear"
_PARTS = ("query", "key", "value")
_KERNELS = tuple(f"{part}_dense/kernel" for part in _PARTS)
_BIASES = tuple(f"{part}_dense/bias" for part in _PARTS)


def _attention(config: Config) -> LayerSpec:
    """Return the Keras attention layer that is paired with the torch projections; raise `RuleError` if none is."""
    keras = counterpart(config)
    if keras is None:
        raise RuleError(
            "the number of heads is unknown, because no Keras attention layer is paired with these projections: pair "
            "them with a Keras attention by hints=... of align"
        )
    return keras


def _shapes(keras: LayerSpec) -> tuple[Shape, Shape, Shape, Shape]:
    """Return the shapes of the four kernels of a Keras attention: query, key, value and output.

    The first three are (features, heads, size of a head); the output is (heads, size of a head, features).
    """
    query, key, value = (shape_of(keras, role) for role in _KERNELS)
    return query, key, value, shape_of(keras, "output_dense/kernel")


def _mapping(torch: str, keras: tuple[str, ...], transform: Transform) -> WeightMapping:
    return WeightMapping(torch=(torch,), keras=keras, transform=transform)


def _separate_weights(config: Config) -> tuple[WeightMapping, ...]:
    *projections, (_, size, _) = _shapes(_attention(config))
    mappings = []
    for place, shape in enumerate(projections):
        kernel, bias = Axes("(h d) e -> e h d", d=shape[2]), Axes("(h d) -> h d", d=shape[2])
        mappings.append(_mapping(f"{place}.weight", (_KERNELS[place],), kernel))
        mappings.append(_mapping(f"{place}.bias", (_BIASES[place],), bias))
    output = _mapping("3.weight", ("output_dense/kernel",), Axes("o (h d) -> h d o", d=size))
    return (*mappings, output, _mapping("3.bias", ("output_dense/bias",), Same()))


def _packed_weights(config: Config, *, outputs_first: bool) -> tuple[WeightMapping, ...]:
    query, key, value, _ = _shapes(_attention(config))
    size = query[2]
    if value[2] != size:
        raise RuleError(
            f"the attention layer has key_dim={size} and value_dim={value[2]}, but one Linear for query, key and "
            "value needs equal sizes"
            ": use one Linear for each"
        )
    sizes = tuple(heads * size for _, heads, _ in (query, key, value))
    kernel, output = Axes("(h d) e -> e h d", d=size), Axes("o (h d) -> h d o", d=size)
    if not outputs_first:
        kernel, output = Axes("e (h d) -> e h d", d=size), Axes("(h d) o -> h d o", d=size)
    cut = Split(0 if outputs_first else 1, sizes)
    return (
        _mapping("0.weight", _KERNELS, Chain(cut, Each(kernel))),
        _mapping("0.bias", _BIASES, Chain(Split(0, sizes), Each(Axes("(h d) -> h d", d=size)))),
        _mapping("1.weight", ("output_dense/kernel",), output),
        _mapping("1.bias", ("output_dense/bias",), Same()),
    )


def _to_keras(config: Config, *, count: int) -> LayerSpecs:
    keras = _attention(config)
    query, key, value, output = _shapes(keras)
    biases = {config[str(place)].get("bias", True) for place in range(count)}
    if len(biases) > 1:
        raise RuleError(
            "some of the attention's projections have a bias and others have none, but Keras has one use_bias for "
            "all of them"
            ": give each projection a bias, of zeros if it has none"
        )
    made: dict[str, Any] = {"num_heads": query[1], "key_dim": query[2], "value_dim": value[2]}
    made["output_shape"] = output[2]
    if keras.kind == GROUPED:
        made = {"num_query_heads": query[1], "num_key_value_heads": key[1], "head_dim": query[2]}
    return (LayerSpec(kind=keras.kind, config={**made, "use_bias": biases.pop()}),)


def _to_torch(layers: LayerSpecs, *, count: int, make: Make) -> LayerSpecs:
    spec = last(layers)
    require_value(spec.kind, "use_gate", spec.config.get("use_gate", False), False)
    *inputs, output = _shapes(spec)
    bias = spec.config.get("use_bias", True)
    sizes = [(shape[0], prod(shape[1:])) for shape in inputs]
    if count == 2:
        if len({given for given, _ in sizes}) > 1:
            raise RuleError(
                "query, key and value cannot be packed into one Linear, because their numbers of inputs differ: "
                f"(inputs, outputs) are {sizes}"
                "; use one Linear for each"
            )
        sizes = [(sizes[0][0], sum(made for _, made in sizes))]
    return tuple(make(*size, bias) for size in (*sizes, (prod(output[:-1]), output[-1])))


def _keras_layer(kind: str, *shapes: Shape) -> LayerSpec:
    """Return a Keras attention of a class, with given kernel shapes, for an example that tests the rules.

    Args:
        kind: The class of the attention.
        *shapes: The shapes of the kernels of query, key, value and output.
    """
    return LayerSpec(kind=kind, shapes=dict(zip((*_KERNELS, "output_dense/kernel"), shapes, strict=True)))


def _example(make: Make, keras: LayerSpec, *, count: int, bias: bool = True) -> Example:
    """Return an example, to test a rule, of torch projections that correspond to a Keras attention.

    Args:
        make: Makes a torch projection from its number of inputs, its number of outputs, and whether it has a bias.
        keras: The Keras attention, with the shapes of its kernels.
        count: The number of projections: 4, or 2 of which the first packs query, key and value.
        bias: Whether the projections have biases.
    """
    query, key, value, _ = _shapes(keras)
    with_bias = LayerSpec(kind=keras.kind, config={"use_bias": bias}, shapes=keras.shapes)
    specs = _to_torch((with_bias,), count=count, make=make)
    return Example(
        config={str(place): spec.config for place, spec in enumerate(specs)},
        inputs=((2, 4, query[0]), (2, 3, value[0]), (2, 3, key[0]))[: 1 if count == 2 else 3],
        keras=keras,
    )


def _twice(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a Keras attention for self-attention: the same input as query and as value."""
    return arrays[0], arrays[0]


_SEPARATE = {
    MULTI_HEAD: (
        _keras_layer(MULTI_HEAD, (6, 2, 3), (5, 2, 3), (7, 2, 3), (2, 3, 8)),
        _keras_layer(MULTI_HEAD, (4, 3, 2), (4, 3, 2), (4, 3, 2), (3, 2, 4)),
    ),
    GROUPED: (
        _keras_layer(GROUPED, (6, 4, 3), (5, 2, 3), (7, 2, 3), (4, 3, 6)),
        _keras_layer(GROUPED, (8, 4, 2), (8, 1, 2), (8, 1, 2), (4, 2, 8)),
    ),
}
_PACKED = {
    MULTI_HEAD: _SEPARATE[MULTI_HEAD][1:] * 2,
    GROUPED: (
        _keras_layer(GROUPED, (6, 4, 3), (6, 2, 3), (6, 2, 3), (4, 3, 6)),
        _keras_layer(GROUPED, (8, 4, 2), (8, 1, 2), (8, 1, 2), (4, 2, 8)),
    ),
}

_NOTE = (
    "Pair by a hint: the torch layers, joined by ' + ', with the Keras layer, which has the number of heads. "
    "The code between the torch layers (masks, rotary embeddings) is not examined."
)


def _register(torch: str, keras: str, count: int, make: Make, fields: tuple[str, ...]) -> None:
    outputs_first = torch == _LINEAR
    examples = (_SEPARATE if count == 4 else _PACKED)[keras]
    biases = (True, False) if outputs_first else (True, True)
    register(
        Rule(
            torch=torch,
            keras=keras,
            torch_count=count,
            between="the scores, their softmax, and the weighted sum of the values",
            fields=fields,
            weights=_separate_weights if count == 4 else partial(_packed_weights, outputs_first=outputs_first),
            to_keras=partial(_to_keras, count=count),
            to_torch=partial(_to_torch, count=count, make=make),
            keras_arguments=tuple if count == 4 else _twice,
            examples=tuple(
                _example(make, layer, count=count, bias=bias) for layer, bias in zip(examples, biases, strict=True)
            ),
            train=True,
            note=_NOTE,
        )
    )


for _keras in (MULTI_HEAD, GROUPED):
    for _count in (4, 2):
        _register(_LINEAR, _keras, _count, linear, ("in_features", "out_features", "bias"))
_register(GPT2_CONV1D, MULTI_HEAD, 2, gpt2_conv1d, ("nf", "nx"))
