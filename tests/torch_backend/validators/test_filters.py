"""Constant filters that are no negative numbers get probe weights that are no negative numbers."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.model.views import TensorRef
from keras3conv.numerics.probe_values import Pool, probe


class Energies(nn.Module):
    """The logarithm of the energy in some bands, as of a mel spectrogram."""

    filters: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.rand(9, 5, generator=torch.Generator().manual_seed(0)))
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.log(x.square() @ self.filters.to(x.dtype) + 1e-6))
        return out


class Bands(layers.Layer):
    """The same in Keras.

    Args:
        epsilon: The number that is added to the energies.
    """

    def __init__(self, epsilon: float, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.filters = self.add_weight(shape=(9, 5), trainable=False, name="filters")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.log(ops.matmul(ops.square(x), self.filters) + self.epsilon)


@pytest.mark.parametrize(("epsilon", "status"), [(1e-6, "passed"), (1e-3, "failed")])
def test_a_logarithm_of_filtered_energies_stays_finite(epsilon: float, status: str) -> None:
    module, x = Energies().eval(), keras.Input((9,))
    model = keras.Model(x, layers.Dense(3, name="head")(Bands(epsilon, name="bands")(x)))
    plan = k3c.align(module, model, probe=False).pair("filters", "bands/filters").check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=torch.randn(4, 9), plan=plan, proofs=["float64"])
    assert report.sections[-1].status == status


@pytest.mark.parametrize(("own", "is_signed"), [(None, True), (-np.ones(50), True), (np.zeros(50), False)])
def test_the_sign_of_a_tensor_that_is_not_trained_decides(own: Any, is_signed: bool) -> None:
    tensor = TensorRef(path="filters", role="filters", shape=(50,), dtype="float32", trainable=False)
    assert bool((probe(tensor, Pool(), own=own) < 0).any()) is is_signed
