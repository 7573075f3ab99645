"""The probe on third-party models; keras-hub's own converters determine the right pairs."""

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

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


@pytest.mark.parametrize("name", FAMILIES)
def test_every_variable_is_restored_bit_for_bit(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, backbone, inputs, keras_inputs = load(name, tmp_path)
    wanted = values(backbone)
    scramble(backbone)
    before = values(backbone)
    plan = k3c.align(module, backbone, inputs=inputs, keras_inputs=keras_inputs)
    assert all(np.array_equal(before[path], value) for path, value in values(backbone).items())
    for path in family.left:
        plan = plan.ignore(path, "keras-hub leaves it out", side="torch")
    assert bool(plan.difference) <= family.differs
    plan = plan.accepting_difference()
    assert not [pair for pair in plan.check().pairs if pair.unconfirmed]
    k3c.transfer(module, backbone, plan)
    found = values(backbone)
    assert [path for path in wanted if not np.array_equal(wanted[path], found[path])] == []
    assert ("differ" in plan.notes[-1]) == family.differs
    assert names_its_differences(plan) == family.differs


def names_its_differences(plan: Alignment) -> bool:
    return any("differs by" in evidence.detail for pair in plan.pairs for evidence in pair.evidence)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_rounded_rotary_frequencies_are_named_after_a_scaled_embedding(name: str, tmp_path: Path) -> None:
    module, backbone, inputs, keras_inputs = load(name, tmp_path)
    both = {"inputs": inputs, "keras_inputs": keras_inputs}
    plan = k3c.align(module, backbone, **both)
    k3c.transfer(module, backbone, plan, accept_difference=True)
    report = k3c.validate(module, backbone, alignment=plan, proofs=("float64",), **both)
    fact = report.section("float64").problems[0].fact
    assert "the frequencies of the rotary embedding are rounded to float32 in torch, and exact in Keras" in fact
