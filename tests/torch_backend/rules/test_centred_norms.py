"""Norms that scale by `1 + weight`: they are recognized by their outputs, not by their names."""

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.torch import module as torch_side
from tests.support.models import randomize

RMS_RULE = "keras3conv.frameworks.torch.centred.CentredRMSNorm <-> keras.layers.RMSNormalization"
LAYER_RULE = "keras3conv.frameworks.torch.centred.CentredLayerNorm <-> keras.layers.LayerNormalization"

COMPUTES_SOMETHING_ELSE = {
    "muse_spark.modeling_muse_spark.MuseSparkTextInputScaledRMSNorm": "scales the input, not the output",
}


class Centred(nn.Module):
    """A centred norm of an unknown model family."""

    def __init__(self, size: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.scale_offset, self.variance_epsilon = 1.0, epsilon
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        wide = inputs.float() if inputs.dtype == torch.bfloat16 else inputs
        scaled = wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (scaled * (self.scale_offset + self.weight)).type_as(inputs)


class CentredWithMean(nn.LayerNorm):
    """A subclass of LayerNorm that adds one to its weight."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(inputs, self.normalized_shape, self.weight + 1, self.bias, self.eps)


class Plain(Centred):
    """A norm that does not add one to its weight."""

    def __init__(self, size: int, epsilon: float = 1e-6) -> None:
        super().__init__(size, epsilon)
        self.scale_offset = 0.0


class OtherEpsilon(Centred):
    """A norm that adds a different epsilon than its attribute."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        scaled = inputs / torch.sqrt(inputs.pow(2).mean(-1, keepdim=True) + 3 * self.variance_epsilon)
        return scaled * (1 + self.weight)


def kinds(module: nn.Module) -> tuple[str, ...]:
    return torch_side.view(nn.Sequential(module)).layers[0].kinds


@pytest.mark.parametrize(
    ("make", "keras_layer", "rule"),
    [
        (lambda: Centred(6, 1e-3), lambda: keras.layers.RMSNormalization(epsilon=1e-3), RMS_RULE),
        (lambda: CentredWithMean(6, 1e-3), lambda: keras.layers.LayerNormalization(epsilon=1e-3), LAYER_RULE),
    ],
    ids=["rms", "layer"],
)
@pytest.mark.parametrize("probe", [True, False])
def test_a_centred_norm_of_an_unknown_class_is_paired_and_certified(
    make: Callable[[], nn.Module], keras_layer: Callable[[], Any], rule: str, probe: bool
) -> None:
    source = randomize(nn.Sequential(make(), nn.Linear(6, 3)))
    target = keras.Sequential([keras.Input((4, 6)), keras_layer(), keras.layers.Dense(3)])
    inputs = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    plan = k3c.align(source, target, inputs=inputs, probe=probe).check()
    assert plan.pairs[0].rule == rule
    k3c.transfer(source, target, plan)
    k3c.validate(source, target, inputs=inputs, alignment=plan, proofs=("float64", "outputs")).raise_if_failed()


def test_the_epsilon_of_a_centred_norm_is_found_under_any_attribute_name() -> None:
    layer = torch_side.view(nn.Sequential(Centred(6, 2e-4))).layers[0]
    assert layer.config is not None
    assert layer.config["eps"] == 2e-4
    assert layer.kinds[1:] == ("keras3conv.frameworks.torch.centred.CentredRMSNorm",)


@pytest.mark.parametrize("cls", [Plain, OtherEpsilon])
def test_a_norm_with_another_formula_is_not_recognized_as_centred(cls: type[nn.Module]) -> None:
    assert len(kinds(cls(6))) == len(cls.__mro__) - 2


def test_recognizing_a_norm_leaves_weights_and_random_state_unchanged() -> None:
    norm = randomize(Centred(6))
    before, state = norm.weight.clone(), torch.get_rng_state()
    kinds(norm)
    assert torch.equal(norm.weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def norms_of_transformers() -> list[str]:
    """Return every norm class of transformers whose initial weight is zero, by qualified name."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return []
    found = []
    for path in sorted(Path(spec.origin).parent.glob("models/*/modeling_*.py")):
        text = path.read_text(encoding="utf-8")
        if "nn.Parameter(torch.zeros(" in text or "1P(nn.LayerNorm)" in text:
            found += [
                f"{path.parent.name}.{path.stem}.{node.name}"
                for node in ast.parse(text).body
                if isinstance(node, ast.ClassDef) and (node.name.endswith("Norm") or node.name.endswith("1P"))
                if "self.weight = nn.Parameter(torch.zeros(" in (ast.get_source_segment(text, node) or "")
                or node.name.endswith("1P")
            ]
    return found


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_every_norm_of_transformers_with_initial_weight_zero_is_recognized() -> None:
    places = norms_of_transformers()
    assert len(places) > 12
    missed = set()
    for place in places:
        module, _, name = place.rpartition(".")
        norm = getattr(import_module(f"transformers.models.{module}"), name)(4)
        if not any("centred.Centred" in kind for kind in kinds(norm)):
            missed.add(place)
    assert missed == {*COMPUTES_SOMETHING_ELSE}
