"""Convert each old Keras file once, for all tests that use it."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import torch

import keras3conv as k3c
from tests.world.files import OldFile


@dataclass(frozen=True)
class Converted:
    """A file with the torch module converted from it."""

    file: OldFile
    conversion: Any

    @property
    def module(self) -> Any:
        """The torch module, with the calling convention of Keras."""
        return self.conversion.model

    def returned(self, module: Any) -> list[Any]:
        """Return the outputs of a module for the golden inputs."""
        with torch.no_grad():
            found = module.eval()(*map(torch.from_numpy, self.file.arrays("input")))
        return [one.numpy() for one in keras.tree.flatten(found)]


@cache
def converted(file: OldFile) -> Converted:
    """Convert a file without a certificate, because the golden outputs check it."""
    return Converted(file, k3c.convert(file.path, weights=file.weights, channels="last", validate=False))


def assert_golden(found: list[Any], file: OldFile) -> None:
    """Assert that outputs equal the golden outputs up to float32 noise."""
    expected = file.arrays("output")
    assert [one.shape for one in found] == [one.shape for one in expected]
    for one, other in zip(found, expected, strict=True):
        scale = float(np.abs(other).max()) or 1.0
        np.testing.assert_allclose(one, other, rtol=0, atol=4e-6 * max(1.0, scale))
