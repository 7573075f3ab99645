"""Transforms made of transforms, and the one that does nothing."""

from dataclasses import dataclass, field
from typing import Any

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Arrays, Shapes, T, Transform


@dataclass(frozen=True)
class Same:
    """Leaves every array as it is."""

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> "Same":
        """Itself."""
        return self

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shapes that were given."""
        return shapes

    def __call__(self, arrays: Arrays) -> Arrays:
        """The arrays that were given."""
        return arrays

    def to_json(self) -> dict[str, Any]:
        """`{"same": true}`."""
        return {"same": True}


@dataclass(frozen=True, init=False, repr=False)
class Chain:
    """Applies transforms one after the other; its inverse is the chain of the inverses, reversed."""

    links: tuple[Transform, ...] = field(default=())

    def __init__(self, *links: Transform) -> None:
        object.__setattr__(self, "links", links)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.links))})"

    @property
    def lossless(self) -> bool:
        """If every link is."""
        return all(link.lossless for link in self.links)

    @property
    def inverse(self) -> "Chain":
        """The inverses, last one first."""
        return Chain(*(link.inverse for link in reversed(self.links)))

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shapes after the last link."""
        for link in self.links:
            shapes = link.shapes(shapes)
        return shapes

    def __call__(self, arrays: Arrays) -> Arrays:
        """Applies every link."""
        for link in self.links:
            arrays = link(arrays)
        return arrays

    def to_json(self) -> dict[str, Any]:
        """`{"chain": [...]}`."""
        return {"chain": [link.to_json() for link in self.links]}


@dataclass(frozen=True)
class Each:
    """Applies one transform of a single array to every array: three projections that are all transposed.

    A transform that makes more than one array of one is refused when it is applied: it could not be reversed.
    """

    transform: Transform

    @property
    def lossless(self) -> bool:
        """If the transform is."""
        return self.transform.lossless

    @property
    def inverse(self) -> "Each":
        """The inverse, for every array."""
        return Each(self.transform.inverse)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The transformed shapes, in the same order."""
        return tuple(result for shape in shapes for result in self._single(self.transform.shapes((shape,))))

    def __call__(self, arrays: Arrays) -> Arrays:
        """Transforms every array."""
        return tuple(result for array in arrays for result in self._single(self.transform((array,))))

    def _single(self, results: tuple[T, ...]) -> tuple[T, ...]:
        if len(results) != 1:
            raise TransformError(f"{self!r} cannot be reversed: {self.transform!r} makes {len(results)} arrays of one")
        return results

    def to_json(self) -> dict[str, Any]:
        """`{"each": transform}`."""
        return {"each": self.transform.to_json()}
