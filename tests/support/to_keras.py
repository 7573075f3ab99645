"""Convert torch modules to Keras in tests, and measure the difference of both models in float64."""

from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.builder.to_keras.build import Built, build, proof_inputs
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.derived import planned_in_parts
from keras3conv.validators.running.output_pairs import output_pairs

LIMIT = 1e-12
"""The largest relative difference of two models that compute the same function in float64."""


class Function(nn.Module):
    """A module without parameters that calls a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def float64_error(module: nn.Module, built: Built, inputs: Any) -> float:
    """Return the largest difference of the outputs in float64, relative to the largest value of each output."""
    given = proof_inputs(module, built.program, inputs)
    with keras_side.float64_mode(built.model):
        arrays = [one.astype("float64") if one.dtype.kind == "f" else one for one in given]
        keras = keras_side.run(built.model, arrays[0] if len(arrays) == 1 else arrays, watch=False)
    in_parts = planned_in_parts(module, built.alignment.torch)
    expected = torch_side.run(module, inputs, float64=True, watch=False, in_parts=in_parts)
    worst = 0.0
    for pair in output_pairs(expected, keras):
        assert not pair.mismatch
        scale = float(np.max(np.abs(pair.torch_output))) or 1.0
        worst = max(worst, float(np.max(np.abs(pair.torch_output * 1.0 - pair.keras_output))) / scale)
    return worst


def converted(module: nn.Module, inputs: Any, channels: Any = "last", limit: float = LIMIT) -> Built:
    """Return the conversion of a module; its Keras model computes the same, and runs in float32."""
    module.eval()
    built = build(module, channels, inputs)
    assert float64_error(module, built, inputs) < limit
    given = proof_inputs(module, built.program, inputs)
    keras_side.run(built.model, given[0] if len(given) == 1 else list(given), watch=False)
    return built
