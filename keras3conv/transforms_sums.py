"""Several arrays that are one as their sum: the only transform that loses something, and says so."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.transforms_base import Arrays, Shapes, exactly, require_any, require_one_shape


@dataclass(frozen=True)
class Sum:
    """Adds several arrays of one shape: the two biases of an LSTM. Lossy, and says so.

    Going back puts the whole sum into the first array and zeros into the others, so that
    `f(f.inverse(y)) == y` still holds bit for bit.
    """

    count: int

    def __post_init__(self) -> None:
        require_any(self.count, self)

    @property
    def lossless(self) -> bool:
        """Never: the summands are gone."""
        return False

    @property
    def inverse(self) -> "Spread":
        """Puts the sum into the first array."""
        return Spread(self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape that all arrays have."""
        exactly(self.count, shapes, self)
        require_one_shape(shapes, self)
        return shapes[:1]

    def __call__(self, arrays: Arrays) -> Arrays:
        """Adds the arrays, in their own dtype."""
        self.shapes(tuple(array.shape for array in arrays))
        total = arrays[0]
        for array in arrays[1:]:
            total = total + array
        return (total,)

    def to_json(self) -> dict[str, Any]:
        """`{"sum": count}`."""
        return {"sum": self.count}


@dataclass(frozen=True)
class Spread:
    """Makes `(y, 0, ...)` of `y`; the inverse of `Sum`."""

    count: int

    def __post_init__(self) -> None:
        require_any(self.count, self)

    @property
    def lossless(self) -> bool:
        """Always: the sum is `y` again."""
        return True

    @property
    def inverse(self) -> Sum:
        """Adds the arrays."""
        return Sum(self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape, once for every array."""
        return exactly(1, shapes, self) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """The array and zeros. The zeros are negative ones: `-0.0 + 0.0` would lose the sign of a zero."""
        (array,) = exactly(1, arrays, self)
        return (array, *(np.negative(np.zeros_like(array)) for _ in range(self.count - 1)))

    def to_json(self) -> dict[str, Any]:
        """`{"spread": count}`."""
        return {"spread": self.count}
