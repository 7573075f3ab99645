"""Recognise differences that come from constants that one side stores as float32 and the other as Python numbers.

A float64 run reveals them: 0.485 as float32 differs from 0.485 by 3e-8 of its value. The deployed models compute in
float32, so the difference is not a mistake.
"""

from keras3conv.validators.running.subject import Subject

LARGEST = 2.0**-21
"""Largest relative difference that the rounding of a few constants to float32 may cause: eight times their rounding."""

NOTE = "rounding: constants that one side stores as float32"


def may_be_rounded(subject: Subject, difference: float) -> bool:
    """Return whether a difference is as small as float32 rounding of constants, and one side has rounded constants."""
    return difference <= LARGEST and bool(float32_constants(subject))


def float32_constants(subject: Subject) -> tuple[str, ...]:
    """Return the names of the constants, on both sides, that are stored as rounded float32 numbers."""
    from keras3conv.frameworks.keras.constants import float32_constants as of_keras
    from keras3conv.frameworks.torch.constants import float32_constants as of_torch

    mapped = {path for mapping in subject.plan.mappings for path in mapping.torch}
    return (*of_torch(subject.torch, mapped), *of_keras(subject.keras))
