"""Rules for matrix products and embeddings that depend on the configuration of the Keras layer."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch

from keras3conv.errors import RuleError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.numerics.difference import compare
from keras3conv.rules.constants import constant_buffer
from keras3conv.rules.library import find
from keras3conv.rules.rule import LayerSpec, LayerSpecs, Rule
from keras3conv.transforms import Array, Axes, from_json
from tests.support.trial_layers import make_torch, resolve
from tests.support.trials import enter_float64, probe_values, spec_of_layer, torch_tensors

LINEAR = "torch.nn.Linear <-> keras.layers.EinsumDense"
CONV1D = "transformers.pytorch_utils.Conv1D <-> keras.layers.EinsumDense"

# An equation, the shape of the output without the batch axis, the axes of the bias, and the shape of an input.
EQUATIONS: list[tuple[str, tuple[int | None, ...], str | None, tuple[int, ...]]] = [
    ("abc,cde->abde", (None, 4, 7), "de", (2, 3, 5)),
    ("abc,cde->abde", (None, 4, 7), "ed", (2, 3, 5)),
    ("abc,cde->abde", (None, 4, 7), None, (2, 3, 5)),
    ("abc,cd->abd", (None, 7), "d", (2, 3, 5)),
    ("abc,dc->abd", (None, 7), "d", (2, 3, 5)),
    ("abcd,cde->abe", (None, 7), "e", (2, 3, 4, 5)),
    ("abcd,dce->abe", (None, 7), "e", (2, 3, 4, 5)),
    ("acbd,ecd->abe", (3, 7), "e", (2, 4, 3, 5)),
    ("abc,cde->adbe", (4, 3, 6), "de", (2, 3, 5)),
    ("abc,bd->adc", (7, 5), "d", (2, 3, 5)),
    ("abc,bde->aedc", (6, 7, 5), "de", (2, 3, 5)),
    ("abcd,cdef->abfe", (None, 6, 7), "ef", (2, 3, 4, 5)),
    ("aBc,cDe->aBeD", (None, 6, 7), "De", (2, 3, 5)),
    ("...x,xy->...y", (7,), "y", (2, 3, 4, 5)),
    ("...x,xyz->...yz", (4, 7), "yz", (2, 3, 5)),
    ("...xy,yxz->...z", (7,), "z", (2, 3, 4, 5)),
    ("...xy,xz->...zy", (7, 5), "z", (2, 3, 4, 5)),
    ("ab...,bc->ac...", (7,), "c", (2, 3, 4, 5)),
    ("ab...,bcd->adc...", (6, 7), "cd", (2, 3, 4, 5)),
]


def built(equation: str, shape: tuple[int | None, ...], bias: str | None, given: tuple[int, ...]) -> Any:
    """Return an EinsumDense with probe values."""
    layer = keras.layers.EinsumDense(equation, output_shape=shape, bias_axes=bias)
    layer.build(given)
    for variable in layer.weights:
        variable.assign(probe_values(variable.name, tuple(variable.shape)))
    return layer


def run64(layer: Any, array: Array) -> Array:
    """Run a Keras layer in float64."""
    with ExitStack() as contexts:
        contexts.enter_context(keras_side.precise())
        enter_float64(contexts, (layer,))
        return np.array(keras_side.run(layer, array.astype("float64")).outputs[""])


def torch_side_of(rule: Rule, layer: Any, given: tuple[int, ...]) -> tuple[torch.nn.Sequential, LayerSpecs]:
    """Create the torch layers of a Keras layer and fill them by the inverse transforms of the rule."""
    spec = spec_of_layer(layer, (given,))
    specs = rule.to_torch((spec,))
    module = torch.nn.Sequential(*map(make_torch, specs))
    place = [part.kind for part in specs].index(rule.torch)
    view = keras_side.view(layer)
    for mapping in rule.weights({**specs[place].config, "keras": spec}):
        if set(mapping.keras) <= spec.shapes.keys():
            transform = from_json(mapping.transform.to_json())
            values = transform.inverse(tuple(map(view.read, mapping.keras)))
            assert transform.lossless
            assert transform.inverse.inverse == transform
            torch_side.write(
                module, {f"{place}.{name}": value for name, value in zip(mapping.torch, values, strict=True)}
            )
    return module, specs


@pytest.mark.parametrize("name", [LINEAR, CONV1D])
@pytest.mark.parametrize(
    ("equation", "shape", "bias", "given"), EQUATIONS, ids=[f"{row[0]} {row[2]}" for row in EQUATIONS]
)
def test_every_einsum_of_one_matrix_product_becomes_equivalent_torch_layers(
    name: str, equation: str, shape: tuple[int | None, ...], bias: str | None, given: tuple[int, ...]
) -> None:
    rule, layer = find(name), built(equation, shape, bias, given)
    if bias is None and name == CONV1D:
        with pytest.raises(RuleError, match="use_bias=False"):
            torch_side_of(rule, layer, given)
        return
    module, specs = torch_side_of(rule, layer, given)
    array = np.random.default_rng(3).uniform(-8, 8, given)
    expected = run64(layer, array)
    found = torch_side.run(module, array, float64=True)
    assert compare(found.outputs[""], expected).max_rel < 1e-12
    owner = [spec.kind for spec in specs].index(rule.torch)
    cut = torch.nn.Sequential(*[*module][: owner + 1])
    outputs = tuple(torch_side.run(cut, array, float64=True).outputs.values())
    config = keras_side.view(layer).layers[0].config or {}
    assert rule.output is not None
    assert compare(rule.output(outputs, {}, config, expected.shape), expected).max_rel < 1e-12


NO_PRODUCT: list[tuple[dict[str, Any], str]] = [
    ({"equation": "abc,bcd->abd"}, "axis b is in input, kernel and output"),
    ({"equation": "abc,cd->ad"}, "axis b is only in the input, so it is summed without weights"),
    ({"equation": "abc,cd->bad"}, "the axes ab, which the kernel lacks, become ba"),
    ({"equation": "abb,bd->ad"}, "occurs twice"),
    ({"equation": "abc,cde->abde", "bias_axes": "e"}, "exactly the output axes of the kernel"),
    ({"equation": "abc,cde->abde", "bias_axes": "bde"}, "exactly the output axes of the kernel"),
    ({"equation": "abc->ab"}, "not of the form 'input,kernel->output'"),
    ({"equation": "...x,xy->y..."}, "not of the form 'input,kernel->output'"),
    ({"equation": "ab,b->a"}, "no axis of the output"),
    ({"equation": "ab,c->abc"}, "no axis of the input"),
]


@pytest.mark.parametrize(("config", "reason"), NO_PRODUCT, ids=[str(config) for config, _ in NO_PRODUCT])
def test_an_einsum_that_is_not_a_matrix_product_is_refused_with_the_reason(config: dict[str, Any], reason: str) -> None:
    spec = LayerSpec(kind="keras.layers.EinsumDense", config=config, shapes={"kernel": (2, 3, 4)})
    with pytest.raises(RuleError, match=reason):
        find(LINEAR).to_torch((spec,))


# Grouped queries: 4 heads of queries, 2 of keys and values, each of size 3, from 5 inputs.
SIZES = (12, 6, 6)


def dense_parts(bias: bool) -> list[Any]:
    return [keras.layers.Dense(size, use_bias=bias) for size in SIZES]


def einsum_parts(bias: bool) -> list[Any]:
    axes = "hd" if bias else None
    return [keras.layers.EinsumDense("bti,ihd->bthd", (None, size // 3, 3), bias_axes=axes) for size in SIZES]


PACKED = [
    ("torch.nn.Linear <-> 3 x keras.layers.Dense", dense_parts, False),
    ("torch.nn.Linear <-> 3 x keras.layers.Dense", dense_parts, True),
    ("torch.nn.Linear <-> 3 x keras.layers.EinsumDense", einsum_parts, False),
    ("torch.nn.Linear <-> 3 x keras.layers.EinsumDense", einsum_parts, True),
    ("transformers.pytorch_utils.Conv1D <-> 3 x keras.layers.Dense", dense_parts, True),
    ("transformers.pytorch_utils.Conv1D <-> 3 x keras.layers.EinsumDense", einsum_parts, True),
]


def joined(specs: LayerSpecs) -> LayerSpec:
    """Combine several layers into one with numbered roles, as a plan does."""
    return LayerSpec(
        kind=specs[0].kind,
        config={str(place): spec.config for place, spec in enumerate(specs)},
        shapes={f"{place}/{role}": shape for place, spec in enumerate(specs) for role, shape in spec.shapes.items()},
    )


@pytest.mark.parametrize(("name", "make", "bias"), PACKED, ids=[f"{name} {bias}" for name, _, bias in PACKED])
def test_grouped_queries_take_their_sizes_from_the_keras_layers(name: str, make: Any, bias: bool) -> None:
    rule, layers, array = find(name), make(bias), np.random.default_rng(3).uniform(-8, 8, (2, 4, 5))
    for layer in layers:
        layer.build(array.shape)
    specs = tuple(spec_of_layer(layer, (array.shape,)) for layer in layers)
    (back,) = rule.to_torch(specs)
    module = make_torch(back)
    tensors = {name: probe_values(name, value.shape) for name, value in torch_tensors(module).items()}
    torch_side.write(module, tensors)
    for mapping in rule.weights({**back.config, "keras": joined(specs)}):
        if set(mapping.torch) <= tensors.keys():
            values = mapping.transform(tuple(tensors[name] for name in mapping.torch))
            for role, value in zip(mapping.keras, values, strict=True):
                place, _, variable = role.partition("/")
                getattr(layers[int(place)], variable).assign(np.array(value))
    parts = [run64(layer, array).reshape(2, 4, -1) for layer in layers]
    expected = torch_side.run(module, array, float64=True).outputs[""]
    assert compare(np.concatenate(parts, -1), expected).max_rel < 1e-12


def test_a_packed_linear_not_divisible_by_three_is_refused_without_keras_layers() -> None:
    config = {"in_features": 5, "out_features": 24 + 1, "bias": True}
    for kind in ("Dense", "EinsumDense"):
        with pytest.raises(RuleError, match="25 is not divisible by 3"):
            find(f"torch.nn.Linear <-> 3 x keras.layers.{kind}").to_keras(config)


def test_projections_with_renamed_einsum_letters_are_split_in_the_same_way() -> None:
    layers = [
        keras.layers.EinsumDense(equation, (None, size // 3, 3), bias_axes=None)
        for equation, size in zip(("bqm,muh->bquh", "bkm,mvh->bkvh", "btx,xyz->btyz"), SIZES, strict=True)
    ]
    for layer in layers:
        layer.build((2, 4, 5))
    keras_spec = joined(tuple(spec_of_layer(layer, ()) for layer in layers))
    config = {"in_features": 5, "out_features": sum(SIZES), "bias": False, "keras": keras_spec}
    weight = find("torch.nn.Linear <-> 3 x keras.layers.EinsumDense").weights(config)[0]
    assert weight.transform.shapes(((sum(SIZES), 5),)) == ((5, 4, 3), (5, 2, 3), (5, 2, 3))


def test_query_key_and_value_that_are_split_differently_are_refused() -> None:
    layers = [
        keras.layers.EinsumDense(equation, (None, 2, 3), bias_axes=None)
        for equation in ("bti,ihd->bthd", "bti,hid->bthd", "bti,ihd->bthd")
    ]
    for layer in layers:
        layer.build((2, 4, 5))
    keras_spec = joined(tuple(spec_of_layer(layer, ()) for layer in layers))
    rule = find("torch.nn.Linear <-> 3 x keras.layers.EinsumDense")
    with pytest.raises(RuleError, match="their kernels need different transforms"):
        rule.weights({"in_features": 5, "out_features": 18, "bias": False, "keras": keras_spec})


def test_a_tied_output_head_computes_the_reversed_embedding() -> None:
    rule = find("torch.nn.Embedding <-> keras.layers.ReversibleEmbedding")
    table = torch.nn.Embedding(7, 5)
    head = torch.nn.Linear(5, 7, bias=False)
    head.weight = table.weight
    (spec,) = rule.to_keras({"num_embeddings": 7, "embedding_dim": 5, "max_norm": None, "scale_grad_by_freq": False})
    layer = resolve(spec.kind)(**spec.config)
    layer.build()
    layer.embeddings.assign(table.weight.detach().numpy())
    hidden = np.random.default_rng(3).uniform(-1, 1, (2, 3, 5)).astype("float32")
    found = keras_side.to_numpy(layer(keras.ops.convert_to_tensor(hidden), reverse=True))
    assert compare(np.array(found), torch_side.run(head, hidden).outputs[""]).max_rel < 1e-6


def test_an_output_head_with_a_separate_table_is_refused() -> None:
    layer = keras.layers.ReversibleEmbedding(7, 5, tie_weights=False)
    layer.build()
    with pytest.raises(RuleError, match="tie_weights=False"):
        find("torch.nn.Embedding <-> keras.layers.ReversibleEmbedding").to_torch((spec_of_layer(layer, ()),))


def test_only_the_padding_row_is_trained_differently() -> None:
    table = torch.nn.Embedding(4, 3, padding_idx=2)
    table(torch.tensor([0, 1, 2, 3])).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.any(1).tolist() == [True, True, False, True]
    assert "padding_idx" in find("torch.nn.Embedding <-> keras.layers.Embedding").note


TABLE = {"num_embeddings": 7, "embedding_dim": 5, "padding_idx": None, "max_norm": None, "scale_grad_by_freq": False}
CONV = {
    "in_channels": 5, "out_channels": 6, "kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0),
    "dilation": (1, 1), "groups": 1, "bias": True, "padding_mode": "zeros",
}  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("torch.nn.Embedding <-> keras.layers.Embedding", TABLE | {"max_norm": 1.0}, "max_norm=1.0"),
    ("torch.nn.Embedding <-> keras.layers.Embedding", TABLE | {"scale_grad_by_freq": True}, "scale_grad_by_freq"),
    (
        "torch.nn.EmbeddingBag <-> keras.layers.Embedding",
        TABLE | {"mode": "sum", "include_last_offset": True},
        "include_last_offset=True",
    ),
    (
        "torch.nn.EmbeddingBag <-> keras.layers.Embedding",
        TABLE | {"mode": "sum", "include_last_offset": False, "padding_idx": 0},
        "padding_idx=0",
    ),
    (
        "torch.nn.Conv2d <-> keras.layers.Dense",
        CONV | {"kernel_size": (1, 3)},
        "can become Dense only with kernel size 1",
    ),
    ("torch.nn.Conv2d <-> keras.layers.Dense", CONV | {"stride": (2, 1)}, "can become Dense only with kernel size 1"),
    ("torch.nn.Conv2d <-> keras.layers.Dense", CONV | {"padding": (0, 1)}, "can become Dense only with kernel size 1"),
    ("torch.nn.Conv2d <-> keras.layers.Dense", CONV | {"groups": 5}, "can become Dense only with kernel size 1"),
    ("torch.nn.PReLU <-> keras.layers.PReLU", {"num_parameters": 3}, "needs the shape of its input, which is unknown"),
    (
        "timm.layers.layer_scale.LayerScale <-> keras.layers.EinsumDense",
        {},
        "needs the shape of its input, which is unknown",
    ),
]


@pytest.mark.parametrize(("name", "config", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_torch_options_that_keras_lacks_are_refused_with_the_reason(
    name: str, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RuleError, match=reason):
        find(name).to_keras(config)


DENSE = LayerSpec(kind="keras.layers.Dense", config={"use_bias": False}, shapes={"kernel": (5, 6)})
WITH_BIAS = LayerSpec(kind="keras.layers.Dense", shapes={"kernel": (5, 6)})
EINSUM = "keras.layers.EinsumDense"

REFUSED_BY_TORCH: list[tuple[str, LayerSpecs, str]] = [
    ("transformers.pytorch_utils.Conv1D <-> keras.layers.Dense", (DENSE,), "use_bias=False"),
    ("torch.nn.Linear <-> 3 x keras.layers.Dense", (DENSE, DENSE, WITH_BIAS), "cannot be packed into one torch layer"),
    ("torch.nn.Linear <-> 3 x keras.layers.Dense", (DENSE,), "cannot be packed into one torch layer"),
    (
        "torch.nn.Linear <-> keras.layers.Conv2D",
        (LayerSpec(kind="keras.layers.Conv2D", shapes={"kernel": (1, 3, 5, 6)}),),
        "kernel_size",
    ),
    (
        "torch.nn.Linear <-> keras.layers.Conv2D",
        (LayerSpec(kind="keras.layers.Conv2D", config={"strides": (2, 2)}, shapes={"kernel": (1, 1, 5, 6)}),),
        "strides",
    ),
    (LINEAR, (LayerSpec(kind=EINSUM, shapes={"kernel": (5, 6)}),), "the equation of an EinsumDense is unknown"),
    (
        "torch.nn.Bilinear <-> keras.layers.EinsumDense",
        (LayerSpec(kind=EINSUM, config={"equation": "abc,cd->abd"}, shapes={"kernel": (5, 6)}),),
        "cannot become Bilinear",
    ),
    (
        "timm.layers.layer_scale.LayerScale <-> keras.layers.EinsumDense",
        (LayerSpec(kind=EINSUM, config={"equation": "abc,cd->abd"}, shapes={"kernel": (5, 6)}),),
        "cannot become LayerScale",
    ),
    (
        "torch.nn.PReLU <-> keras.layers.PReLU",
        (LayerSpec(kind="keras.layers.PReLU", shapes={"alpha": (4, 1, 6)}),),
        "a slope for each spatial position",
    ),
    (
        "torch.nn.EmbeddingBag <-> keras.layers.Embedding",
        (
            LayerSpec(kind="keras.layers.Embedding", shapes={"embeddings": (7, 5)}),
            LayerSpec(kind="keras.layers.Flatten"),
        ),
        "the modes of EmbeddingBag are",
    ),
]


@pytest.mark.parametrize(("name", "specs", "reason"), REFUSED_BY_TORCH, ids=range(len(REFUSED_BY_TORCH)))
def test_keras_options_that_torch_lacks_are_refused_with_the_reason(name: str, specs: LayerSpecs, reason: str) -> None:
    with pytest.raises(RuleError, match=reason):
        find(name).to_torch(specs)


def test_a_rule_that_merges_heads_in_another_order_fails_the_laws() -> None:
    rule, given = find(LINEAR), (2, 3, 5)
    wrong = replace(
        rule,
        weights=lambda config: (
            replace(rule.weights(config)[0], transform=Axes("(e d) c -> c d e", d=4)),
            *rule.weights(config)[1:],
        ),
    )
    layer, array = built("abc,cde->abde", (None, 4, 7), "de", given), np.random.default_rng(3).uniform(-8, 8, given)
    found, right = (torch_side.run(torch_side_of(one, layer, given)[0], array, float64=True) for one in (wrong, rule))
    assert compare(found.outputs[""], run64(layer, array)).max_rel > 1e-3
    assert compare(right.outputs[""], run64(layer, array)).max_rel < 1e-12


@pytest.mark.parametrize(
    ("role", "dtype", "constant"),
    [
        ("relative_position_index", "int64", True),
        ("attn_mask", "float32", True),
        ("attn_mask", "bool", True),
        ("position_ids", "int64", True),
        ("inv_freq", "bfloat16", True),
        ("relative_position_index", "float32", False),
        ("position_ids", "float32", False),
        ("relative_position_bias_table", "float32", False),
        ("running_mean", "float32", False),
    ],
)
def test_a_buffer_is_a_constant_by_its_name_and_its_dtype(role: str, dtype: str, constant: bool) -> None:
    assert bool(constant_buffer(role, dtype)) == constant
