"""Record a run of a model: the layer calls in order, with inputs and outputs."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import prod
from typing import Any

from keras3conv.frameworks.shared.flow import Flow, Follower
from keras3conv.model.views import LayerRun, ModelView
from keras3conv.transforms import Array, Shape


@dataclass(frozen=True, kw_only=True)
class Backward:
    """The result of a backward pass: the gradients of a weighted sum of the outputs, and the state after the pass.

    Attributes:
        gradients: The gradients by path of the tensor; zero if the outputs do not depend on the tensor.
        states: The values after the pass of tensors without a gradient, such as moving statistics in training.
    """

    gradients: Mapping[str, Array]
    states: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one layer.

    Attributes:
        path: The path of the layer.
        place: The position of the call among the calls of all layers, ordered by the time when they began.
        inputs: The input arrays, positional arguments first; empty if they are not recorded.
        outputs: The output arrays; empty if they are not recorded.
        shapes: The shapes of the inputs, which are always recorded.
        flattened: If the first input was flattened, the shape before the flatten, without the batch axis; else None.
        before_activation: The input of the layer's own activation function; None if it has none.
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
        outputs: The output arrays by name: "" for a single tensor, "0", "1", ..., or keys.
        changed: The tensors that the run changed, and that were restored. If there are any, the model has a state or
            draws random numbers.
        flows: The data dependencies of every layer by path; None if they could not be followed.
        masks: The masks that layers of Keras received with their first input, by path, in call order.
        functions: The names of the functions that computed with tensors, as far as they were observed.
    """

    calls: tuple[Call, ...] = ()
    outputs: Mapping[str, Array] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    flows: Mapping[str, Flow] | None = None
    masks: Mapping[str, Array] = field(default_factory=dict)
    functions: frozenset[str] = frozenset()

    def repeats(self, other: "Recording") -> bool:
        """Return whether another run called the same layers in the same order, and the same functions."""
        same_layers = [call.path for call in self.calls] == [call.path for call in other.calls]
        return same_layers and self.functions == other.functions

    def of(self, path: str) -> tuple[Call, ...]:
        """Return the recorded calls of one layer."""
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
    """Return a view with the facts of a run: call order, input shapes, data dependencies, flattened inputs."""
    layers = []
    alike: dict[int, list[str]] = {}
    for layer in view.layers:
        if recording.flows is not None and layer.tensors and layer.path in recording.flows:
            alike.setdefault(recording.flows[layer.path].first_input, []).append(layer.path)
    for layer in view.layers:
        calls = recording.of(layer.path)
        first = calls[0] if calls else None
        flow = recording.flows.get(layer.path) if recording.flows is not None else None
        layers.append(
            replace(
                layer,
                run=LayerRun(
                    calls=tuple(call.place for call in calls),
                    inputs=first.shapes if first else None,
                    flattened=first.flattened if first else None,
                    follows=tuple(sorted(flow.inputs)) if flow else None,
                    passes=tuple(sorted(flow.outputs)) if flow else None,
                    beside=tuple(alike.get(flow.first_input, ())) if flow else None,
                ),
            )
        )
    return replace(view, layers=tuple(layers))


class Flattened:
    """Remembers the shape that a tensor had before it was flattened to two axes, also through elementwise functions."""

    def __init__(self) -> None:
        self._shapes: dict[int, Shape] = {}
        self._alive: list[object] = []

    def note(self, source: Any, result: Any) -> None:
        """Record the shape that a flattened tensor had before its flatten.

        Args:
            source: A tensor.
            result: A reshape of `source` to two axes, or a tensor computed from it elementwise; others are ignored.
        """
        given, made = _shape(source), _shape(result)
        if not given or made is None or len(made) != 2 or given[0] != made[0]:
            return
        origin = given[1:] if len(given) > 2 and prod(given) == prod(made) else self.shape(source)
        if origin is not None and prod(origin) == made[1]:
            self._shapes[id(result)] = origin
            self._alive.append(result)  # Python may reuse the id of a deleted object

    def shape(self, tensor: Any) -> Shape | None:
        """Return the shape of a tensor before its flatten, without the batch axis; None if it was not flattened."""
        return self._shapes.get(id(tensor))


