"""Models with float32 constants beside their weights run in float64, and are compared; so are gradients."""

from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.torch.float64 import Float64Kernels
from keras3conv.report.report import Report
from tests.support.models import randomize

SIZE, LARGER = 6, 11


def interpolation(align_corners: bool) -> np.ndarray:
    """Return the matrix of a linear interpolation from 6 to 11 positions."""
    line = nn.functional.interpolate(torch.eye(SIZE)[None], LARGER, mode="linear", align_corners=align_corners)
    return line[0].numpy()


class Interpolating(nn.Module):
    """Interpolates by a product with a matrix, which is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.from_numpy(interpolation(True))
        self.inner, self.outer = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.einsum("bsc,sl->blc", self.inner(x), self.matrix))


def certificate(align_corners: bool) -> Report:
    steps = keras.Input((SIZE, 4))
    x = ops.einsum("bsc,sl->blc", layers.Dense(5, name="inner")(steps), interpolation(align_corners))
    module, model = randomize(Interpolating()), keras.Model(steps, layers.Dense(3, name="outer")(x))
    given = torch.randn(2, SIZE, 4)
    plan = k3c.align(module, model, inputs=given)
    k3c.transfer(module, model, plan, accept_difference=True)
    return k3c.validate(module, model, inputs=given, plan=plan)


@pytest.mark.slow
def test_products_with_float32_constants_pass() -> None:
    assert certificate(align_corners=True).ok


@pytest.mark.slow
def test_another_constant_fails() -> None:
    assert certificate(align_corners=False).section("float64").status == "failed"


class Reducing(layers.Layer):
    """Functions that Keras' torch backend computes in float32 tensors that it creates itself."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(4,), name="scale", initializer="random_normal")

    def call(self, x: Any) -> Any:
        x = x * self.scale
        summed = ops.segment_sum(ops.transpose(x, (1, 0, 2)), np.array([0, 2, 1, 0, 2, 1]), num_segments=3)
        return ops.associative_scan(ops.add, x, axis=1)[:, :3] + ops.transpose(summed, (1, 0, 2))


def test_reductions_of_segments_and_scans_are_compared_in_float64() -> None:
    steps = keras.Input((SIZE, 4))
    report = k3c.convert(keras.Model(steps, Reducing()(steps))).report
    assert report is not None
    assert report.ok, str(report)


FUNCTIONS = {
    "hardsigmoid": (nn.functional.hardsigmoid, lambda x: nn.functional.relu6(x + 3) / 6),
    "celu": (lambda x: nn.functional.celu(x, 1.3), lambda x: x.clamp(min=0) + 1.3 * torch.expm1(x.clamp(max=0) / 1.3)),
}
"""Functions whose gradient torch computes with a float32 constant, and the same functions as other operations."""


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("exact", [True, False])
def test_gradients_in_float64_have_no_constants_in_float32(name: str, exact: bool) -> None:
    x = torch.linspace(-4, 4, 3998, dtype=torch.float64, requires_grad=True)
    function, other = FUNCTIONS[name]
    with Float64Kernels() if exact else nullcontext():
        first, second = function(x), other(x)
    assert torch.allclose(first, second, rtol=1e-15, atol=1e-15)
    gradient, other_gradient = (torch.autograd.grad(made.sum(), x)[0] for made in (first, second))
    assert (
        torch.allclose(gradient, other_gradient, rtol=1e-12, atol=0) is exact
    )  # without the mode torch rounds the constant


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_in_place_changes_its_input_in_float64_too(name: str) -> None:
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    wanted = FUNCTIONS[name][1](x)
    with Float64Kernels():
        made = nn.functional.hardsigmoid(x, True) if name == "hardsigmoid" else nn.functional.celu(x, 1.3, inplace=True)
    assert made is x
    assert torch.allclose(x, wanted, rtol=1e-15)


def test_the_gradients_of_a_hard_sigmoid_that_torch_writes_as_operations_pass() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(5, 7), nn.Linear(7, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.outer(nn.functional.relu6(self.inner(x) + 3) / 6)
            return made

    given = keras.Input((5,))
    model = keras.Model(given, layers.Dense(3)(layers.Dense(7, activation="hard_sigmoid")(given)))
    module, inputs = randomize(Gate()), 3 * torch.randn(4, 5)
    k3c.transfer(module, model, k3c.align(module, model, inputs=inputs))
    k3c.validate(module, model, inputs=inputs).raise_if_failed()
