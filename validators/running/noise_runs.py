"""Measure torch's rounding error again: rounded where Keras rounds, and with slightly changed weights and inputs.

Keras' algorithm may round at other places than torch's, and by more.

The noise floor of an output is the largest rounding error of its values. For an output with few values, it can be small
by chance; then the rounding error of another implementation looks like a mistake. Slightly changed weights and inputs
(by a millionth) give independent rounding errors of the same size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from keras3conv.formats.safe.source import dtype_named
from keras3conv.frameworks.shared.inputs_scaled import nudged
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.difference import noise_floor, resolution
from keras3conv.numerics.judgement import Judgement
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

REPEATS = 8
"""The number of measurements after the first one."""

_STEP = 2.0**-20
"""Relative change of weights and inputs: far larger than rounding, far too small to change a layer's behaviour."""

_BY_CHANCE = 64.0
"""The largest factor by which a measured noise floor may be too small by chance."""


def may_be_chance(judgement: Judgement | None) -> bool:
    """Return whether a difference exceeds its limit by so little that the measured rounding error may be too small."""
    if judgement is None or judgement.passed or not judgement.floor:
        return False
    return judgement.deviation <= _BY_CHANCE * judgement.limit


def with_larger_floor(judgement: Judgement, rounded: Array | None, exact: Array | None) -> Judgement:
    """Return a judgement by the larger of two noise floors: its own, and that of another pair of torch runs.

    Args:
        judgement: The judgement of an output.
        rounded: The output in another run of torch, in the dtype of the module; None if that run lacks it.
        exact: The same output in float64; `rounded - exact` is the new noise floor.
    """
    if rounded is None or exact is None or rounded.shape != exact.shape:
        return judgement
    return replace(judgement, floor=max(noise_floor(rounded, exact), judgement.floor or 0.0))


def narrow_dtype(subject: Subject) -> str:
    """Return the half-precision dtype ("float16", "bfloat16") in which Keras layers compute; empty if none does."""
    from keras3conv.frameworks.keras import model as keras_side

    return keras_side.narrow_compute_dtype(subject.keras)


def rounded_as_keras(subject: Subject) -> Recording:
    """Run torch with its own weights, and round where Keras does; return the run."""
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import module as torch_side

    device, squares = torch_side.device_of(subject.torch), keras_side.backend() == "torch"
    rounding = torch_side.rounding_of_keras(subject.once(narrow_dtype), device, squares=squares)
    return subject.run_torch(rounding=rounding)


def rounded_floor(subject: Subject, rounded: Array, truth: Array) -> float:
    """Return the noise floor (largest rounding error) of an output, if torch rounds where Keras does.

    It is at least the resolution of `narrow_dtype`.

    Args:
        subject: The two models.
        rounded: The output in the run `rounded_as_keras`.
        truth: The same output in the float64 run `torch_truth`.
    """
    narrow = subject.once(narrow_dtype)
    return noise_floor(rounded, truth, resolution(np.zeros(0, dtype_named(narrow))) if narrow else None)


@dataclass(frozen=True)
class NoiseRuns:
    """Pairs of torch runs in the module's own dtype and in float64; each pair has different weights and inputs.

    Each pair is run when an iteration first reaches it; later iterations use it again.

    Attributes:
        subject: The two models.
    """

    subject: Subject

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
        from keras3conv.frameworks.torch.module import floating_tensors

        step, weights = _STEP * (number + 1), floating_tensors(self.subject.torch)
        inputs = nudged(self.subject.required_inputs, 1 + step).torch
        run = partial(
            self.subject.run_torch,
            inputs=inputs,
            tensors={path: _nudged(array, step, number) for path, array in weights.items()},
        )
        return run(), run(float64=True)


def _nudged(array: Array, step: float, number: int) -> Array:
    """Return an array with every value changed by at most `step`, relative to the value, in the dtype of the array.

    The change depends on the index of the value and on `number` only, so that tied weights stay equal.
    """
    factors = 1 + step * np.cos(np.arange(array.size) + number).reshape(array.shape)
    return np.asarray((array.astype(np.float64) * factors).astype(array.dtype))
