"""A number added to every value: weights that one side keeps as their distance from one."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Array, Arrays, Shapes, exactly


@dataclass(frozen=True)
class Shift:
    """Adds a whole number to every value: `Shift(1)` makes the scale of a norm of its distance from one.

    The sum is rounded, so what is small against the number loses its last digits: lossy both ways, and says so. What
    was rounded once stays: `f(f.inverse(y)) == y` for every `y` that `f` made, bit for bit.

    Numbers of fewer than 32 bits become float32, in which the layers that keep such weights add them too: 1.01 has
    one digit after the point in bfloat16.

    Args:
        by: What is added.
    """

    by: int

    def __post_init__(self) -> None:
        if not self.by:
            raise TransformError(f"{self!r} changes nothing: leave it out")

    @property
    def lossless(self) -> bool:
        """Never: the sum is rounded."""
        return False

    @property
    def inverse(self) -> "Shift":
        """Subtracts the number."""
        return Shift(-self.by)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape that was given."""
        return exactly(1, shapes, self)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Adds the number; raises `TransformError` for values that are no real numbers."""
        (array,) = exactly(1, arrays, self)
        values = _at_least_float32(array, self)
        return (values + values.dtype.type(self.by),)

    def to_json(self) -> dict[str, Any]:
        """`{"shift": by}`."""
        return {"shift": self.by}


def _at_least_float32(array: Array, transform: object) -> Array:
    if array.dtype.kind in "biuc":
        raise TransformError(f"{transform!r} takes real numbers, not {array.dtype.name}")
    return array if array.dtype.kind == "f" and array.dtype.itemsize >= 4 else array.astype(np.float32)
