"""Random weights for a probe: non-degenerate values from one seeded pool."""

from collections.abc import Mapping

import numpy as np

from keras3conv.model.views import TensorRef
from keras3conv.numerics.fingerprint import size_of
from keras3conv.transforms import Array, Shape

_SEED = 20240229


class Pool:
    """Random numbers that are drawn once; a tensor takes a range of them from a random start, and wraps around.

    Drawing takes several times as long as scaling, and models have millions of parameters. The number of numbers is a
    prime, so that no two rows of a tensor start at the same one.
    """

    _SIZE = 1_000_003

    def __init__(self) -> None:
        self._generator = np.random.default_rng(_SEED)
        self._numbers = self._generator.uniform(-1.0, 1.0, self._SIZE)

    def between(self, low: float, high: float, shape: Shape) -> Array:
        """Return uniform random numbers between `low` and `high`."""
        made = np.empty(size_of(shape))
        start, filled = int(self._generator.integers(self._SIZE)), 0
        while filled < made.size:
            numbers = self._numbers[start : start + made.size - filled]
            np.multiply(numbers, (high - low) / 2, out=made[filled : filled + numbers.size])
            start, filled = 0, filled + numbers.size
        if low != -high:
            made += (low + high) / 2
        return made.reshape(shape)


def probe(tensor: TensorRef, pool: Pool, *, stacked: bool = False) -> Array:
    """Return non-degenerate random values: no zero biases, no unit scales, no variances that hide an epsilon.

    Matrices and kernels are scaled by their fan-in, so that activations neither vanish nor overflow in a deep model.

    Args:
        tensor: The tensor.
        pool: The random numbers.
        stacked: Whether the first axis stacks independent matrices, as in a mixture of experts. Scaled as one matrix,
            its values would be too small to affect the output.
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
    """Return wrong values of the same kind: permuted, and larger."""
    generator = np.random.default_rng(_SEED)
    return {path: 1.5 * generator.permutation(array.ravel()).reshape(array.shape) for path, array in values.items()}
