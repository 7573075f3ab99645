"""Transforms between complex numbers and pairs of real numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, OneArray, Shape

_REAL: dict[str, np.dtype[Any]] = {"complex64": np.dtype(np.float32), "complex128": np.dtype(np.float64)}
_COMPLEX: dict[np.dtype[Any], np.dtype[Any]] = {real: np.dtype(name) for name, real in _REAL.items()}


@dataclass(frozen=True)
class ComplexParts(OneArray):
    """Store the real and the imaginary part of complex numbers along a new last axis, as `torch.view_as_real` does.

    Example: the weights of a Fourier layer, of shape (8, 8) and dtype complex64, become (8, 8, 2) in float32.
    """

    def _shape(self, shape: Shape) -> Shape:
        return (*shape, 2)

    def _apply(self, array: Array, shape: Shape) -> Array:
        real = _REAL.get(array.dtype.name)
        if real is None:
            raise TransformError(f"{self!r} takes complex numbers, not {array.dtype.name}")
        return np.ascontiguousarray(array).view(real).reshape(shape)


@dataclass(frozen=True)
class FromComplexParts(OneArray, inverse_of=ComplexParts):
    """Join real and imaginary parts, which are in the last axis of size two, to complex numbers."""

    def _shape(self, shape: Shape) -> Shape:
        if shape[-1:] != (2,):
            raise self._misfit("the last axis must have the size 2, for the real and the imaginary parts", shape)
        return shape[:-1]

    def _apply(self, array: Array, shape: Shape) -> Array:
        joined = _COMPLEX.get(array.dtype)
        if joined is None:
            raise TransformError(f"{self!r} takes float32 or float64 numbers, not {array.dtype.name}")
        return np.ascontiguousarray(array).view(joined).reshape(shape)
