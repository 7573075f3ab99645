"""Measure torch's rounding error several times, with weights and inputs that differ by a millionth.

The noise floor of an output is the largest rounding error of its values. For an output with few values, it can be small
by chance; then the rounding error of another implementation looks like a mistake. Slightly changed weights and inputs
give independent rounding errors of the same size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.inputs_scaled import nudged
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.judgement import Judgement
from keras3conv.transforms import Array

REPEATS = 8
"""The number of measurements after the first one."""

_STEP = 2.0**-20
"""Relative change of weights and inputs: far larger than rounding, far too small to change a layer's behaviour."""

_BY_CHANCE = 64.0
"""The largest factor by which a measured noise floor may be too small by chance."""


class _Run(Protocol):
    """A function that runs the torch module with the given weights and inputs."""

    def __call__(self, inputs: Any, tensors: Mapping[str, Array], *, float64: bool) -> Recording: ...


def may_be_chance(judgement: Judgement | None) -> bool:
    """Return whether a difference exceeds its limit by so little that the measured rounding error may be too small."""
    if judgement is None or judgement.passed or not judgement.floor:
        return False
    return judgement.deviation <= _BY_CHANCE * judgement.limit


@dataclass(frozen=True, kw_only=True)
class NoiseRuns:
    """Pairs of torch runs in the module's own dtype and in float64; each pair has different weights and inputs.

    Each pair is run when an iteration first reaches it; later iterations use it again.

    Attributes:
        run: Runs the torch module.
        weights: Returns the floating-point tensors of the module by path.
        inputs: The inputs of both sides.
    """

    run: _Run
    weights: Callable[[], Mapping[str, Array]]
    inputs: Inputs

    def __iter__(self) -> Iterator[tuple[Recording, Recording]]:
        for number in range(REPEATS):
            if number == len(self._made):
                self._made.append(self._pair(number))
            yield self._made[number]

    @cached_property
    def _made(self) -> list[tuple[Recording, Recording]]:
        return []

    def _pair(self, number: int) -> tuple[Recording, Recording]:
        """Run the module in its own dtype and in float64; `number` seeds the slight change of weights and inputs."""
        step = _STEP * (number + 1)
        inputs = nudged(self.inputs, 1 + step).torch
        tensors = {path: _nudged(array, step, number) for path, array in self.weights().items()}
        return self.run(inputs, tensors, float64=False), self.run(inputs, tensors, float64=True)


def _nudged(array: Array, step: float, number: int) -> Array:
    """Return an array with every value changed by at most `step`, relative to the value, in the dtype of the array.

    The change depends on the index of the value and on `number` only, so that tied weights stay equal.
    """
    factors = 1 + step * np.cos(np.arange(array.size) + number).reshape(array.shape)
    return np.asarray((array.astype(np.float64) * factors).astype(array.dtype))
