"""The probe on third-party models; keras-hub's own converters determine the right pairs."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.transforms import Array
from tests.support.hub import FAMILIES, load

# What transformers and keras-hub warn of is not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def values(model: keras.Model) -> dict[str, Array]:
    view = keras_side.view(model)
    return {tensor.path: np.array(view.read(tensor.path)) for tensor in view.tensors() if not tensor.is_seed}


def scramble(model: keras.Model) -> None:
    random = np.random.default_rng(7)
    for variable in model.trainable_variables:
        variable.assign(random.standard_normal(variable.shape))


@dataclass(frozen=True)
class Aligned:
    """A torch module and the backbone with other weights, aligned by a run.

    Attributes:
        module: The torch module.
        backbone: The model of keras-hub, whose weights are random numbers.
        inputs: The inputs of both, as arguments.
        wanted: The values that keras-hub's own converter gave to the backbone.
        before: Its values before the run.
        after: Its values after the run.
        plan: The plan.
    """

    module: nn.Module
    backbone: keras.Model
    inputs: dict[str, Any]
    wanted: dict[str, Array]
    before: dict[str, Array]
    after: dict[str, Array]
    plan: Alignment


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Aligned]:
    """A function that returns the aligned models of a family; each family is loaded and aligned once."""

    @cache
    def aligned_once(name: str) -> Aligned:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module, backbone, inputs, keras_inputs = load(name, tmp_path_factory.mktemp(name))
        both = {"inputs": inputs, "keras_inputs": keras_inputs}
        wanted = values(backbone)
        scramble(backbone)
        before = values(backbone)
        plan = k3c.align(module, backbone, **both)
        return Aligned(module, backbone, both, wanted, before, values(backbone), plan)

    return aligned_once


@pytest.mark.parametrize("name", FAMILIES)
def test_every_variable_is_restored_bit_for_bit(name: str, aligned: Callable[[str], Aligned]) -> None:
    family, case = FAMILIES[name], aligned(name)
    module, backbone, plan = case.module, case.backbone, case.plan
    assert all(np.array_equal(case.before[path], value) for path, value in case.after.items())
    for path in family.left:
        plan = plan.ignore(path, "keras-hub leaves it out", side="torch")
    assert bool(plan.difference) <= family.differs
    plan = plan.accepting_difference()
    assert not [pair for pair in plan.check().pairs if pair.unconfirmed]
    scramble(backbone)
    k3c.transfer(module, backbone, plan)
    found = values(backbone)
    assert [path for path in case.wanted if not np.array_equal(case.wanted[path], found[path])] == []
    assert ("differ" in plan.notes[-1]) == family.differs
    assert names_its_differences(plan) == family.differs


def names_its_differences(plan: Alignment) -> bool:
    return any("differs by" in evidence.detail for pair in plan.pairs for evidence in pair.evidence)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_rounded_rotary_frequencies_are_named_after_a_scaled_embedding(
    name: str, aligned: Callable[[str], Aligned]
) -> None:
    case = aligned(name)
    k3c.transfer(case.module, case.backbone, case.plan, accept_difference=True)
    report = k3c.validate(case.module, case.backbone, alignment=case.plan, proofs=("float64",), **case.inputs)
    fact = report.section("float64").problems[0].fact
    assert "the frequencies of the rotary embedding are rounded to float32 in torch, and exact in Keras" in fact
