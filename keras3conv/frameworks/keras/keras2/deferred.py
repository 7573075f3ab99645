"""Compute with the sizes of tensors (tf.shape), which an old model passes to other functions of TensorFlow.

A size that is dynamic has no number while the model is built. A function that is called with such a size, and with no
tensor, is kept as a `Deferred` call. The first function or layer with a tensor that needs it becomes a layer of Keras
(`Sized`), which computes the sizes of the tensors it gets, and then everything that was deferred.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import keras
import numpy as np
from keras import ops

from keras3conv.formats.keras2.functions import OWN
from keras3conv.formats.keras2.operations import Applied, applied
from keras3conv.frameworks.keras.keras2.operations import operated
from keras3conv.model.graph import leaves, mapped

Config = Mapping[str, Any]

_SHAPE = f"{OWN}shape"

_IN_A_LAYER = frozenset({f"{OWN}conv", f"{OWN}depthwise_conv"})
"""The functions that a layer calls in any case, because a constant among their arguments needs the dtype of the run."""

_UNKNOWN = object()
"""Stands for a size that is dynamic while the model is built."""

_NUMBER = (int, float, str, np.generic, np.ndarray, type(None))

_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.true_divide,
    "floor_divide": np.floor_divide, "mod": np.mod, "power": np.power, "maximum": np.maximum, "minimum": np.minimum,
    "negative": np.negative, "abs": np.abs, "square": np.square, "sqrt": np.sqrt, "log": np.log, "exp": np.exp,
    "rsqrt": lambda x: np.asarray(1 / np.sqrt(x), np.asarray(x).dtype), "ceil": np.ceil, "floor": np.floor,
    "cast": lambda x, dtype: np.asarray(x).astype(dtype), "prod": lambda x, *_: np.prod(x, dtype="int32"),
}  # fmt: skip
"""The functions of numbers, by their names in `keras.ops`."""


class _UnknownSize(Exception):
    """Raised if a number depends on a size that is dynamic while the model is built."""


@dataclass(frozen=True)
class Deferred:
    """A call of a function of TensorFlow on sizes, or on other deferred calls, and on no tensor.

    Attributes:
        entry: The layer in the file, which names the function.
        argument: The first argument of the call.
        keywords: The other arguments of the call.
        place: The index of one result of the call, if the call has several results; None for a single result.
    """

    entry: Config
    argument: Any
    keywords: Config
    place: int | None = None

    def known(self) -> Any:
        """Return the value if it depends on no dynamic size; else the `Deferred` itself."""
        try:
            found = _computed(self)
        except _UnknownSize:
            return self
        if any(leaf is _UNKNOWN for leaf in leaves(found)):
            return self
        return mapped(found, lambda leaf: ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else leaf)

    def tensors(self) -> Iterator[keras.KerasTensor]:
        """Yield the tensors whose sizes the value depends on."""
        yield from _tensors_in((self.argument, self.keywords))


def call_function(entry: Config, argument: Any, keywords: Config, name: str) -> list[Any]:
    """Repeat a call of a function of TensorFlow, and return its results: tensors, or deferred calls.

    Args:
        entry: The layer in the file, which names the function.
        argument: The first argument of the call, in which tensors and deferred calls may be nested.
        keywords: The other arguments of the call.
        name: The name of a new layer, if one is needed.
    """
    found = list(leaves((argument, keywords)))
    has_tensor = any(isinstance(leaf, keras.KerasTensor) for leaf in found)
    call = applied(entry["class_name"], entry["config"], argument, keywords)
    if call.name == _SHAPE or not has_tensor:
        return _deferred(entry, argument, keywords, call.name)
    argument, keywords = mapped((argument, dict(keywords)), _known)
    if call.name == "reshape":
        keywords = _with_one_free_size(keywords)
    if call.name in _IN_A_LAYER or any(isinstance(leaf, Deferred) for leaf in leaves((argument, keywords))):
        return list(keras.tree.flatten(Sized(Deferred(entry, argument, keywords), name=name)()))
    return list(keras.tree.flatten(operated(applied(entry["class_name"], entry["config"], argument, keywords))))


def as_tensors(nested: Any, name: str) -> Any:
    """Return nested values with each `Deferred` replaced by a symbolic tensor, which a new Keras layer computes.

    Args:
        nested: The arguments of a layer, or the outputs of a model.
        name: The name of the new layer; if there are several, the others get a number.
    """
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return mapped(nested, lambda leaf: Sized(leaf, name=next(names))() if isinstance(leaf, Deferred) else leaf)


class Sized(keras.layers.Layer):  # type: ignore[misc]  # mypy sees Any, because Keras is untyped
    """A layer that calls a function of TensorFlow with the sizes of its inputs, or with values computed from them."""

    def __init__(self, deferred: Deferred, name: str) -> None:
        super().__init__(name=name, autocast=False)
        found: dict[int, keras.KerasTensor] = {id(tensor): tensor for tensor in deferred.tensors()}
        self._given = list(found.values())
        self._places = {key: place for place, key in enumerate(found)}
        self._deferred = deferred

    def __call__(self, *tensors: Any, **options: Any) -> Any:
        """Call the layer; without arguments, call it with the tensors whose sizes the function needs."""
        return super().__call__(*(tensors or self._given), **options)

    def call(self, *tensors: Any) -> Any:
        """Return the result of the function for these tensors."""

        def actual(leaf: Any) -> Any:
            if isinstance(leaf, keras.KerasTensor) and id(leaf) in self._places:
                return tensors[self._places[id(leaf)]]
            if isinstance(leaf, Deferred):
                argument, keywords = mapped((leaf.argument, dict(leaf.keywords)), actual)
                return Deferred(leaf.entry, argument, keywords, leaf.place)
            return leaf

        found = _computed(actual(self._deferred))
        return keras.tree.map_structure(_as_array, found) if isinstance(found, tuple) else _as_array(found)


def _as_array(value: Any) -> Any:
    is_number = isinstance(value, int | float | list | np.generic | np.ndarray)
    return ops.convert_to_tensor(np.asarray(value, "int32" if _is_whole(value) else None)) if is_number else value


def _is_whole(value: Any) -> bool:
    return not isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind == "i"


def _deferred(entry: Config, argument: Any, keywords: Config, name: str) -> list[Any]:
    """Return one `Deferred` for each result of a function call, which is not computed yet."""
    made = Deferred(entry, argument, keywords)
    if name not in (f"{OWN}unstack", f"{OWN}split"):
        return [made]
    found = _computed(made)
    return [Deferred(entry, argument, keywords, place) for place in range(len(found))]


def _known(leaf: Any) -> Any:
    return leaf.known() if isinstance(leaf, Deferred) else leaf


def _with_one_free_size(keywords: Config) -> dict[str, Any]:
    """Return the arguments of a reshape; if exactly one size of the shape is dynamic, it is replaced by -1."""
    shape = keywords.get("shape")
    if isinstance(shape, Deferred):
        try:
            shape = _computed(shape)
        except _UnknownSize:
            return dict(keywords)
    if not isinstance(shape, list | tuple):
        return dict(keywords)
    unknown = [isinstance(size, Deferred) or size is _UNKNOWN for size in shape]
    if sum(unknown) != 1 or any(not free and int(size) < 1 for free, size in zip(unknown, shape, strict=True)):
        return dict(keywords)
    return {**keywords, "shape": [-1 if free else int(size) for free, size in zip(unknown, shape, strict=True)]}


def _tensors_in(value: Any) -> Iterator[keras.KerasTensor]:
    for leaf in leaves(value):
        if isinstance(leaf, keras.KerasTensor):
            yield leaf
        elif isinstance(leaf, Deferred):
            yield from leaf.tensors()


def _computed(value: Any) -> Any:
    """Return the value of a deferred call; sizes are Python integers, other numbers are those of NumPy.

    Raises:
        _UnknownSize: The value depends on a dynamic size.
    """
    if not isinstance(value, Deferred):
        return value
    argument, keywords = mapped((value.argument, dict(value.keywords)), _computed)
    found = _called(applied(value.entry["class_name"], value.entry["config"], argument, keywords))
    return found if value.place is None else found[value.place]


def _called(call: Applied) -> Any:
    """Call a function whose arguments are numbers, lists of numbers, or tensors, and return the result."""
    name, arguments = call.name, dict(call.arguments)
    if name == _SHAPE:
        return [_UNKNOWN if size is None else int(size) for size in ops.shape(arguments["x"])]
    found = list(leaves(list(arguments.values())))
    is_of_numbers = all(isinstance(leaf, _NUMBER) or leaf is _UNKNOWN for leaf in found)
    if is_of_numbers and name in _SELECTIONS:
        return _SELECTIONS[name](**arguments)
    if any(leaf is _UNKNOWN for leaf in found):
        raise _UnknownSize
    if is_of_numbers and name in _NUMBERS:
        return _of_python(_NUMBERS[name](*map(_of_numpy, arguments.values())))
    return operated(call)


def _of_numpy(value: Any) -> Any:
    """Return a Python number as TensorFlow converts it: an integer as int32, another number as float32."""
    if isinstance(value, float):
        return np.float32(value)
    return np.asarray(value, "int32") if isinstance(value, int | list) else value


def _of_python(value: Any) -> Any:
    """Return integers of NumPy as Python's, which can be sizes; return other numbers unchanged."""
    array = np.asarray(value)
    return array.tolist() if array.dtype.kind == "i" else array


def _item(x: Any, key: tuple[Any, ...]) -> Any:
    return x[key[0]] if isinstance(x, list) and len(key) == 1 else np.asarray(x)[key]


def _parts(value: list[Any], num_or_size_splits: int, axis: int = 0) -> list[Any]:
    length = len(value) // num_or_size_splits
    return [value[place : place + length] for place in range(0, len(value), length)]


_SELECTIONS: Mapping[str, Callable[..., Any]] = {
    "get_item": _item,
    "copy": lambda x: x,
    "stack": lambda x, axis=0: list(x),
    "concatenate": lambda xs, axis=0: [size for part in xs for size in part],
    f"{OWN}unstack": lambda value, num=None, axis=0: list(value),
    f"{OWN}split": _parts,
}
"""The functions that only select or collect sizes, some of which may be unknown."""
