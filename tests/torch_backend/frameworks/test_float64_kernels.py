"""Models with float32 constants beside their weights run in float64, and are compared."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
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
