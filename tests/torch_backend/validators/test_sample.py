"""The noise floor of a large batch is measured on a few samples, and on the whole batch if they do not represent it."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.report.values import Section
from keras3conv.transforms import Array
from keras3conv.validators.running.sample import sampled_inputs
from keras3conv.validators.running.subject import Subject
from tests.support.models import randomize


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def outputs_of(module: nn.Module, inputs: Array, between: Callable[[Any], Any] = lambda x: x) -> Section:
    """Return the outputs section of a module with one linear layer, and of a Dense layer followed by `between`."""
    given = keras.Input((6,))
    model = keras.Model(given, between(keras.layers.Dense(5, name="dense")(given)))
    plan = k3c.align(module, model, probe=False).check()
    k3c.transfer(module, model, plan)
    return k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=["outputs"]).section("outputs")


def test_the_noise_of_a_large_batch_is_measured_on_a_sixteenth_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(subject: Subject) -> None:
        raise AssertionError("the whole batch was run in float64")

    monkeypatch.setattr(Subject, "torch_truth", property(refuse))
    section = outputs_of(randomize(nn.Sequential(nn.Linear(6, 5))), normal(35, 6))
    assert section.status == "passed"
    assert section.facts["noise floor"].startswith("measured on 2 of 35 samples")
    with pytest.raises(AssertionError, match="the whole batch"):
        outputs_of(randomize(nn.Sequential(nn.Linear(6, 5))), normal(3, 6))


def test_a_difference_outside_of_the_sample_is_judged_by_the_whole_batch() -> None:
    inputs = normal(40, 6)
    inputs[30] *= 1e3
    section = outputs_of(randomize(nn.Sequential(nn.Linear(6, 5))), inputs, lambda x: keras.ops.clip(x, -100, 100))
    assert section.status == "failed"
    assert "x the noise floor" in section.problems[0].fact


def test_larger_noise_outside_of_the_sample_passes() -> None:
    inputs = normal(64, 6)
    inputs[40:] *= 1e4
    section = outputs_of(
        randomize(nn.Sequential(nn.Linear(6, 5), nn.Tanhshrink())), inputs, lambda x: x - keras.ops.tanh(x)
    )
    assert section.status == "passed"


def test_a_random_model_fails_when_noise_is_measured_on_a_sample() -> None:
    class Random(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    section = outputs_of(randomize(nn.Sequential(nn.Linear(6, 5), Random())), normal(64, 6))
    assert section.status == "failed"
    assert any("it draws random numbers" in problem.fact for problem in section.problems)


class Mixed(nn.Module):
    """A linear layer, and an operation that mixes the samples of the batch."""

    def __init__(self, mix: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.linear, self.mix = nn.Linear(6, 5), mix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(self.linear(x))


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x.mean(0, keepdims=True),
        lambda x: x - x.mean(0, keepdims=True),
        lambda x: x / abs(x).max(),
        lambda x: x.reshape(64, 5),
    ],
    ids=["a mean over the samples", "a norm that measures them", "a common scale", "a fixed batch"],
)
def test_a_model_that_mixes_samples_is_measured_on_the_whole_batch(mix: Callable[[Any], Any]) -> None:
    section = outputs_of(randomize(Mixed(mix)), normal(64, 6), keras.layers.Lambda(mix, output_shape=(5,)))
    assert section.status == "passed"
    assert "noise floor" not in section.facts


@pytest.mark.parametrize(
    ("torch_inputs", "keras_inputs", "description"),
    [
        (normal(32, 4), normal(32, 4), "2 of 32 samples"),
        (np.moveaxis(normal(16, 5, 4, 3), -1, 1), normal(16, 5, 4, 3), "1 of 16 samples"),
        ((normal(48, 4), {"x": normal(48, 2)}), [normal(48, 4), normal(48, 2)], "3 of 48 samples"),
        (normal(8, 4), normal(8, 4), "1 of 8 samples"),
        (normal(3, 4), normal(3, 4), None),
        (normal(32, 32, 4).swapaxes(0, 1), normal(32, 32, 4), None),
        (normal(32, 16, 4).swapaxes(0, 1), normal(32, 16, 4), None),
        ((normal(32, 4), normal(16, 4)), [normal(32, 4), normal(16, 4)], None),
        ((normal(32, 4), np.float32(3.0)), [normal(32, 4), np.float32(3.0)], None),
    ],
    ids=["rows", "images", "several", "eight", "few", "time first", "time first, shorter", "other sizes", "a number"],
)
def test_the_first_axis_is_the_batch_axis_only_if_both_sides_agree(
    torch_inputs: Any, keras_inputs: Any, description: str | None
) -> None:
    sampled = sampled_inputs(Inputs(torch=torch_inputs, keras=keras_inputs, note=""))
    assert (sampled[1] if sampled else None) == description
