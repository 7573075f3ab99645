"""Define the base class of every transform, which derives the JSON form and the inverse from the dataclass fields."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from inspect import isabstract
from operator import index
from typing import Any, ClassVar, TypeVar, get_type_hints

from numpy.typing import NDArray

from keras3conv.errors import TransformError, quoted
from keras3conv.messages import count

Array = NDArray[Any]
Arrays = tuple[Array, ...]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]

T = TypeVar("T")

_LARGEST = 1 << 40

_CLASSES: dict[str, type["Transform"]] = {}
"""Every transform class by the key of its JSON form: its name in lower case."""


@dataclass(frozen=True)
class Transform(ABC):
    """A reversible map from a tuple of arrays to a tuple of arrays.

    A new transform is a frozen dataclass that defines `shapes` and `__call__`. The rest is derived:

    - The JSON form has one key per field. The main field has the class name as its key: `Take(axis=0, order=(1, 0))` is
      `{"take": [1, 0], "axis": 0}`. The last field is the main field unless the class variable `main_field` names it.
    - The inverse is the other class of a pair with the same fields: `class Concat(Transform, inverse_of=Split)`.
      Classes that are not in a pair define `inverse`.
    - A transform is lossless unless its class sets `lossless = False`; `loss` then describes the lost values.
    """

    main_field: ClassVar[str] = ""
    _inverse_class: ClassVar[Callable[..., "Transform"] | None] = None

    def __init_subclass__(cls, *, inverse_of: type["Transform"] | None = None) -> None:
        super().__init_subclass__()
        other = _CLASSES.setdefault(cls._key(), cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TransformError(
                f"two transform classes have the name {cls.__name__}, which is their key in JSON: rename one of them"
            )
        _CLASSES[cls._key()] = cls
        if inverse_of is not None:
            cls._inverse_class, inverse_of._inverse_class = inverse_of, cls

    @property
    def lossless(self) -> bool:
        """Return True if the inverse restores the arguments bit for bit: `f.inverse(f(x)) == x`."""
        return True

    @property
    def loss(self) -> str:
        """Return a description of the values that the transform loses; empty if it is lossless."""
        return "" if self.lossless else "the inverse does not restore every value"

    @property
    def inverse(self) -> "Transform":
        """Return the inverse transform: it turns the results back into the arguments."""
        if self._inverse_class is None:
            name = type(self).__name__
            raise TransformError(
                f"{self!r} has no inverse: define the property `inverse` in {name}, or define the inverse as a class: "
                f"class Un{name}(Transform, inverse_of={name})"
            )
        return self._inverse_class(**{field.name: getattr(self, field.name) for field in fields(self)})

    @abstractmethod
    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the results from the shapes of the arguments, without data.

        Raises:
            TransformError: The transform cannot be applied to arrays of these shapes.
        """

    @abstractmethod
    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the transformed arrays, as a tuple.

        Raises:
            TransformError: The transform cannot be applied to this number of arrays, these shapes or these values.
        """

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object from which `from_json` makes an equal transform."""
        values = {field.name: _to_json(getattr(self, field.name)) for field in fields(self)}
        main_value = values.pop(self._main_field(), True)
        return {self._key(): main_value, **values}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> "Transform":
        main_field = cls._main_field()
        make: Callable[..., Transform] = cls
        return make(
            **{name: read(data[cls._key() if name == main_field else name]) for name, read in _readers(cls).items()}
        )

    def _require_count(self, wanted: int, values: tuple[T, ...]) -> tuple[T, ...]:
        """Return arrays or shapes unchanged; raise `TransformError` unless their number is the wanted one.

        Args:
            wanted: The number.
            values: The arrays or shapes.
        """
        if len(values) != wanted:
            raise TransformError(f"{self!r} takes {count(wanted, 'array')}, not {len(values)}")
        return values

    def _require_equal(self, shapes: Shapes) -> None:
        if len(set(shapes)) != 1:
            raise self._misfit("the shapes must be equal", *shapes)

    def _require_an_array(self, arrays: int) -> None:
        """Raise `TransformError` if the number of arrays is 0: the inverse could not know which shape to return."""
        if arrays < 1:
            raise TransformError(f"{self!r} cannot be reversed: it needs at least one array; pass one or more")

    def _check(self, arrays: Arrays) -> None:
        """Raise `TransformError` if the transform cannot be applied to arrays of these shapes."""
        self.shapes(tuple(array.shape for array in arrays))

    def _axis(self, shape: Shape, axis: int, *, multiple_of: int = 1) -> int:
        """Return the index of an axis, counted from the front: 2 for axis -1 of a shape with three axes.

        Args:
            shape: The shape of the array.
            axis: The index of the axis, which may be negative.
            multiple_of: The number of which the size of the axis must be a multiple.

        Raises:
            TransformError: The axis does not exist, or its size is not a multiple of `multiple_of`.
        """
        if not -len(shape) <= axis < len(shape):
            raise self._misfit(f"there is no axis {axis}", shape)
        if shape[axis] % multiple_of:
            raise self._misfit(f"the size of axis {axis}, {shape[axis]}, is not a multiple of {multiple_of}", shape)
        return axis % len(shape)

    def _misfit(self, reason: str, *shapes: Shape) -> TransformError:
        noun = "shape" if len(shapes) == 1 else "shapes"
        return TransformError(f"{self!r} does not fit {noun} {', '.join(map(str, shapes))}: {reason}")

    @classmethod
    def _key(cls) -> str:
        return cls.__name__.lower()

    @classmethod
    def _main_field(cls) -> str:
        return cls.main_field or next((field.name for field in reversed(fields(cls))), "")


