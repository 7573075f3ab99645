"""Draw random weights for the comparison of two models: all tensors differ, and no value vanishes or overflows."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from keras3conv.model.views import TensorRef
from keras3conv.numerics.fingerprint import size_of
from keras3conv.transforms import Array, Shape

_SEED = 20240229


@lru_cache(maxsize=1)
def _drawn(size: int) -> tuple[Array, Mapping[str, Any]]:
    """Return random numbers between -1 and 1, and the state of the generator after them.

    They are drawn once per process, and every caller gets the same ones: to draw them takes longer than to validate a
    small model.
    """
    generator = np.random.default_rng(_SEED)
    numbers = generator.uniform(-1.0, 1.0, size)
    numbers.flags.writeable = False
    return numbers, generator.bit_generator.state


class Pool:
    """A pool of random numbers, drawn once, from which the random weights of all tensors are taken.

    A tensor gets consecutive numbers from a random index on; after the last number follows the first. Drawing a number
    takes several times as long as scaling it, and models have millions of weights. The size of the pool is prime, so
    that no two rows of a tensor begin at the same number.
    """

    _SIZE = 1_000_003

    def __init__(self) -> None:
        self._numbers, state = _drawn(self._SIZE)
        self._generator = np.random.default_rng(_SEED)
        self._generator.bit_generator.state = state

    def between(self, low: float, high: float, shape: Shape) -> Array:
        """Return an array of random numbers of the pool, uniformly distributed between two limits."""
        made = np.empty(size_of(shape))
        start, filled = int(self._generator.integers(self._SIZE)), 0
        while filled < made.size:
            stretch = self._numbers[start : start + made.size - filled]
            np.multiply(stretch, (high - low) / 2, out=made[filled : filled + stretch.size])
            start, filled = 0, filled + stretch.size
        if low != -high:
            made += (low + high) / 2
        return made.reshape(shape)


def probe(tensor: TensorRef, pool: Pool, *, stacked: bool = False, own: Array | None = None) -> Array:
    """Return random values for a weight, with which a wrong conversion of it changes the outputs of the model.

    So no bias is 0, no scale is 1, and variances are small: a large one would hide a wrong epsilon. Matrices and
    kernels are scaled by their fan-in, so that the values of a deep model neither vanish nor overflow.

    Args:
        tensor: The weight; its name in the layer ("bias") and its shape determine the range of the values.
        pool: The random numbers.
        stacked: Whether the tensor stacks matrices along its first axis, as the weights of experts do. With the fan-in
            of one large matrix its values would be too small for later layers to depend on them visibly.
        own: The values of a tensor that is not trained. If none is negative, as in the filters of a spectrogram, the
            random values are not negative either: a model may take the logarithm of what it computes with them.
    """
    values = _signed(tensor, pool, stacked=stacked)
    return np.abs(values) if own is not None and own.size and own.min() >= 0 else values


def _signed(tensor: TensorRef, pool: Pool, *, stacked: bool) -> Array:
    """Return random values in the range for the name (such as "bias") and shape of a tensor; see `probe`."""
    shape = tensor.shape
    if "var" in tensor.role:
        return pool.between(0.5, 1.5, shape)
    if len(shape) >= 2:
        fan_in = max(1, *shape[1:]) if stacked else max(1, int(np.prod(shape[1:])))
        largest = float(np.sqrt(3 / fan_in))  # the variance is 1 / fan-in
        return pool.between(-largest, largest, shape)
    if tensor.role in ("weight", "scale", "gamma"):
        return pool.between(0.5, 1.5, shape)
    return pool.between(-0.5, 0.5, shape)


def other_values(values: Mapping[str, Array]) -> dict[str, Array]:
    """Return deliberately wrong weights: for each path the array with its values shuffled and multiplied by 1.5."""
    generator = np.random.default_rng(_SEED)
    return {path: 1.5 * generator.permutation(array.ravel()).reshape(array.shape) for path, array in values.items()}
