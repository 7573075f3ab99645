"""A certificate runs the models as often as its proofs need, and no run twice.

It makes six passes of each side, one more with batch normalisation, and others at other sizes and with padding where a
model has them. With fewer passes it would prove less: each test says why its passes cannot be shared.
"""

from collections import Counter

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c


class Counting(nn.Module):
    """Two layers, and a count of the calls by the dtype of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 4)
        self.passes: Counter[str] = Counter()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Count the call."""
        self.passes[str(x.dtype).removeprefix("torch.")] += 1
        return self.second(torch.relu(self.first(x)))


class CountingInKeras(keras.Model):
    """The same in Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = keras.layers.Dense(5), keras.layers.Dense(4)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        """Count the call."""
        PASSES[keras.backend.standardize_dtype(x.dtype)] += 1
        return self.second(keras.ops.relu(self.first(x)))


PASSES: Counter[str] = Counter()


@pytest.fixture
def counted() -> tuple[Counter[str], Counter[str]]:
    """The calls of torch and of Keras during a certificate with all standard proofs, by dtype."""
    module, model = Counting(), CountingInKeras()
    inputs = torch.rand(3, 6)
    model(keras.ops.zeros((3, 6)))
    plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(module, model, plan)
    module.passes.clear()
    PASSES.clear()
    k3c.validate(module, model, inputs=inputs, plan=plan).raise_if_failed()
    return module.passes, PASSES


def test_the_deployed_models_run_once_and_keras_once_more_layer_by_layer(
    counted: tuple[Counter[str], Counter[str]],
) -> None:
    """Every pass has a reason.

    torch runs once in float32: outputs, activations, data flow and hyper-parameters share the run. Keras runs once, and
    once with torch's recorded inputs in every layer, which no run of the whole model can show. A second call of the
    same model is made only if the float64 runs differ, for they agree to 1e-10 only if no number is drawn.
    """
    torch_passes, keras_passes = counted
    assert torch_passes["float32"] == 1
    assert keras_passes["float32"] == 2


def test_keras_runs_in_float64_once_for_each_of_three_magnitudes_and_for_the_gradients(
    counted: tuple[Counter[str], Counter[str]],
) -> None:
    """Every pass has other weights or another mode.

    At small values an epsilon is visible, at large values a bound, and in between a function that is curved. Each
    magnitude needs its own biases and statistics. The gradients need a run that records them, in which frameworks take
    other code than in the inference that the other runs prove; batch normalisation needs one more, in training mode.
    """
    assert counted[1]["float64"] == 4


def test_torch_runs_in_float64_also_for_its_noise(counted: tuple[Counter[str], Counter[str]]) -> None:
    """The noise floor is that of the deployed weights, and the other runs have probe weights.

    The run that scales the weights to a magnitude is the run at this magnitude.
    """
    assert counted[0]["float64"] == 4 + 1
