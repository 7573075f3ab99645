"""List the layers of a large file by form (class and tensor shapes), without an object for each of 100,000 layers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from keras3conv.model.views import LayerView


@dataclass(frozen=True)
class Forms:
    """Layers by form: layers of one form have the same class, and tensors of the same names, shapes and dtypes.

    Attributes:
        paths: The path of each layer.
        forms: The index of the form of each layer.
        examples: A layer of each form.
        has_ties: Whether a tensor may be tied to another one.
    """

    paths: Sequence[str]
    forms: Sequence[int]
    examples: Sequence[LayerView]
    has_ties: bool = False


class ManyLayers(Sequence[LayerView]):
    """The layers of a file, a sequence that creates its items at the first access; their forms are known before."""

    def __init__(self, known: Forms, make: Callable[[], tuple[LayerView, ...]]) -> None:
        """Keep the forms of the layers, and the function that makes the layers."""
        self.known, self._make = known, make
        self._made: tuple[LayerView, ...] | None = None

    def _all(self) -> tuple[LayerView, ...]:
        if self._made is None:
            self._made = self._make()
        return self._made

    @overload
    def __getitem__(self, place: int) -> LayerView: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[LayerView, ...]: ...
    def __getitem__(self, place: int | slice) -> LayerView | tuple[LayerView, ...]:
        """Return a layer, or several of them as a tuple."""
        return self._all()[place]

    def __iter__(self) -> Iterator[LayerView]:
        """Yield every layer."""
        return iter(self._all())

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.known.paths)

    def __eq__(self, other: object) -> bool:
        """Return whether another sequence has the same layers."""
        return self._all() == tuple(other) if isinstance(other, tuple | ManyLayers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a tuple of layers, whose configurations are mappings

    def __repr__(self) -> str:
        """Return the text of the layers as a tuple."""
        return repr(self._all())


def forms_of(layers: Sequence[LayerView]) -> Forms:
    """Group layers by form: the class, and the names, shapes and dtypes of the tensors."""
    if isinstance(layers, ManyLayers):
        return layers.known
    known: dict[object, int] = {}
    forms = [known.setdefault(_form(layer), len(known)) for layer in layers]
    first: dict[int, LayerView] = {}
    for form, layer in zip(forms, layers, strict=True):
        first.setdefault(form, layer)
    has_ties = any(tensor.storage for layer in layers for tensor in layer.tensors)
    return Forms([layer.path for layer in layers], forms, list(first.values()), has_ties)


def varied(layers: Sequence[LayerView]) -> Sequence[LayerView]:
    """Return one layer for each kind: all other layers differ from one of them only in their names."""
    return layers.known.examples if isinstance(layers, ManyLayers) else layers


def _form(layer: LayerView) -> object:
    if len(layer.tensors) == 1:  # as in a list of 100,000 layers
        (one,) = layer.tensors
        return layer.kinds[:1], one.role, one.shape, one.dtype
    return layer.kinds[:1], *[(one.role, one.shape, one.dtype) for one in layer.tensors]
