"""Define the forms in which a tensor is an argument of a torch operator: computed, constant, a parameter, or others."""

from dataclasses import dataclass

from keras3conv.builder.program.program import Value
from keras3conv.model.graph import Parameter, Shape
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant tensor of the call graph, which depends on no input.

    Attributes:
        name: Its name in the graph.
        array: Its values; an axis along which one value is repeated for every sample has size one.
        shape: Its shape in the graph, which may contain a dynamic size.
    """

    name: str
    array: Array
    shape: Shape

    @property
    def dtype(self) -> str:
        """The dtype of the constant in the Keras model: float32 for floating-point constants."""
        return "float32" if self.array.dtype.kind == "f" else self.array.dtype.name


@dataclass(frozen=True, kw_only=True)
class Held:
    """A parameter or buffer of the torch module as an argument of an operator; in Keras, it must be a layer's variable.

    Attributes:
        parameter: The parameter.
        is_shared: Whether several layers use it. One Keras layer then owns it, and the others take its output.
    """

    parameter: Parameter
    is_shared: bool = False

    @property
    def path(self) -> str:
        """The path of the parameter in the module."""
        return self.parameter.path

    @property
    def is_complex(self) -> bool:
        """True if the parameter has complex numbers."""
        return self.parameter.tensor.dtype.startswith("complex")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter; complex numbers are pairs of real numbers in a new last axis, as in Keras."""
        sizes = tuple(size for size in self.parameter.tensor.shape if isinstance(size, int))
        return (*sizes, 2) if self.is_complex else sizes

    @property
    def owner(self) -> str:
        """The path of the submodule that owns the parameter."""
        return self.path.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Complex:
    """A tensor of complex numbers, as two real values of one shape and axis order.

    Attributes:
        real: The real parts.
        imaginary: The imaginary parts.
    """

    real: Value
    imaginary: Value

    @property
    def shape(self) -> Shape:
        """The shape of the complex tensor, in torch's axis order."""
        return self.real.shape

    @property
    def dtype(self) -> str:
        """The name of the complex dtype, such as "complex64"."""
        return "complex64"


@dataclass(frozen=True, kw_only=True)
class Unmerged:
    """A tensor whose axes torch has merged by a reshape, although they are not adjacent in Keras' axis order.

    Keras would have to permute the data to merge these axes. They stay separate until an operation needs the merged
    axis.

    Attributes:
        parts: The tensor before the axes are merged.
        groups: For each axis of the merged tensor, the axes of `parts` that it is merged from: ((0,), (1, 2)).
        shape: The shape of the merged tensor, in torch's axis order.
    """

    parts: Value
    groups: tuple[tuple[int, ...], ...]
    shape: Shape

    @property
    def dtype(self) -> str:
        """The name of the tensor's dtype, such as "float32"."""
        return self.parts.dtype


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

Given = Value | Constant | Held | Complex | Unmerged | Maxima
"""The forms that a tensor has in the arguments of a call."""

FORMS = {
    "Complex": "complex numbers",
    "Maxima": "the indices of a max pooling, which only an unpooling can take",
    "NoneType": "a result of another operator that Keras does not compute",
}
"""The forms of arguments that are no tensors of real numbers, in words."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The tensors of equal shape that a value was concatenated or stacked from.

    Attributes:
        values: The tensors, in order.
        place: The position, in Keras' axis order, of the axis along which they were concatenated or stacked.
    """

    values: tuple[Value, ...]
    place: int
