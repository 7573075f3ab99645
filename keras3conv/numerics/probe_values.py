"""Random weights for a probe: non-degenerate values from one seeded pool."""

from collections.abc import Mapping

import numpy as np

from keras3conv.model.views import TensorRef
from keras3conv.numerics.fingerprint import size_of
from keras3conv.transforms import Array, Shape

_SEED = 20240229


class Pool:
    """Random numbers that are drawn once: a tensor is a stretch of them, from anywhere, and begins again at the end.

    Drawing takes several times as long as scaling, and models have millions of numbers. How many there are is a prime
    number: no two rows of a tensor begin at the same one.
    """

    _SIZE = 1_000_003

    def __init__(self) -> None:
        self._generator = np.random.default_rng(_SEED)
        self._numbers = self._generator.uniform(-1.0, 1.0, self._SIZE)

    def between(self, low: float, high: float, shape: Shape) -> Array:
        """Numbers that are equally likely to be anywhere between two."""
        made = np.empty(size_of(shape))
        start, filled = int(self._generator.integers(self._SIZE)), 0
        while filled < made.size:
            stretch = self._numbers[start : start + made.size - filled]
            np.multiply(stretch, (high - low) / 2, out=made[filled : filled + stretch.size])
            start, filled = 0, filled + stretch.size
        if low != -high:
            made += (low + high) / 2
        return made.reshape(shape)


def probe(tensor: TensorRef, pool: Pool, *, stacked: bool = False) -> Array:
    """Values that hide nothing: no zero biases, no unit scales, no variances that swallow an epsilon.

    Matrices and kernels are scaled by their fan-in, so that a deep model neither fades out nor overflows.

    Args:
        tensor: The tensor.
        pool: The random numbers.
        stacked: Whether the tensor is as many matrices as its first axis is long, as those of experts are. As one
            matrix it would have values so small that nothing after it shows which they are.
    """
    shape = tensor.shape
    if "var" in tensor.role:
        return pool.between(0.5, 1.5, shape)
    if len(shape) >= 2:
        fan_in = max(1, *shape[1:]) if stacked else max(1, int(np.prod(shape[1:])))
        largest = float(np.sqrt(3 / fan_in))  # a variance of 1 / fan-in
        return pool.between(-largest, largest, shape)
    if tensor.role in ("weight", "scale", "gamma"):
        return pool.between(0.5, 1.5, shape)
    return pool.between(-0.5, 0.5, shape)


def other_values(values: Mapping[str, Array]) -> dict[str, Array]:
    """Values of the same kind that are all wrong: in another order, and larger."""
    generator = np.random.default_rng(_SEED)
    return {path: 1.5 * generator.permutation(array.ravel()).reshape(array.shape) for path, array in values.items()}
