"""Choose two numbers for each dynamic size of a model's inputs, and convert the numbers back to symbolic sizes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any, TypeVar

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.tracing.built import inputs_of_build
from keras3conv.frameworks.keras.view import call_arguments
from keras3conv.messages import lay_out
from keras3conv.model.graph import Size

T = TypeVar("T")

_AXES = {2: ("batch", "length"), 3: ("batch", "length"), 4: ("batch", "height", "width")}
_MANY_AXES = ("batch", "depth", "height", "width")

# In each set, no number or product is close to a multiple of another one, even after halving or doubling: for example
# 2 * (height // 2) must not be height - 1. Sequence lengths are short, because position tables may be short. The first
# pair is that of the first input, the second that of the second input, whose sizes are "length_2" and so on.
_NUMBERS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "batch": ((5, 7),),
    "length": ((10, 23), (12, 19), (9, 20), (8, 25)),
    "depth": ((74, 85), (78, 95), (71, 100), (76, 107)),
    "height": ((234, 271), (242, 283), (239, 298), (233, 300)),
    "width": ((229, 276), (251, 304), (244, 305), (246, 317)),
}

MOST_INPUTS = 4
"""The number of inputs with dynamic sizes up to which every input may have sizes of its own."""


_OFFSET = 8
"""The largest number that a layer is expected to add to a multiple of a dynamic size, by windows or cropping."""

_SMALLEST_MARGIN, _LARGEST_MARGIN = 16, 2**15
"""The first and the last number to add to the dynamic sizes of a model that crops its input, so needs a large one."""

_MULTIPLES = (2, 4, 8, 16, 32, 64, 128)
"""The numbers by which dynamic sizes are multiplied for a model that halves its input and joins it with the original.

A U-Net with five poolings needs multiples of 32.
"""


@dataclass(frozen=True, kw_only=True)
class _Input:
    """One input of a model; in its shape, a fixed size is a number and a dynamic size a name."""

    shape: tuple[int | str, ...]
    dtype: str
    name: str

    @property
    def dynamic(self) -> tuple[str, ...]:
        """The names of the dynamic sizes."""
        return tuple(size for size in self.shape if isinstance(size, str))

    def numbered(self, number: int) -> "_Input":
        """Return a copy whose dynamic sizes but that of the batch have a number in their names, unless it is 1."""
        kept = number == 1
        shape = (
            size if kept or not isinstance(size, str) or size == "batch" else f"{size}_{number}" for size in self.shape
        )
        return replace(self, shape=tuple(shape))


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The inputs of a model; their dynamic sizes have names.

    Attributes:
        nested: The inputs as the model takes them.
        inputs: Each input.
        are_named: Whether the input names are those of the user's arguments.
        margin: The number that is added to every dynamic size but that of the batch, for a model that crops its input.
        multiple: The number by which every dynamic size but that of the batch is multiplied, for a model that needs
            sizes that it can halve.
    """

    nested: Any
    inputs: tuple[_Input, ...]
    are_named: bool = False
    margin: int = 0
    multiple: int = 1

    @classmethod
    def of(cls, model: keras.layers.Layer, inputs: Any, *, shared: bool = True) -> "Sizes":
        """Return the sizes of a model's inputs: those of the arrays in `inputs`, else of the input specifications.

        A subclassed model has no input specification, but it may know the shapes that it was built with.

        Args:
            model: The model.
            inputs: Arrays whose sizes are used, all but the batch size fixed; None to use the input specifications.
            shared: Whether all inputs have the same dynamic sizes: the tokens of a sentence and their mask have the
                same length, the two sentences of a translation have not.

        Raises:
            ModelError: There are neither inputs nor input specifications, nor shapes.
        """
        specified = getattr(model, "_inputs_struct", None)
        if specified is None and getattr(model, "_functional", None) is not None:
            specified = model._functional._inputs_struct
        if inputs is not None:
            nested = inputs if specified is None else _arranged(inputs, specified)
        elif specified is not None:
            nested = specified
        elif (nested := inputs_of_build(model)) is None:
            fact = "the model has no input specification"
            problem = Problem(keras=model.name, fact=fact, fixes=("k3c.convert(model, inputs=example_input)",))
            raise ModelError(lay_out(f"{model.name} (keras) cannot be traced", [problem]))
        names = _argument_names(model, nested)
        tensors = keras.tree.flatten(nested)
        # Arrays with different numbers of rows, such as the nodes and the edges of a graph, are no batch.
        has_batch = len({tensor.shape[0] for tensor in tensors if len(tensor.shape)}) <= 1
        flat = [_input(tensor, place, names, has_batch=has_batch) for place, tensor in enumerate(tensors)]
        made = cls(nested=nested, inputs=tuple(flat), are_named=bool(names))
        return made if shared else made.apart()

    def apart(self) -> "Sizes":
        """Return a copy in which the dynamic sizes of every input but the first are its own: "length_2", "length_3"."""
        free = [place for place, given in enumerate(self.inputs) if {*given.dynamic} - {"batch"}]
        if len(free) > MOST_INPUTS:
            return self
        numbers = {place: number for number, place in enumerate(free, 1)}
        inputs = (given.numbered(numbers.get(place, 1)) for place, given in enumerate(self.inputs))
        return replace(self, inputs=tuple(inputs))

    @property
    def are_shared(self) -> bool:
        """True if no two inputs have dynamic sizes that may differ, except in the batch size."""
        return all("_" not in symbol for symbol in self.symbols)

    @property
    def symbols(self) -> dict[str, tuple[int, int]]:
        """Return, for each dynamic size, the index of the input and of the axis that have it: {"batch": (0, 0)}."""
        found: dict[str, tuple[int, int]] = {}
        for place, given in enumerate(self.inputs):
            for axis, size in enumerate(given.shape):
                if isinstance(size, str):
                    found.setdefault(size, (place, axis))
        return found

    def larger(self) -> "Iterator[Sizes]":
        """Yield copies with ever larger numbers for the dynamic sizes; nothing if only the batch size is dynamic."""
        if not self.symbols.keys() - {"batch"}:
            return
        for multiple in _MULTIPLES:
            yield replace(self, multiple=multiple)
        margin = _SMALLEST_MARGIN
        while margin <= _LARGEST_MARGIN:
            yield replace(self, margin=margin)
            margin *= 2

    def number(self, symbol: str, which: int) -> int:
        """Return the number of a dynamic size in the first (0) or the second (1) trace.

        Args:
            symbol: The name of the dynamic size.
            which: 0 for the first trace, 1 for the second.
        """
        name, _, place = symbol.partition("_")
        number = _NUMBERS[name][int(place or 1) - 1][which]
        return number if name == "batch" else number * self.multiple + self.margin

    def structure(self, which: int) -> Any:
        """Return the inputs of one of the two traces as symbolic tensors, whose shapes have the numbers of this trace.

        Args:
            which: 0 for the first trace, 1 for the second.
        """
        tensors = [
            keras.KerasTensor(
                [self.number(size, which) if isinstance(size, str) else size for size in given.shape],
                dtype=given.dtype,
                name=given.name,
            )
            for given in self.inputs
        ]
        return keras.tree.pack_sequence_as(self.nested, tensors)

    def resolve(self, first: int, second: int) -> int | Size | None:
        """Return the size that has these numbers in the two traces: a number if they are equal, else a `Size`.

        Return None if no dynamic size has these two numbers.
        """
        if first == second:
            return first
        found: list[Size] = []
        for count in range(1, len(self.symbols) + 1):
            for symbols in combinations(self.symbols, count):
                one, two = (prod(self.number(symbol, which) for symbol in symbols) for which in (0, 1))
                factor, rest = divmod(second - first, two - one)
                offset = first - factor * one
                if not rest and abs(offset) <= _OFFSET + self.margin:
                    found.append(Size(symbols=symbols, factor=factor, offset=offset))
        return min(found, key=lambda size: abs(size.offset), default=None)


