"""Follow the data flow through a forward pass: find the layers on whose outputs each layer's inputs depend."""

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

Sources = frozenset[str]
"""The paths of the layers on whose outputs a value depends directly, without another layer in between."""

_NONE: Sources = frozenset()


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The data dependencies of one layer, over all of its calls.

    Attributes:
        inputs: The layers on whose outputs the layer's inputs depend.
        outputs: The layers, before or inside the layer, on whose outputs the layer's outputs depend.
        first_input: Identifies the first input of the first call; layers with equal numbers received the same tensor.
    """

    inputs: Sources
    outputs: Sources
    first_input: int


class Follower:
    """Tracks the data flow of a forward pass: derives from its operations and layer calls what each layer depends on.

    Args:
        sees_everything: Whether every operation is reported, also inside layers. If False, the output of a layer
            without inner layers is assumed to depend on the layer's inputs.

    Attributes:
        functions: The names of the reported operations.
    """

    def __init__(self, *, sees_everything: bool) -> None:
        self.functions: set[str] = set()
        self._sees_everything = sees_everything
        self._made_of: dict[int, _Entry] = {}
        self._open: list[tuple[str, Sources, int, bool]] = []
        self._numbers = count()
        self._flows: dict[str, Flow] = {}
        self._lost = False

    def flows(self) -> Mapping[str, Flow] | None:
        """Return the data dependencies of each layer that ran.

        Return None if an operation was not reported, so that dependencies may be missing.
        """
        return None if self._lost else self._flows

    def operation(self, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
        """Record that the outputs of an operation depend on its inputs.

        An in-place operation lists the changed tensor both as an input and as an output.
        """
        sources = self._of(inputs)
        for value in outputs:
            self._put(value, sources)

    def enter(self, path: str, inputs: Iterable[Any]) -> None:
        """Record that a layer call begins.

        Args:
            path: The path of the layer; empty for a layer without weights, which then counts as an operation.
            inputs: The inputs of the call.
        """
        if self._open and path:
            self._open[-1] = (*self._open[-1][:3], True)
        values = list(inputs)
        if values and not self._known(values[0]):
            self._put(values[0], _NONE)
        number = self._made_of[id(values[0])].number if values and self._known(values[0]) else next(self._numbers)
        self._open.append((path, self._of(values), number, False))

    def leave(self, results: Iterable[Any]) -> None:
        """Record that the layer call that began last returns."""
        path, inputs, number, has_inner = self._open.pop()
        values = list(results)
        seen = self._sees_everything or any(self._known(value) for value in values)
        if not seen and has_inner:
            self._lost = True
        outputs = self._of(values) if seen else inputs
        if not path:
            for value in values:
                self._put(value, outputs)
            return
        before = self._flows.get(path, Flow(inputs=_NONE, outputs=_NONE, first_input=number))
        self._flows[path] = Flow(
            inputs=before.inputs | inputs, outputs=(before.outputs | outputs) - {path}, first_input=before.first_input
        )
        for value in values:
            self._put(value, frozenset({path}))

    def _of(self, values: Iterable[Any]) -> Sources:
        return _NONE.union(*(self._made_of[id(value)].sources for value in values if self._known(value)))

    def _known(self, value: Any) -> bool:
        entry = self._made_of.get(id(value))
        return entry is not None and entry.reference() is value

    def _put(self, value: Any, sources: Sources) -> None:
        """Store the layers from whose outputs a tensor was computed, and a number that identifies the tensor.

        A tensor that is known already keeps its number, because many layers return their input.
        """
        key, made_of = id(value), self._made_of
        try:
            reference = weakref.ref(value, lambda dead: _forget(made_of, key, dead))
        except TypeError:  # a value without weak references, such as a number
            return
        number = made_of[key].number if self._known(value) else next(self._numbers)
        made_of[key] = _Entry(reference=reference, sources=sources, number=number)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    reference: weakref.ref[Any]
    sources: Sources
    number: int


def _forget(made_of: dict[int, _Entry], key: int, dead: weakref.ref[Any]) -> None:
    """Remove the entry of a deleted object, unless a new object already has the same id.

    Args:
        made_of: The entries by the id of the object; changed in place.
        key: The id of the deleted object.
        dead: The weak reference to the deleted object.
    """
    entry = made_of.get(key)
    if entry is not None and entry.reference is dead:
        del made_of[key]
