"""What every transform is: a reversible map from a tuple of arrays to a tuple of arrays."""

from typing import Any, Protocol, TypeVar, runtime_checkable

from numpy.typing import NDArray

from keras3conv.errors import TransformError

Array = NDArray[Any]
Arrays = tuple[Array, ...]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]

T = TypeVar("T")


@runtime_checkable
class Transform(Protocol):
    """A reversible map from a tuple of arrays to a tuple of arrays."""

    @property
    def lossless(self) -> bool:
        """Whether `f.inverse(f(x)) == x`, bit for bit."""

    @property
    def inverse(self) -> "Transform":
        """The transform of the other direction."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shapes of the results, from the shapes of the arguments, without data."""

    def __call__(self, arrays: Arrays) -> Arrays:
        """Transforms the arrays."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` makes an equal transform."""


def exactly(count: int, values: tuple[T, ...], transform: object) -> tuple[T, ...]:
    """The values, if there are as many as a transform takes; else `TransformError`."""
    if len(values) != count:
        raise TransformError(f"{transform!r} takes {count} arrays, not {len(values)}")
    return values


def axis_of(shape: Shape, axis: int, transform: object) -> int:
    """An axis counted from the front; raises `TransformError` if the shape does not have it."""
    if not -len(shape) <= axis < len(shape):
        raise TransformError(f"{transform!r} does not fit shape {shape}: there is no axis {axis}")
    return axis % len(shape)


def require_one_shape(shapes: Shapes, transform: object) -> None:
    """Raises `TransformError` if the shapes differ."""
    if len(set(shapes)) != 1:
        raise TransformError(f"{transform!r} does not fit shapes {', '.join(map(str, shapes))}: they differ")


def require_any(count: int, transform: object) -> None:
    """Raises `TransformError` for a transform of no arrays: there would be nothing to come back to."""
    if count < 1:
        raise TransformError(f"{transform!r} cannot be reversed: it needs at least one array")
