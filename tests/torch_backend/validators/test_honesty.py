"""Random pairs of equal models pass the certificate, and fail it after any single change."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.shared import inputs_varied
from tests.support.honest_pairs import SIDE, WORDS, Spec, changes, drawn, drawn_for_any_size
from tests.support.models import randomize

pytestmark = pytest.mark.usefixtures("without_causes")

PROOFS = ("roundtrip", "float64", "outputs")

Pair = tuple[nn.Module, k3c.Alignment, keras.Model]


def transferred(spec: Spec, module: nn.Module, inputs: torch.Tensor) -> tuple[k3c.Alignment, keras.Model]:
    model = spec.keras_model()
    plan = k3c.align(module, model, inputs=inputs, probe=False)
    if plan.unconfirmed:
        plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(module, model, plan)
    return plan, model


def validated(module: nn.Module, model: keras.Model, inputs: torch.Tensor, plan: k3c.Alignment) -> k3c.Report:
    return k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=PROOFS)


def computes_the_same(spec: Spec, model: keras.Model, other: keras.Model) -> bool:
    """Return whether no input tells two models apart: after a softplus, two activations may be one function."""
    generator = np.random.default_rng(0)
    shape = (256, *(size or SIDE for size in model.input_shape[1:]))
    if spec.domain == "words":
        x = generator.integers(0, WORDS, shape).astype(np.int32)
        x[:, 0] = 1  # a row of padding alone has no mean
    else:
        scale = 10.0 ** generator.uniform(-3, 3, (256, *(1 for _ in model.input_shape[1:])))
        x = (scale * generator.standard_normal(shape)).astype(np.float32)
    made = [keras.ops.convert_to_numpy(each(x)) for each in (model, other)]
    return np.array_equal(*made)


def passes_with_a_change(spec: Spec, pair: Pair, inputs: torch.Tensor, generator: np.random.Generator) -> str:
    """Return the name of the first change that is drawn and tells the models apart, if the certificate passes with it.

    One in four changes is that of a single weight.
    """
    module, plan, model = pair
    options = list(changes(spec)) if generator.integers(4) else []
    weights = model.get_weights()
    for place in generator.permutation(len(options)):
        name, other = options[int(place)]
        changed = other.keras_model()
        changed.set_weights(weights)
        if not computes_the_same(spec, model, changed):
            return name if validated(module, changed, inputs, plan).ok else ""
    place = int(generator.integers(len(weights)))
    weights[place].flat[int(generator.integers(weights[place].size))] += 1e-3
    model.set_weights(weights)
    return "a changed weight" if validated(module, model, inputs, plan).ok else ""


def misses(seed: int, draw: Callable[[np.random.Generator], Spec] = drawn) -> list[str]:
    """Return what the certificates of one random pair of models judge wrongly: as they are, and after one change.

    Args:
        seed: The seed of the pair and of the change.
        draw: Draws the pair.
    """
    generator = np.random.default_rng(seed)
    spec = draw(generator)
    module, inputs = randomize(spec.torch_module(), seed=seed).eval(), spec.inputs(generator)
    plan, model = transferred(spec, module, inputs)
    report = validated(module, model, inputs, plan)
    found = [] if report.ok else [f"{seed}: {spec} fails: {report.with_status('failed')[0].problems}"]
    change = passes_with_a_change(spec, (module, plan, model), inputs, generator)
    return [*found, f"{seed}: {spec} passes with {change}"] if change else found


@pytest.mark.parametrize("seed", range(100))
def test_random_equal_models_pass_and_any_planted_change_fails(seed: int) -> None:
    assert misses(seed) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_change_in_random_models_of_images_fails_on_smaller_images(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_varied, "LONG", SIDE)  # so that the images of these models count as long
    assert misses(seed, drawn_for_any_size) == []


@pytest.mark.full
@pytest.mark.parametrize("start", range(100, 2000, 20))
def test_many_random_equal_models_pass_and_any_planted_change_fails(start: int) -> None:
    assert [miss for seed in range(start, start + 20) for miss in misses(seed)] == []
