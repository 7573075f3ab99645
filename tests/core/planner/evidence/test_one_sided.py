"""A bias that only one side has."""

from dataclasses import replace

import numpy as np
import pytest

from keras3conv.errors import TransformError
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.evidence.one_sided import with_zeros
from keras3conv.planner.plan import plan
from keras3conv.transforms import Drop, Fill


def linear(path: str, *, bias: bool) -> LayerView:
    tensors = (
        TensorRef(path=f"{path}.weight", role="weight", shape=(4, 3)),
        TensorRef(path=f"{path}.bias", role="bias", shape=(4,)),
    )
    config = {"in_features": 3, "out_features": 4, "bias": bias}
    return LayerView(path=path, kinds=("torch.nn.Linear",), config=config, tensors=tensors[: 1 + bias])


def dense(path: str, *, bias: bool) -> LayerView:
    tensors = (
        TensorRef(path=f"{path}/kernel", role="kernel", shape=(3, 4)),
        TensorRef(path=f"{path}/bias", role="bias", shape=(4,)),
    )
    config = {"units": 4, "use_bias": bias}
    return LayerView(path=path, kinds=("keras.layers.Dense",), config=config, tensors=tensors[: 1 + bias])


def models(torch: LayerView, keras: LayerView) -> tuple[ModelView, ModelView]:
    return ModelView(side="torch", name="Net", layers=(torch,)), ModelView(side="keras", name="net", layers=(keras,))


def test_a_bias_that_only_keras_has_is_zeros_and_other_values_are_refused() -> None:
    made = plan(*models(linear("a", bias=False), dense("z", bias=True))).check()
    _, bias = made.mappings
    assert (bias.torch, bias.keras, bias.transform) == ((), ("z/bias",), Fill(0, (4,)))
    with pytest.raises(TransformError, match="would lose 4 values that are not 0"):
        bias.transform.inverse((np.ones(4),))


def test_a_bias_that_only_torch_has_must_be_zero() -> None:
    made = plan(*models(linear("a", bias=True), dense("z", bias=False))).check()
    _, bias = made.mappings
    assert (bias.torch, bias.keras, bias.transform) == (("a.bias",), (), Drop(0, (4,)))


def test_the_plan_of_a_one_sided_bias_survives_json() -> None:
    made = plan(*models(linear("a", bias=False), dense("z", bias=True)))
    assert type(made).from_json(made.to_json()).mappings == made.mappings


def test_a_layer_with_a_bias_is_paired_with_one_that_has_a_bias() -> None:
    torch = ModelView(side="torch", name="Net", layers=(linear("a", bias=True), linear("b", bias=False)))
    keras = ModelView(side="keras", name="net", layers=(dense("y", bias=False), dense("z", bias=True)))
    assert {pair.torch: pair.keras for pair in plan(torch, keras).check().pairs} == {"a": "z", "b": "y"}


def test_files_without_classes_are_paired_without_the_bias_too() -> None:
    torch, keras = linear("a", bias=False), dense("z", bias=True)
    unknown = (replace(layer, kinds=(), config=None) for layer in (torch, keras))
    assert [pair.torch for pair in plan(*models(*unknown)).check().pairs] == ["a"]


def test_a_pair_of_kernels_alone_gets_the_zeros_too() -> None:
    views = models(linear("a", bias=False), dense("z", bias=True))
    (pair,) = plan(*views).pairs
    bare = replace(pair, torch="a.weight", keras="z/kernel", weights=pair.weights[:1])
    (made,) = with_zeros([bare], *views)
    assert made.weights[1].transform == Fill(0, (4,))
