"""Weight norm and spectral norm on every backend: the computed weight and its gradients are those of torch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import pytest
import torch

import keras3conv as k3c
from tests.support.computed_weights import LAYERS, NORMS, SPECTRAL, made

CASES: dict[str, tuple[str, Callable[..., Any]]] = {
    "a linear layer": ("Linear", NORMS["new"]),
    "a linear layer, norm of the whole": ("Linear", partial(NORMS["new"], dim=None)),
    "a convolution": ("Conv1d", NORMS["new"]),
    "a convolution with groups, other axis": ("Conv2d, groups", partial(NORMS["old"], dim=2)),
    "a transposed convolution": ("ConvTranspose2d", NORMS["new"]),
    "a transposed convolution with groups": ("ConvTranspose2d, groups", partial(NORMS["new"], dim=1)),
    "spectral norm": ("Conv2d", SPECTRAL["new"]),
    "spectral norm, transposed": ("ConvTranspose1d", SPECTRAL["old"]),
}

TRIED = (
    "a linear layer, norm of the whole",
    "a convolution with groups, other axis",
    "a transposed convolution with groups",
    "spectral norm, transposed",
)
"""The cases of `make test`: each kind of layer and each norm once."""

ONLY_HERE = ("a convolution with groups, other axis",)
"""The cases that tests/torch_backend/builder/to_keras/test_computed_weights.py does not have."""


def is_left_to_full(name: str) -> bool:
    return name not in (ONLY_HERE if keras.backend.backend() == "torch" else TRIED)


NAMES = [pytest.param(name, marks=[pytest.mark.full] if is_left_to_full(name) else []) for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_a_computed_weight_passes_validation(name: str) -> None:
    layer, wrap = CASES[name]
    make, shape = LAYERS[layer]
    conversion = k3c.convert(made(make, wrap).eval(), inputs=torch.randn(shape))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    skipped = {section.name for section in conversion.report.with_status("skipped")}
    assert skipped <= {"hyperparameters"}  # no Keras layer has the weight of a torch layer
    assert len(conversion.model.trainable_variables) == len([*made(make, wrap).parameters()])
