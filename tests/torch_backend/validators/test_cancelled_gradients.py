"""A tiny difference of gradients is rounding if it is unrelated under slightly changed inputs, else a mistake."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.keras import gradients as keras_gradients
from keras3conv.frameworks.shared.recording import Backward
from keras3conv.report.values import Section
from keras3conv.transforms import Array
from tests.support.models import randomize

TINY = 5e-10
"""The size of the planted difference beside the gradient of the bias: too large for a proof in float64.

Beside the largest gradient of the model, which grows with the inputs, it is below 1e-10.
"""


def section(monkeypatch: pytest.MonkeyPatch, changed: Callable[[Array], Array]) -> Section:
    """Return the section of the gradients of two equal models, of which Keras' gradient of one bias is changed."""
    module = randomize(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)))
    parts = [keras.Input((6,)), keras.layers.Dense(4, name="first"), keras.layers.Dense(3, name="last")]
    model = keras.Sequential(parts)
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    backward = keras_gradients.backward

    def with_difference(*arguments: Any, **options: Any) -> Backward:
        made = backward(*arguments, **options)
        return replace(made, gradients={**made.gradients, "first/bias": changed(made.gradients["first/bias"])})

    monkeypatch.setattr(keras_gradients, "backward", with_difference)
    report = k3c.validate(module, model, inputs=100 * torch.randn(8, 6), plan=plan, proofs=["gradients"])
    return report.section("gradients")


def test_a_difference_that_does_not_repeat_is_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = itertools.cycle([1.0, -1.0])
    found = section(monkeypatch, lambda bias: bias + next(signs) * TINY * np.abs(bias).max())
    assert found.status == "passed"
    assert next(signs) == 1.0, "the gradients were computed twice"


@pytest.mark.parametrize("size", [TINY, 1e-6])
def test_a_difference_that_repeats_is_a_failure(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = section(monkeypatch, lambda bias: bias + size * np.abs(bias).max())
    assert found.status == "failed"
    (problem,) = found.problems
    assert "gradient of 0.bias" in problem.fact


class OfNumpy(keras.layers.Layer):
    """A layer that runs on torch, and that torch cannot differentiate, because it computes with numpy."""

    def call(self, x: Any) -> Any:
        """Return twice the input."""
        return keras.ops.convert_to_tensor(2 * np.asarray(x))

    def compute_output_spec(self, x: Any) -> Any:
        """Return the shape and dtype of the input."""
        return keras.KerasTensor(x.shape, x.dtype)


def test_gradients_that_keras_cannot_compute_are_skipped_and_the_reason_is_one_line_with_the_cause() -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="first"), OfNumpy(name="twice")])
    module = nn.Sequential(nn.Linear(6, 4), Twice())
    k3c.transfer(module, model, k3c.align(module, model))
    report = k3c.validate(module, model)
    section = report.section("gradients")
    assert section.status == "skipped"
    assert "\n" not in section.outcome
    assert "numpy" in section.outcome
    assert "Exception encountered" not in section.outcome


class Twice(nn.Module):
    """The same as `OfNumpy`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return twice the input."""
        return 2 * x
