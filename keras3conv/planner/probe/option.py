"""Define a candidate: one way to compute a Keras layer's weights from torch tensors, and the expected output."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Literal

import numpy as np

from keras3conv.model.paths import join_layers
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.evidence.one_sided import ROLE
from keras3conv.planner.probe.layouts import arrays_like
from keras3conv.planner.probe.record import TorchRun
from keras3conv.planner.probe.row_orders import WITH_ROWS, RowOrder, RowOrders, without_numbers
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered
from keras3conv.transforms import Array, Shape, Transform

Kind = Literal["layer", "slice", "joined", "tensors", "parameter"]

Owned = tuple[LayerView, TensorRef]
"""A torch tensor with the layer that owns it."""


@dataclass(frozen=True, kw_only=True)
class TensorSlice:
    """The slice `start:stop` of a torch tensor along one axis.

    `storage` identifies the memory of the tensor, which is the same for all paths of a tied tensor.
    """

    path: str
    axis: int = 0
    start: int = 0
    stop: int
    storage: str = ""

    @property
    def name(self) -> str:
        """The path with the slice as an index: "in_proj_weight[4:8]", along the second axis "table[:, 4:8]"."""
        return f"{self.path}[{', '.join([':'] * self.axis + [f'{self.start}:{self.stop}'])}]"

    def take(self, array: Array) -> Array:
        """Return the part of a tensor's values that this slice selects."""
        if array.ndim == 0:
            return array
        return array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def overlaps(self, other: "TensorSlice") -> bool:
        """Return whether this slice and another one may have elements in common."""
        return self.path == other.path and (
            self.axis != other.axis or (self.start < other.stop and other.start < self.stop)
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to compute the weights of a Keras layer from torch tensors.

    Attributes:
        kind: The source of the weights. "layer": whole torch layers, paired by a rule. "slice": a slice of one torch
            layer, such as the query of a packed layer. "joined": several torch layers, joined along an axis. "tensors":
            the tensors of a torch layer for which no rule exists. "parameter": torch parameters of any module.
        layers: The torch layers. Several layers of kind "layer" run in sequence: each receives the output of the
            previous layer.
        keras: The Keras layer.
        rule: The rule that gives the mappings; None if the mappings come from the shapes alone.
        mappings: The mappings from torch names (the keys of `sources`) to Keras paths, with the transforms.
        sources: For each torch name the slices that are joined to make its tensor.
        rows: The order of the rows, if Keras has them in another order: applied before a slice is taken, and after
            several tensors are joined.
    """

    kind: Kind
    layers: tuple[LayerView, ...]
    keras: LayerView
    rule: Rule | None
    mappings: tuple[WeightMapping, ...]
    sources: Mapping[str, tuple[TensorSlice, ...]]
    rows: RowOrder | None = None

    @cached_property
    def slices(self) -> tuple[TensorSlice, ...]:
        """All slices of torch tensors that the candidate uses."""
        names = dict.fromkeys(name for mapping in self.mappings for name in mapping.torch)
        return tuple(tensor_slice for name in names for tensor_slice in self.sources[name])

    @cached_property
    def key(self) -> tuple[object, ...]:
        """A value that identifies the candidate among all candidates of a Keras layer, to remember rejected ones."""
        return (
            self.kind,
            self.slices,
            self.rows and self.rows.name,
            tuple(repr(mapping.transform) for mapping in self.mappings),
        )

    @property
    def fills_all(self) -> bool:
        """True if every variable of the Keras layer gets a value, except for biases, which may be zero, and seeds."""
        filled = {path for mapping in self.mappings for path in mapping.keras}
        return all(one.is_seed or one.role == ROLE or one.path in filled for one in self.keras.tensors)

    @property
    def is_parameter_slice(self) -> bool:
        """True if the candidate is a slice of one torch parameter; False for a whole parameter or several stacked."""
        return self.kind == "parameter" and self.mappings[0].torch[0] != self.slices[0].path

    @property
    def torch(self) -> str:
        """The paths of the candidate's torch layers, joined by " + "."""
        return join_layers(layer.path for layer in self.layers)

    @property
    def owner(self) -> str:
        """The path of the torch layer; for several layers their common parent: "attn" for "attn.q" and "attn.k"."""
        paths = [layer.path.split(".") for layer in self.layers]
        shared = takewhile(lambda words: len(set(words)) == 1, zip(*paths, strict=False))
        return ".".join(words[0] for words in shared)

    def in_order_of(self, orders: RowOrders) -> "Candidate":
        """Return the candidate with its weight rows permuted, if these orders assume that Keras orders them otherwise.

        Args:
            orders: The orders of rows that this run of the probe assumes.
        """
        if self.kind == "parameter":
            path = self.slices[0].path
            shape = next(tensor.shape for layer in self.layers for tensor in layer.tensors if tensor.path == path)
            order = orders.fused.get(without_numbers(path))
            return replace(self, rows=order.then(self.rows)) if order and order.fits(shape) else self
        if self.rule is None or self.rule.torch not in WITH_ROWS:
            return self
        order = orders.of(self.torch, sum(layer.shapes["weight"][0] for layer in self.layers))
        return replace(self, rows=order) if order else self

    def bits(self, run: TorchRun) -> int:
        """Return the set of torch tensors that the candidate uses, as an integer with one bit per tensor."""
        return run.bits_of(tensor_slice.path for tensor_slice in self.slices)

    def values(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the values of the Keras layer's variables, by path, from the values of the candidate's torch tensors.

        A variable is left out if its torch tensor has no value in `weights`, such as a counter or another integer, and
        if the value does not have its shape: a rule may pair two attention layers with other numbers of heads.

        Args:
            weights: The values of the torch tensors, by path.
        """
        values: dict[str, Array] = {}
        shapes = {tensor.path: tensor.shape for tensor in self.keras.tensors}
        for mapping in self.mappings:
            if not mapping.keras:
                continue  # a torch tensor that must have a constant value: the transfer checks the real values
            if any(part.path not in weights for name in mapping.torch for part in self.sources[name]):
                continue
            given = tuple(self._given(self.sources[name], weights) for name in mapping.torch)
            made = zip(mapping.keras, mapping.transform(given), strict=True)
            values |= {path: value for path, value in made if shapes.get(path) in (None, value.shape)}
        if self.kind == "tensors":  # a Keras bias that the torch layer lacks is zero
            values |= {
                tensor.path: np.zeros(tensor.shape)
                for tensor in self.keras.tensors
                if tensor.role == ROLE and tensor.path not in values
            }
        return values

    def _given(self, slices: Sequence[TensorSlice], weights: Mapping[str, Array]) -> Array:
        if self.rows is None:
            return _joined(slices, weights)
        if self.kind == "slice" or self.is_parameter_slice:
            return _joined(slices, {part.path: self.rows.ordered(weights[part.path]) for part in slices})
        return self.rows.ordered(_joined(slices, weights))

    def recorded_outputs(self, run: TorchRun, shape: Shape, call_index: int) -> Iterator[Array]:
        """Yield the torch layer's output in one recorded call, in every layout that has the Keras output's shape.

        Args:
            run: The recorded torch run.
            shape: The shape of the Keras output.
            call_index: The number of the call among the calls of the torch layer, from 0.
        """
        calls = [run.calls_of(layer.path) for layer in self.layers]
        if self.kind == "parameter" or any(call_index >= len(entries) for entries in calls):
            return
        outputs = tuple(entries[call_index].outputs for entries in calls)
        if not all(outputs):
            return
        recorded = outputs[-1] if self.kind in ("layer", "tensors") else (self._slice_or_join(outputs),)
        if self.rows is not None and self.kind == "layer":
            recorded = (self.rows(recorded[0], self._output_axis(recorded[0])),)
        if self.rule is not None:
            torch = self.layers[0] if self.kind != "layer" or len(self.layers) == 1 else numbered(self.layers, "torch")
            yield from _by_rule(self.rule, recorded, torch, self.keras, shape)
        yield from arrays_like(recorded[0], shape)

    def _slice_or_join(self, outputs: Sequence[tuple[Array, ...]]) -> Array:
        """Return the torch output that corresponds to the output of a Keras layer with joined or sliced weights.

        Outputs of several torch layers are joined. From the output of a single torch layer a slice is taken.
        """
        axis = self._output_axis(outputs[0][0])
        if self.kind == "joined":
            joined = np.concatenate([arrays[0] for arrays in outputs], axis)
            return joined if self.rows is None else self.rows(joined, axis)
        first, whole = self.slices[0], outputs[0][0]
        ordered = whole if self.rows is None else self.rows(whole, axis)
        return np.take(ordered, range(first.start, first.stop), axis)

    def _output_axis(self, output: Array) -> int:
        channels = self.rule is not None and self.rule.layout_for(self.layers[0].config or {}) == "channels"
        return 1 if channels and output.ndim > 2 else -1


def _joined(slices: Sequence[TensorSlice], weights: Mapping[str, Array]) -> Array:
    arrays = [tensor_slice.take(weights[tensor_slice.path]) for tensor_slice in slices]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, slices[0].axis)


def _by_rule(
    rule: Rule, outputs: tuple[Array, ...], torch: LayerView, keras: LayerView, shape: Shape
) -> Iterator[Array]:
    from keras3conv.frameworks.shared.layout import output_of

    try:
        array = output_of(outputs, rule, torch.config, keras.config, shape)
    except (ValueError, IndexError):  # the recorded output cannot have the shape of the Keras output
        return
    if array.shape == shape:
        yield array


def variable_candidate(
    owned: Sequence[Owned],
    keras: LayerView,
    variable: TensorRef,
    transform: Transform,
    *,
    part: TensorSlice | None = None,
    kind: Kind = "parameter",
) -> Candidate:
    """Return the candidate in which one Keras variable is computed from whole torch tensors, or from a slice of one.

    Args:
        owned: The torch tensors, in the order in which the transform takes them.
        keras: The Keras layer.
        variable: The variable of the Keras layer.
        transform: The transform from the tensors, or from the slice, to the variable.
        part: The slice of the only torch tensor; None for whole tensors.
        kind: The kind of the candidate.
    """
    sources = {part.name: (part,)} if part else {tensor.path: whole_tensor(tensor) for _, tensor in owned}
    mapping = WeightMapping(torch=tuple(sources), keras=(variable.path,), transform=transform)
    layers = tuple(layer for layer, _ in owned)
    return Candidate(kind=kind, layers=layers, keras=keras, rule=None, mappings=(mapping,), sources=sources)


def whole_tensor(tensor: TensorRef) -> tuple[TensorSlice, ...]:
    """Return a tuple of one `TensorSlice` that covers a whole tensor."""
    return (TensorSlice(path=tensor.path, stop=tensor.shape[0] if tensor.shape else 1, storage=tensor.storage),)