class OneArray(Transform):
    """A transform from one array to one array: subclasses define `_shape` and `_apply`."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the resulting array, in a tuple."""
        (shape,) = self._require_count(1, shapes)
        return (self._shape(shape),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the transformed array."""
        (array,) = self._require_count(1, arrays)
        return (self._apply(array, self._shape(array.shape)),)

    @abstractmethod
    def _shape(self, shape: Shape) -> Shape:
        """Return the shape of the resulting array.

        Raise `TransformError` if an array of the given shape does not fit.
        """

    @abstractmethod
    def _apply(self, array: Array, shape: Shape) -> Array:
        """Return the transformed array.

        Args:
            array: The array to transform.
            shape: The shape that the result must have.
        """


def from_json(data: Any) -> Transform:
    """Return the transform that `to_json` wrote as a JSON object.

    Raises:
        TransformError: The data is not the JSON form of a transform.
    """
    keys = [key for key in _CLASSES if isinstance(data, Mapping) and key in data]
    if len(keys) != 1:
        known = ", ".join(key for key, cls in _CLASSES.items() if not isabstract(cls))
        raise TransformError(f"the JSON {quoted(data)} is not a transform; the known transforms are {known}")
    try:
        return _CLASSES[keys[0]]._from_json(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise TransformError(f"the JSON {quoted(data)} is not a transform: {error}") from None


def _bounded(value: Any) -> int:
    """Return a JSON value that is a whole number between -2**40 and 2**40; raise `TypeError` for any other value."""
    number = index(value)
    if isinstance(value, bool) or abs(number) > _LARGEST:
        raise TypeError(f"{quoted(value)} is not a whole number of at most 2**40, as a size or an axis must be")
    return number


_READERS: dict[Any, Callable[[Any], Any]] = {
    int: _bounded,
    tuple[int, ...]: lambda values: tuple(map(_bounded, values)),
    Transform: from_json,
}
"""For each type of a dataclass field, the function that converts the JSON value of such a field."""


@cache
def _readers(cls: type[Transform]) -> dict[str, Callable[[Any], Any]]:
    hints = get_type_hints(cls)
    if unknown := [field.name for field in fields(cls) if hints[field.name] not in _READERS]:
        raise TypeError(
            f"the attribute {unknown[0]} of the transform {cls.__name__} has the type {hints[unknown[0]]}, which "
            "cannot be written as JSON"
        )
    return {field.name: _READERS[hints[field.name]] for field in fields(cls)}


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value.to_json() if isinstance(value, Transform) else value


def resized(shape: Shape, axis: int, *sizes: int) -> Shape:
    """Return a shape with one axis replaced by axes of the given sizes: `resized((4, 6), 1, 2, 3)` is `(4, 2, 3)`.

    Args:
        shape: The shape.
        axis: The index of the axis, counted from the front.
        *sizes: The sizes of the new axes.
    """
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def sliced(array: Array, axis: int, part: slice) -> Array:
    """Return a view of an array that is sliced along one axis: `sliced(array, 1, slice(0, 3))` is `array[:, 0:3]`.

    Args:
        array: The array.
        axis: The index of the axis.
        part: The slice of this axis, such as `slice(0, 3)`.
    """
    index = [slice(None)] * array.ndim
    index[axis] = part
    return array[tuple(index)]
