"""Define the form in which the indices of a max pooling are an argument of a call."""

from dataclasses import dataclass

from keras3conv.builder.program.program import Value
from keras3conv.model.graph import Shape


@dataclass(frozen=True, kw_only=True)
class Maxima:
    """The indices that a max pooling returns, for an unpooling. Windows do not overlap.

    Attributes:
        places: The index of the largest element in each window, of the flattened window.
        windows: The height and the width of a window.
        sizes: The height and the width of the image before the pooling.
    """

    places: Value
    windows: tuple[int, ...]
    sizes: tuple[int, int]

    @property
    def shape(self) -> Shape:
        """The shape of the indices, in torch's axis order."""
        return self.places.shape

    @property
    def dtype(self) -> str:
        """The dtype of the indices in torch."""
        return "int64"


TAKES_MAXIMA = frozenset({"max_unpool2d"})
"""The operators that take the indices of a max pooling."""