class _Copies:
    """Copies every tensor to an array, only once if it is the output of one layer and the input of the next.

    Args:
        copy: Copies a tensor to an array.
        version: Returns a number that changes when the tensor is overwritten in place; None if none is known.
    """

    def __init__(self, copy: Callable[[Any], Array], version: Callable[[Any], int | None]) -> None:
        self._copy, self._version = copy, version
        self._known: dict[int, tuple[weakref.ref[Any], int, Array]] = {}

    @property
    def are_valid(self) -> bool:
        """Always True: the arrays are copies, to which the model does not write, so they keep the recorded values."""
        return True

    def __call__(self, tensor: Any) -> Array:
        version = self._version(tensor)
        reference, old, array = self._known.get(id(tensor), (None, None, None))
        if array is not None and reference is not None and reference() is tensor and old == version:
            return array
        array = self._copy(tensor)
        if version is not None:
            self._known[id(tensor)] = weakref.ref(tensor), version, array
        return array


class _Views:
    """Returns every tensor as an array that shares its memory, which is valid until the tensor is overwritten.

    Args:
        view: Returns a tensor as an array that shares its memory.
        version: Returns a number that changes when the tensor is overwritten in place; None if none is known.
    """

    def __init__(self, view: Callable[[Any], Array], version: Callable[[Any], int | None]) -> None:
        self._view, self._version = view, version
        self._known: dict[int, tuple[Any, int | None, Array]] = {}

    def __call__(self, tensor: Any) -> Array:
        if id(tensor) not in self._known:
            self._known[id(tensor)] = tensor, self._version(tensor), self._view(tensor)
        return self._known[id(tensor)][2]

    @property
    def are_valid(self) -> bool:
        """True if no tensor was overwritten since it was returned as an array that shares its memory."""
        return all(
            version is not None and version == self._version(tensor) for tensor, version, _ in self._known.values()
        )


class CallRecorder:
    """Records the layer calls of one run: their order, shapes and data flow, and the arrays of selected layers.

    Args:
        record: Selects by path the layers whose input and output arrays are recorded.
        follower: Follows the data flow between layers.
        copy: Copies a tensor to an array; the tensor itself may be overwritten in place later.
        version: Returns a number that changes when the tensor is overwritten in place; None if none is known.
        view: Returns a tensor as an array that shares its memory, to record without copies; None to copy. The record
            is valid only if no tensor was overwritten.
    """

    def __init__(
        self,
        *,
        record: Callable[[str], bool],
        follower: Follower,
        copy: Callable[[Any], Array],
        version: Callable[[Any], int | None],
        view: Callable[[Any], Array] | None = None,
    ) -> None:
        self.record, self.follower = record, follower
        self.flattened = Flattened()
        self._copy = _Copies(copy, version) if view is None else _Views(view, version)
        self._calls: list[Call] = []
        self._places = count()

    def begin(self, path: str, tensors: Sequence[Any], *, is_operation: bool) -> Call:
        """Return the record of a layer call that begins; the record must be passed to `end` when the layer returns.

        Args:
            path: The path of the layer.
            tensors: The input tensors.
            is_operation: Whether the layer owns no tensors; it is then treated as an operation in the data flow.
        """
        self.follower.enter("" if is_operation else path, tensors)
        return Call(
            path=path,
            place=next(self._places),
            inputs=tuple(map(self._copy, tensors)) if self.record(path) else (),
            shapes=tuple(tuple(tensor.shape) for tensor in tensors),
            flattened=self.flattened.shape(tensors[0]) if tensors else None,
        )

    def end(self, call: Call, tensors: Sequence[Any], before_activation: Array | None = None) -> None:
        """Complete a call with the tensors that the layer returned.

        Args:
            call: The call, which `begin` returned.
            tensors: The returned tensors.
            before_activation: The input of the layer's own activation function; None if it has none.
        """
        self.follower.leave(tensors)
        outputs = tuple(map(self._copy, tensors)) if self.record(call.path) else ()
        self._calls.append(replace(call, outputs=outputs, before_activation=before_activation))

    @property
    def is_valid(self) -> bool:
        """True unless a tensor was overwritten that shares its memory with the recording."""
        return self._copy.are_valid

    def calls(self) -> tuple[Call, ...]:
        """Return the completed calls in the order in which they began."""
        return tuple(sorted(self._calls, key=lambda call: call.place))


def _shape(value: Any) -> Shape | None:
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(int(size) for size in shape)
