"""Transforms that combine other transforms, and the identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, Arrays, Shapes, T, Transform, from_json
from keras3conv.transforms.one_sided import Drop, Fill


@dataclass(frozen=True)
class Same(Transform):
    """Return every array unchanged: the identity."""

    @property
    def inverse(self) -> "Same":
        """Return the transform itself: the inverse of the identity is the identity."""
        return self

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes unchanged, because the arrays are not changed."""
        return shapes

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the given arrays unchanged."""
        return arrays


@dataclass(frozen=True, init=False, repr=False)
class _Several(Transform):
    transforms: tuple[Transform, ...]

    def __init__(self, *transforms: Transform) -> None:
        object.__setattr__(self, "transforms", transforms)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.transforms))})"

    @property
    def lossless(self) -> bool:
        """Return True if all combined transforms are lossless: their inverses restore the same bits."""
        return all(transform.lossless for transform in self.transforms)

    @property
    def loss(self) -> str:
        """Return a description of the values that the transforms lose; empty if all are lossless."""
        return "; ".join(dict.fromkeys(transform.loss for transform in self.transforms if transform.loss))

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(*map(from_json, data[cls._key()]))


class Chain(_Several):
    """Apply transforms in sequence: each to the results of the one before it.

    Args:
        *transforms: The transforms; the first one is applied first.
    """

    @property
    def inverse(self) -> "Chain":
        """Return the chain of the inverse transforms, in reverse order."""
        return Chain(*(transform.inverse for transform in reversed(self.transforms)))

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the arrays that the last transform of the chain returns."""
        for transform in self.transforms:
            shapes = transform.shapes(shapes)
        return shapes

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the arrays that result from applying all transforms of the chain in sequence."""
        for transform in self.transforms:
            arrays = transform(arrays)
        return arrays


class Beside(_Several):
    """Apply a different transform to each array, in order. Example: a query with 12 heads, a key with 4 heads.

    Args:
        *transforms: One transform per array; each makes one array from one array. A `Fill` inserts an array and a
            `Drop` removes one, such as the bias that only the packed layer has.
    """

    @property
    def inverse(self) -> "Beside":
        """Return the transform that applies to each array the inverse of its own transform."""
        return Beside(*(transform.inverse for transform in self.transforms))

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the results, each computed by the transform of its own array."""
        return tuple(
            made for transform, given in self._pairs(shapes) for made in _one(transform.shapes(given), transform)
        )

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the arrays, each transformed by its own transform."""
        made: list[Array] = []
        for transform, given in self._pairs(arrays):
            result = _one(transform(given), transform)
            made += result if given or not arrays else [constant.astype(arrays[0].dtype) for constant in result]
        return tuple(made)

    def _pairs(self, items: tuple[T, ...]) -> list[tuple[Transform, tuple[T, ...]]]:
        """Return each transform with a tuple of its argument, one array or shape; the tuple of a `Fill` is empty.

        Args:
            items: The arrays, or their shapes, in the order of the transforms that take one.
        """
        wanted = [transform for transform in self.transforms if not isinstance(transform, Fill)]
        left = iter(self._require_count(len(wanted), items))
        return [(transform, () if isinstance(transform, Fill) else (next(left),)) for transform in self.transforms]


@dataclass(frozen=True)
class Each(Transform):
    """Apply the same transform to each array. Example: transpose query, key and value kernels.

    Args:
        transform: A transform that makes one array from one array.
    """

    transform: Transform

    @property
    def lossless(self) -> bool:
        """Return True if the transform of each array is lossless: its inverse restores the same bits."""
        return self.transform.lossless

    @property
    def loss(self) -> str:
        """Return a description of the values that each array's transform loses; empty if it is lossless."""
        return self.transform.loss

    @property
    def inverse(self) -> "Each":
        """Return the transform that applies the inverse to each array."""
        return Each(self.transform.inverse)

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the results, each computed by the same transform."""
        return tuple(_only(self.transform.shapes((shape,)), self.transform) for shape in shapes)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the arrays, each transformed by the same transform."""
        return tuple(_only(self.transform((array,)), self.transform) for array in arrays)


def each_of(transforms: Sequence[Transform]) -> Transform:
    """Return the transform that applies to each array its own transform: `Each` if all are equal, else `Beside`."""
    same = all(transform == transforms[0] for transform in transforms)
    return Each(transforms[0]) if same else Beside(*transforms)


def _one(results: tuple[T, ...], transform: Transform) -> tuple[T, ...]:
    """Return the result of one transform in `Beside` or `Each`: one array or shape, or none for a `Drop`.

    Any other number raises `TransformError`.

    Args:
        results: The arrays, or their shapes, that the transform has returned.
        transform: The transform, for the message of the error.
    """
    return results if isinstance(transform, Drop) else (_only(results, transform),)


def _only(results: tuple[T, ...], transform: Transform) -> T:
    if len(results) != 1:
        raise TransformError(
            f"{transform!r} makes {len(results)} arrays from one array, but inside `Each` or `Beside` it must make one"
            ": use Chain, or one transform per array"
        )
    return results[0]
