"""Transforms that compute new values: the sum of several arrays, or an array plus a number."""

from dataclasses import dataclass

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, Arrays, OneArray, Shape, Shapes, Transform

_MOST_SUMMANDS = 10_000


@dataclass(frozen=True)
class _Summands(Transform):
    count: int

    def __post_init__(self) -> None:
        self._require_an_array(self.count)
        if self.count > _MOST_SUMMANDS:
            raise TransformError(
                f"{self!r} has count={self.count:,}, but `count`, the number of arrays that it takes, may be at most "
                f"{_MOST_SUMMANDS:,}"
            )


class Sum(_Summands):
    """Add several arrays of the same shape. Example: the two biases of an LSTM.

    Lossy: the inverse returns the sum as the first array and zeros as the other arrays. Their sum has the same bits.

    Args:
        count: The number of arrays.
    """

    lossless = False

    @property
    def loss(self) -> str:
        """Return a description of the values that the sum loses."""
        return f"only the sum of {self.count} tensors is kept, and no output depends on more"

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the sum; the arrays to add must have this shape."""
        self._require_count(self.count, shapes)
        self._require_equal(shapes)
        return shapes[:1]

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the sum of the arrays, computed in their dtype."""
        self._check(arrays)
        total = arrays[0]
        for array in arrays[1:]:
            total = total + array
        return (total,)


class Spread(_Summands, inverse_of=Sum):
    """Return the given array, followed by arrays of zeros of the same shape; the inverse of `Sum`."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the resulting arrays, all of which have the shape of the one argument."""
        return self._require_count(1, shapes) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return arrays whose sum is the given array: the array itself, and others filled with `-0.0`.

        They are not filled with `+0.0`, because the sum of `-0.0` and `+0.0` is `+0.0`.
        """
        (array,) = self._require_count(1, arrays)
        return (array, *(np.negative(np.zeros_like(array)) for _ in range(self.count - 1)))


class Equal(_Summands):
    """Replace several equal arrays by one array; raise `TransformError` if they differ.

    Args:
        count: The number of arrays.
    """

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the one array that replaces the equal arrays; they must all have this shape."""
        self._require_count(self.count, shapes)
        self._require_equal(shapes)
        return shapes[:1]

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the first array; raise `TransformError` if another array is not equal to it."""
        self._check(arrays)
        if any(not np.array_equal(arrays[0], array, equal_nan=array.dtype.kind == "f") for array in arrays[1:]):
            raise TransformError(
                f"{self!r} takes arrays with equal values, but these differ, so the values of one would be lost"
                ": pair one of them only"
            )
        return arrays[:1]


class Copies(_Summands, inverse_of=Equal):
    """Return an array several times. Example: a table of positions that Keras stores twice, once for resizing."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the copies, all of which have the shape of the one argument."""
        return self._require_count(1, shapes) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the given array several times, once for each copy, without copying its data."""
        return self._require_count(1, arrays) * self.count


@dataclass(frozen=True)
class Shift(OneArray):
    """Add a whole number to every value. Example: `Shift(1)` turns a stored `scale - 1` into a normalization's scale.

    Lossy in both directions, because the sum is rounded. A value is rounded only once: `f(f.inverse(y)) == y`, bit for
    bit, for every `y` that `f` has made.

    Values of float16 and bfloat16 become float32, because the layers that store such weights also add in float32. In
    bfloat16, `0.01 + 1` would be rounded to 1.0078.

    Args:
        by: The number to add, not 0.
    """

    by: int

    lossless = False
    loss = "the values are rounded after an addition"

    def __post_init__(self) -> None:
        if not self.by:
            raise TransformError(f"{self!r} adds 0, which changes nothing: leave this transform out")

    @property
    def inverse(self) -> "Shift":
        """Return the transform that subtracts the number which this one adds."""
        return Shift(-self.by)

    def _shape(self, shape: Shape) -> Shape:
        return shape

    def _apply(self, array: Array, shape: Shape) -> Array:
        if array.dtype.kind in "biuc":
            raise TransformError(
                f"{self!r} takes floating-point numbers, not {array.dtype.name}: cast the array before"
            )
        is_wide = array.dtype.kind == "f" and array.dtype.itemsize >= 4
        values = array if is_wide else array.astype(np.float32)
        return values + values.dtype.type(self.by)
