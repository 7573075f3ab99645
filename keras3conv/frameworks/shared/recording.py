"""What is recorded of a run of a model: which layers ran, in which order, what went in and what came out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from keras3conv.frameworks.shared.flow import Flow
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array, Shape


@dataclass(frozen=True, kw_only=True)
class Backward:
    """The gradients of a weighted sum of the outputs, and what the pass left behind.

    Attributes:
        gradients: Of every tensor that was asked for, by path, in its own layout; zero where no output depends on it.
        states: The values of the other tensors afterwards: in training the moving statistics.
    """

    gradients: Mapping[str, Array]
    states: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one layer.

    Attributes:
        path: The layer.
        place: When its call began, counted over all layers of the model.
        inputs: The arrays that it was called with, positional ones first.
        outputs: The arrays that it returned.
        shapes: The shapes of what it was called with; kept for every call.
        flattened: The shape, without the batch axis, of what was flattened into its first input, if it was.
        before_activation: What went into the layer's own activation, where it has one.
    """

    path: str
    place: int
    inputs: tuple[Array, ...] = ()
    outputs: tuple[Array, ...] = ()
    shapes: tuple[Shape, ...] = ()
    flattened: Shape | None = None
    before_activation: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One run of a model.

    Attributes:
        calls: The calls, in the order in which they began.
        outputs: What the model returned, flat, by name: "" for a single tensor, "0", "1", ..., or keys.
        changed: The tensors that the run changed, and that were put back: the model has a state, or draws random
            numbers.
        flows: Where the data of every layer came from, by its path; None where that could not be followed.
    """

    calls: tuple[Call, ...] = ()
    outputs: Mapping[str, Array] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    flows: Mapping[str, Flow] | None = None

    def of(self, path: str) -> tuple[Call, ...]:
        """The calls of one layer."""
        return self._by_path().get(path, ())

    def _by_path(self) -> dict[str, tuple[Call, ...]]:
        cached: dict[str, tuple[Call, ...]] | None = self.__dict__.get("_index")
        if cached is None:
            index: dict[str, list[Call]] = {}
            for call in self.calls:
                index.setdefault(call.path, []).append(call)
            cached = {path: tuple(calls) for path, calls in index.items()}
            object.__setattr__(self, "_index", cached)
        return cached


def traced(view: ModelView, recording: Recording) -> ModelView:
    """The view with what a run told: when each layer runs, on what shapes and whose outputs, what was flattened."""
    layers = []
    alike: dict[int, list[str]] = {}
    for layer in view.layers:
        if recording.flows is not None and layer.tensors and layer.path in recording.flows:
            alike.setdefault(recording.flows[layer.path].given, []).append(layer.path)
    for layer in view.layers:
        calls = recording.of(layer.path)
        first = calls[0] if calls else None
        flow = recording.flows.get(layer.path) if recording.flows is not None else None
        layers.append(
            replace(
                layer,
                calls=tuple(call.place for call in calls),
                inputs=first.shapes if first else None,
                flattened=first.flattened if first else None,
                follows=tuple(sorted(flow.inputs)) if flow else None,
                passes=tuple(sorted(flow.outputs)) if flow else None,
                beside=tuple(alike.get(flow.given, ())) if flow else None,
            )
        )
    return replace(view, layers=tuple(layers))


class Flattened:
    """Follows what was flattened: from the tensor that had more than two axes to the layer that is given two."""

    def __init__(self) -> None:
        self._shapes: dict[int, Shape] = {}
        self._alive: list[object] = []

    def note(self, source: Any, result: Any) -> None:
        """Takes note that `result` was made of `source`, by a reshape or element by element."""
        given, made = _shape(source), _shape(result)
        if not given or made is None or len(made) != 2 or given[0] != made[0]:
            return
        origin = given[1:] if len(given) > 2 and prod(given) == prod(made) else self.shape(source)
        if origin is not None and prod(origin) == made[1]:
            self._shapes[id(result)] = origin
            self._alive.append(result)  # an id is free again when its object is gone

    def shape(self, tensor: Any) -> Shape | None:
        """What was flattened into this tensor, without the batch axis; None if nothing was."""
        return self._shapes.get(id(tensor))


def _shape(value: Any) -> Shape | None:
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(int(size) for size in shape)


def flatten(value: Any, is_leaf: Callable[[Any], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tuples, lists and mappings with their names: "0", "logits", "hidden_states.3"."""
    if is_leaf(value):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, is_leaf, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from flatten(item, is_leaf, f"{prefix}.{index}" if prefix else str(index))


def plain(value: Any) -> bool:
    """Whether a value says the same in every process: a number, a string, a flag, None, or a sequence of such."""
    if isinstance(value, tuple | list):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
