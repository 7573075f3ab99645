"""Recognise differences due to numbers that only one model rounds to float32: constants, or angles of sines.

A float64 run reveals them: 0.485 as float32 differs from 0.485 by 3e-8 of its value. The deployed models compute in
float32, so the difference is not a mistake.

A time embedding is the sine of a time multiplied by frequencies. If one side stores the frequencies as float32, an
angle of 1000 is off by 3e-5, and so is its sine. The deployed models round such angles on both sides. So such a
difference is no mistake if the angles of both models agree up to the rounding of float32, and if the models agree as
soon as both round their angles in the same way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

LARGEST = 2.0**-21
"""Largest relative difference that the rounding of a few constants to float32 may cause: eight times their rounding."""

CONSTANTS = "rounding: constants that one side stores as float32"


def may_be_rounded(subject: Subject, difference: float, change: Callable[[], float] | None = None) -> bool:
    """Return whether a difference is as small as float32 rounding of constants, and one side has rounded constants.

    Large values amplify such a difference: with scores a thousand times as large, an attention changes a thousand times
    as much with a rotary table. In such a run a difference may be as large as the effect of another small change.

    Args:
        subject: The models.
        difference: The relative difference.
        change: For a run with large values, returns the relative change of the same output when all inputs and weights
            change by a millionth, which is 16 times the rounding of a number to float32.
    """
    if not float32_constants(subject):
        return False
    return difference <= LARGEST or (change is not None and difference <= change())


def float32_constants(subject: Subject) -> tuple[str, ...]:
    """Return the names of the constants, on both sides, that are stored as rounded float32 numbers."""
    from keras3conv.frameworks.keras.constants import float32_constants as of_keras
    from keras3conv.frameworks.torch.rounding import float32_constants as of_torch

    mapped = {path for mapping in subject.plan.mappings for path in mapping.torch}
    return (*of_torch(subject.torch, mapped), *of_keras(subject.keras))


SINES = "with the angles of sines rounded alike, which one side has rounded to float32"


@contextmanager
def sines_rounded(subject: Subject) -> Iterator[Subject | None]:
    """Round the angles of sines alike on both sides while the block runs.

    Yields:
        A copy of the subject, whose runs are to be made in the block; None if the angles of the two models differ by
        more than the rounding of float32, if the models compute no sines, or if Keras does not run on torch.
    """
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch.rounding import RoundedSines

    if keras_side.backend() != "torch":
        yield None
        return
    other = replace(subject)
    with RoundedSines() as mode:
        other.torch_probe  # noqa: B018 - the run is made now
        of_torch = mode.take_angles()
        if not len(of_torch):  # most models: the run of Keras would be for nothing
            yield None
            return
        other.keras_probe  # noqa: B018 - the run is made now
        of_keras = mode.take_angles()
        yield other if _differ_by_rounding(of_torch, of_keras) else None


def _differ_by_rounding(first: Array, second: Array) -> bool:
    """Return whether sorted angles differ, and each has a counterpart on the other side up to rounding to float32."""
    if not len(first) or not len(second) or np.array_equal(first, second):
        return False
    return _all_near(first, second) and _all_near(second, first)


def _all_near(values: Array, others: Array) -> bool:
    places = np.searchsorted(others, values)
    near = [others[np.clip(places + shift, 0, len(others) - 1)] for shift in (-1, 0)]
    distance = np.minimum(*(np.abs(values - one) for one in near))
    return bool(np.all(distance <= LARGEST * np.abs(values)))
