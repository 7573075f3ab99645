"""Random pairs of equal models pass the certificate, and fail it after any single change."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.validators.diagnosis import causes
from tests.support.honest_pairs import Spec, changes, drawn
from tests.support.models import randomize

PROOFS = ("roundtrip", "float64", "outputs")
CHANGED = 5
"""The number of changes that are tried for each pair of models."""


@pytest.fixture(autouse=True)
def without_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the search for causes, because only the verdict is tested."""
    monkeypatch.setattr(causes, "SEARCH_SECONDS", 0.0)


def transferred(spec: Spec, module: nn.Module, inputs: torch.Tensor) -> tuple[k3c.Alignment, keras.Model]:
    model = spec.keras_model()
    plan = k3c.align(module, model, inputs=inputs, probe=False)
    if plan.unconfirmed:
        plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(module, model, plan)
    return plan, model


def accepted(module: nn.Module, model: keras.Model, inputs: torch.Tensor, plan: k3c.Alignment) -> bool:
    return k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=PROOFS).ok


def computes_the_same(model: keras.Model, other: keras.Model) -> bool:
    """Return whether no input tells two models apart: after a softplus, two activations may be one function."""
    generator = np.random.default_rng(0)
    scale = 10.0 ** generator.uniform(-3, 3, (256, *(1 for _ in model.input_shape[1:])))
    x = (scale * generator.standard_normal((256, *model.input_shape[1:]))).astype(np.float32)
    made = [keras.ops.convert_to_numpy(each(x)) for each in (model, other)]
    return np.array_equal(*made)


def misses(seed: int) -> list[str]:
    """Return the wrong verdicts of the certificates for one random model and its changes."""
    generator = np.random.default_rng(seed)
    spec = drawn(generator)
    module, inputs = randomize(spec.torch_module(), seed=seed).eval(), spec.inputs(generator)
    plan, model = transferred(spec, module, inputs)
    report = k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=PROOFS)
    found = [] if report.ok else [f"{seed}: {spec} fails: {report.with_status('failed')[0].problems}"]
    weights = model.get_weights()
    options = list(changes(spec))
    for place in generator.permutation(len(options))[: CHANGED - 1]:
        name, other = options[int(place)]
        changed = other.keras_model()
        changed.set_weights(weights)
        if not computes_the_same(model, changed) and accepted(module, changed, inputs, plan):
            found.append(f"{seed}: {spec} passes with {name}")
    place = int(generator.integers(len(weights)))
    weights[place].flat[int(generator.integers(weights[place].size))] += 1e-3
    model.set_weights(weights)
    if k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=("roundtrip",)).ok:
        found.append(f"{seed}: {spec} passes with a changed weight")
    return found


@pytest.mark.parametrize("seed", range(20))
def test_random_equal_models_pass_and_any_planted_change_fails(seed: int) -> None:
    assert misses(seed) == []


@pytest.mark.full
@pytest.mark.parametrize("start", range(20, 2000, 20))
def test_many_random_equal_models_pass_and_any_planted_change_fails(start: int) -> None:
    assert [miss for seed in range(start, start + 20) for miss in misses(seed)] == []
