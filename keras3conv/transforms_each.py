"""Several arrays of which each goes its own way."""

from dataclasses import dataclass, field
from typing import Any

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Arrays, Shapes, Transform, exactly


@dataclass(frozen=True, init=False)
class Beside:
    """Applies to every array a transform of its own: a query of twelve heads, and a key of four.

    Args:
        *transforms: One for each array; each makes one array of one.
    """

    transforms: tuple[Transform, ...] = field(default=())

    def __init__(self, *transforms: Transform) -> None:
        object.__setattr__(self, "transforms", transforms)

    def __repr__(self) -> str:
        return f"Beside({', '.join(map(repr, self.transforms))})"

    @property
    def lossless(self) -> bool:
        """If every transform is."""
        return all(transform.lossless for transform in self.transforms)

    @property
    def inverse(self) -> "Beside":
        """The inverses, in the same order."""
        return Beside(*(transform.inverse for transform in self.transforms))

    def shapes(self, shapes: Shapes) -> Shapes:
        """The transformed shapes, in the same order."""
        exactly(len(self.transforms), shapes, self)
        return tuple(self._one(transform.shapes((shape,))) for transform, shape in self._each(shapes))

    def __call__(self, arrays: Arrays) -> Arrays:
        """Transforms every array."""
        exactly(len(self.transforms), arrays, self)
        return tuple(self._one(transform((array,))) for transform, array in self._each(arrays))

    def _each(self, values: tuple[Any, ...]) -> Any:
        return zip(self.transforms, values, strict=True)

    def _one(self, results: tuple[Any, ...]) -> Any:
        if len(results) != 1:
            raise TransformError(
                f"{self!r} cannot be reversed: one of its transforms makes {len(results)} arrays of one"
            )
        return results[0]

    def to_json(self) -> dict[str, Any]:
        """`{"beside": [transform, ...]}`."""
        return {"beside": [transform.to_json() for transform in self.transforms]}