def at_accepted_sizes(sizes: Sizes, apart: Sizes, trace: Callable[[Sizes], T]) -> tuple[Sizes, T]:
    """Trace a model with the first numbers for its dynamic sizes that it accepts.

    A model that crops its input needs larger numbers, and one that halves it several times needs multiples of them.

    Args:
        sizes: The inputs of the model with their dynamic sizes.
        apart: The same, with sizes of its own for every input. They are tried first.
        trace: Traces the model with the numbers of given sizes, and returns the result.

    Returns:
        The sizes with the accepted numbers, and the result of the trace.

    Raises:
        ModelError: The model accepts none; the error is that of the first numbers.
    """
    if not apart.are_shared:
        try:
            return apart, trace(apart)
        except ModelError:
            pass  # two inputs, such as tokens and their mask, must have the same sizes
    try:
        return sizes, trace(sizes)
    except ModelError as error:
        for larger in sizes.larger():
            try:
                return larger, trace(larger)
            except ModelError:
                continue
        raise error


def _arranged(inputs: Any, specified: Any) -> Any:
    """Return the inputs of a model in the structure that the model specifies; unchanged if they do not fit it.

    A file of named arrays is a dict, and a file of unnamed arrays a tuple. A functional model may take a list.

    Args:
        inputs: The user's inputs.
        specified: The symbolic inputs of the model, in the structure in which it takes them.
    """
    tensors = keras.tree.flatten(specified)
    if isinstance(specified, dict):
        return inputs
    if isinstance(inputs, dict) and inputs.keys() == {tensor.name for tensor in tensors}:
        return keras.tree.pack_sequence_as(specified, [inputs[tensor.name] for tensor in tensors])
    if isinstance(inputs, tuple) and len(inputs) == len(tensors) and all(hasattr(one, "shape") for one in inputs):
        return keras.tree.pack_sequence_as(specified, list(inputs))
    return inputs


def _argument_names(model: keras.layers.Layer, nested: Any) -> tuple[str, ...]:
    """Return the names of a model's inputs: the keys of a dict, or the arguments of `call`; empty if they have none."""
    if isinstance(nested, dict) and all(hasattr(value, "shape") for value in nested.values()):
        return tuple(sorted(nested))  # the order in which Keras flattens a dict
    given = nested if isinstance(nested, tuple) else (nested,)
    names = call_arguments(model)
    fits = len(given) <= len(names) and all(hasattr(value, "shape") for value in given)
    return names[: len(given)] if fits else ()


def _input(tensor: Any, place: int, names: tuple[str, ...], *, has_batch: bool) -> _Input:
    shape = tuple(tensor.shape)
    axes = _AXES.get(len(shape), _MANY_AXES)
    symbolic = isinstance(tensor, keras.KerasTensor)
    free = [axis for axis, size in enumerate(shape) if (size is None if symbolic else has_batch and axis == 0)]
    sizes = tuple(axes[min(axis, len(axes) - 1)] if axis in free else int(size) for axis, size in enumerate(shape))
    return _Input(
        shape=sizes,
        dtype=str(keras.backend.standardize_dtype(tensor.dtype)),
        name=getattr(tensor, "name", None) or (names[place] if names else f"input_{place}"),
    )
