"""Norms that keep their scale as its distance from one: which classes of transformers do is read off what they do."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest
import torch

import keras3conv as k3c
from keras3conv.rules.families.normalization.centred import CENTRED, CENTRED_LAYER_NORMS
from tests.support import stand_ins
from tests.support.models import randomize

stand_ins.install()

CENTRED_ELSEWHERE = {
    "muse_spark.modeling_muse_spark.MuseSparkTextInputScaledRMSNorm": "scales what it is given, not what it made",
    "qwen4_exp.modeling_qwen4_exp.Qwen4ExpTextRMSNorm": "may normalise groups of the last axis",
}


def norms_that_begin_with_zeros() -> list[str]:
    """Every class of transformers that is called a norm and whose weight begins with zeros, by its place."""
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    found = []
    for path in sorted(Path(spec.origin).parent.glob("models/*/modeling_*.py")):
        text = path.read_text(encoding="utf-8")
        if "nn.Parameter(torch.zeros(" in text:
            found += [
                f"{path.parent.name}.{path.stem}.{node.name}"
                for node in ast.parse(text).body
                if isinstance(node, ast.ClassDef) and node.name.endswith("Norm")
                if "self.weight = nn.Parameter(torch.zeros(" in (ast.get_source_segment(text, node) or "")
            ]
    return found


def scale_of(place: str, weight: float) -> float:
    """By how much a norm scales what it made, where its weight is this number everywhere."""
    module, _, name = place.rpartition(".")
    norm = getattr(import_module(f"transformers.models.{module}"), name)(4)
    torch.nn.init.constant_(norm.weight, weight)
    with torch.no_grad():
        output: torch.Tensor = norm(torch.tensor([[3.0, -3.0, 3.0, -3.0]]))
    return round(output.abs().mean().item(), 4)


@pytest.mark.parametrize("place", [*CENTRED, *CENTRED_LAYER_NORMS])
def test_a_weight_of_zero_is_a_scale_of_one(place: str) -> None:
    assert [scale_of(place, weight) for weight in (0.0, 1.0, -0.5)] == [1.0, 2.0, 0.5]


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("place", CENTRED_LAYER_NORMS)
def test_a_layer_norm_that_adds_one_to_its_scale_is_not_paired_as_its_parent_is(place: str, probe: bool) -> None:
    module, _, name = place.rpartition(".")
    norm = getattr(import_module(f"transformers.models.{module}"), name)
    source = randomize(torch.nn.Sequential(norm(6, eps=1e-3), torch.nn.Linear(6, 3)))
    target = keras.Sequential(
        [keras.Input((4, 6)), keras.layers.LayerNormalization(epsilon=1e-3), keras.layers.Dense(3)]
    )
    inputs = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    plan = k3c.align(source, target, inputs=inputs, probe=probe).check()
    assert plan.pairs[0].rule == f"transformers.models.{place} <-> keras.layers.LayerNormalization"
    k3c.transfer(source, target, plan)
    k3c.validate(source, target, inputs=inputs, alignment=plan, proofs=("float64", "outputs")).raise_if_failed()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_every_such_class_of_transformers_is_listed_or_named_with_the_reason_why_not() -> None:
    assert set(norms_that_begin_with_zeros()) == {*CENTRED, *CENTRED_ELSEWHERE}
