"""A few samples of a large batch, on which the noise is measured where nothing but the outputs is asked for.

What torch loses in float32 shows in a few samples as it does in the whole batch. The largest of fewer errors is no
larger, so a verdict by it is no milder; and where it would be "differs", the noise of the whole batch decides. That
holds for an output that has a value for every sample, made of that sample alone: of any other the whole batch decides.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.recording import Recording, flatten
from keras3conv.numerics.difference import judge, noise_floor
from keras3conv.transforms import Array

SHARE = 16
"""One of so many samples is run in float64, and at least one."""

WORTH = 4
"""Of fewer samples all are run in float64: one alone, in both dtypes, would cost as much."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The torch module on a few samples, the first ones of a batch.

    Attributes:
        run: In its own dtype.
        truth: In float64.
        whole: The whole batch, in its own dtype.
        told: How many samples of how many these are.
    """

    run: Recording
    truth: Recording
    whole: Recording
    told: str

    @cached_property
    def floors(self) -> dict[str, float]:
        """The noise floor of every output that the samples tell something of, by its name."""
        return {
            name: noise_floor(array, self.truth.outputs[name])
            for name, array in self.run.outputs.items()
            if name in self.whole.outputs and _is_part_of(array, self.whole.outputs[name], self.truth.outputs[name])
        }


def _is_part_of(few: Array, whole: Array, truth: Array) -> bool:
    """Whether an output has a row for every sample, and the samples alone give theirs, to the noise.

    A mean over the batch has no rows, and less noise than one sample has. A norm that measures the batch gives the
    samples other values when they are alone.
    """
    if not few.ndim or few.ndim != whole.ndim or few.shape[1:] != whole.shape[1:] or len(few) >= len(whole):
        return False
    return few.size > 0 and judge(whole[: len(few)], few, truth).passed


def a_few_samples(inputs: Inputs) -> tuple[Any, str] | None:
    """What torch is called with, cut to the first samples, and how many of how many these are; None for a few.

    The first axis is that of the samples if every array of both sides has it, and has the same values in it there: an
    axis of time, which torch may have first, is the second one in Keras.

    Args:
        inputs: What both sides are called with.
    """
    from keras3conv.frameworks.torch import module as torch_side

    ours = list(torch_side.input_arrays(inputs.torch).values())
    theirs = [_array(value) for _, value in flatten(inputs.keras, lambda item: hasattr(item, "shape"))]
    sizes = {array.shape[:1] for array in (*ours, *theirs)}
    if len(sizes) != 1 or sizes == {()} or len(ours) != len(theirs):
        return None
    ((size,),) = sizes
    number = max(1, size // SHARE)
    if size < WORTH or not all(_are_the_same(a[:number], b[:number]) for a, b in zip(ours, theirs, strict=True)):
        return None
    return _cut(inputs.torch, number), f"{number} of {size} samples"


def _array(value: Any) -> Array:
    from keras3conv.frameworks.keras import model as keras_side

    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else keras_side.to_numpy(value)


def _are_the_same(first: Array, second: Array) -> bool:
    """Whether two arrays have the same values, in whatever order."""
    return first.size == second.size and np.array_equal(np.sort(first, axis=None), np.sort(second, axis=None))


def _cut(value: Any, number: int) -> Any:
    if isinstance(value, dict):
        return {name: _cut(item, number) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_cut(item, number) for item in value)
    return value[:number] if hasattr(value, "shape") else value
