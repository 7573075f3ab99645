"""A tensor that only one side stores, because the other cannot be without it: ones, or zeros."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Arrays, Shape, Shapes, exactly


@dataclass(frozen=True)
class Drop:
    """Leaves an array out that has one value everywhere; any other is refused.

    Args:
        value: The value: 1 for a scale, 0 for an offset.
        shape: The shape of the array.
    """

    value: int
    shape: Shape

    @property
    def lossless(self) -> bool:
        """Always, up to the dtype, which whoever writes chooses: an array that does not have the value is refused."""
        return True

    @property
    def inverse(self) -> "Fill":
        """Makes the array."""
        return Fill(self.value, self.shape)

    def shapes(self, shapes: Shapes) -> Shapes:
        """Nothing is left."""
        if exactly(1, shapes, self) != (self.shape,):
            raise TransformError(f"{self!r} does not fit shape {shapes[0]}")
        return ()

    def __call__(self, arrays: Arrays) -> Arrays:
        """Nothing; raises `TransformError` for an array with other values."""
        self.shapes(tuple(array.shape for array in arrays))
        if others := int(np.count_nonzero(arrays[0] != self.value)):
            raise TransformError(f"{self!r} would lose {others} values that are not {self.value}")
        return ()

    def to_json(self) -> dict[str, Any]:
        """`{"drop": value, "shape": shape}`."""
        return {"drop": self.value, "shape": list(self.shape)}


@dataclass(frozen=True)
class Fill:
    """Makes an array that has one value everywhere; the inverse of `Drop`."""

    value: int
    shape: Shape

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> Drop:
        """Leaves the array out."""
        return Drop(self.value, self.shape)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape."""
        exactly(0, shapes, self)
        return (self.shape,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """The array, of whole numbers of eight bits: they fit every dtype that it may be written to."""
        exactly(0, arrays, self)
        return (np.full(self.shape, self.value, np.int8),)

    def to_json(self) -> dict[str, Any]:
        """`{"fill": value, "shape": shape}`."""
        return {"fill": self.value, "shape": list(self.shape)}
