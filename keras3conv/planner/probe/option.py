"""One way to fill a Keras layer, and what torch returned for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Literal

import numpy as np

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.evidence.one_sided import ROLE
from keras3conv.planner.probe.layouts import arrays_like
from keras3conv.planner.probe.record import TorchRun
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered
from keras3conv.transforms import Array, Shape

Kind = Literal["layer", "part", "joined", "tensors", "parameter"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A torch tensor, or `start:stop` along one of its axes; all names of a tied tensor have one storage."""

    path: str
    axis: int = 0
    start: int = 0
    stop: int
    storage: str = ""

    @property
    def key(self) -> str:
        """What two parts of one tensor have in common."""
        return self.path

    def of(self, array: Array) -> Array:
        """This part of the tensor's values."""
        if array.ndim == 0:
            return array
        return array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def overlaps(self, other: "Part") -> bool:
        """Whether the two have values in common."""
        return self.key == other.key and (
            self.axis != other.axis or (self.start < other.stop and other.start < self.stop)
        )


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to fill a Keras layer.

    Attributes:
        kind: What of torch it takes: a whole layer, a part of one, several joined, tensors that no rule knows, or
            parameters that belong to no layer.
        layers: The torch layers; of kind "layer", several are a row, each of which is given what the one before it
            returned.
        keras: The Keras layer.
        rule: The rule; None where the values alone say how the tensors correspond.
        mappings: Which tensor becomes which. The torch names are those of `sources`.
        sources: What stands for each torch name: the parts that are joined along their axis.
    """

    kind: Kind
    layers: tuple[LayerView, ...]
    keras: LayerView
    rule: Rule | None
    mappings: tuple[WeightMapping, ...]
    sources: Mapping[str, tuple[Part, ...]]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Everything of torch that it takes."""
        return tuple(part for name in dict.fromkeys(self._names()) for part in self.sources[name])

    def _names(self) -> Iterator[str]:
        for mapping in self.mappings:
            yield from mapping.torch

    @cached_property
    def name(self) -> tuple[object, ...]:
        """What tells it from the other options of its layer."""
        return (self.kind, self.parts, tuple(repr(mapping.transform) for mapping in self.mappings))

    @property
    def is_piece(self) -> bool:
        """Whether it is a piece of a torch tensor that belongs to no layer."""
        return self.kind == "parameter" and self.mappings[0].torch[0] != self.parts[0].path

    @property
    def torch(self) -> str:
        """The paths of the torch layers."""
        return " + ".join(layer.path for layer in self.layers)

    @property
    def owner(self) -> str:
        """The torch layer, or what several have in common: the path of the list that they are in."""
        paths = [layer.path.split(".") for layer in self.layers]
        alike = takewhile(lambda words: len(set(words)) == 1, zip(*paths, strict=False))
        return ".".join(words[0] for words in alike)

    def values(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """The values of the Keras layer's tensors, by their paths.

        What the probe has no value for (a counter, an integer) is left as it is on both sides.
        """
        made: dict[str, Array] = {}
        for mapping in self.mappings:
            if not mapping.keras:
                continue  # a constant of torch, which is refused where it has other values: here all are random
            if any(part.path not in weights for name in mapping.torch for part in self.sources[name]):
                continue
            given = tuple(_joined(self.sources[name], weights) for name in mapping.torch)
            made |= dict(zip(mapping.keras, mapping.transform(given), strict=True))
        if self.kind == "tensors":  # a bias that torch does without is zeros
            made |= {
                tensor.path: np.zeros(tensor.shape)
                for tensor in self.keras.tensors
                if tensor.role == ROLE and tensor.path not in made
            }
        return made

    def expected(self, run: TorchRun, shape: Shape, place: int) -> Iterator[Array]:
        """What torch returned in a call of these layers, in every layout that has the shape Keras returns."""
        calls = [run.of(layer.path) for layer in self.layers]
        if self.kind == "parameter" or any(place >= len(entries) for entries in calls):
            return
        outputs = tuple(entries[place].outputs for entries in calls)
        if not all(outputs):
            return
        given = outputs[-1] if self.kind in ("layer", "tensors") else (self._cut(outputs),)
        if self.rule is not None:
            torch = self.layers[0] if self.kind != "layer" or len(self.layers) == 1 else numbered(self.layers, "torch")
            yield from _by_rule(self.rule, given, torch, self.keras, shape)
        yield from arrays_like(given[0], shape)

    def _cut(self, outputs: Sequence[tuple[Array, ...]]) -> Array:
        """The outputs joined, or the part of the one that the weights are a part of."""
        channels = self.rule is not None and self.rule.layout_for(self.layers[0].config or {}) == "channels"
        axis = 1 if channels and outputs[0][0].ndim > 2 else -1
        if self.kind == "joined":
            return np.concatenate([arrays[0] for arrays in outputs], axis)
        part = self.parts[0]
        return np.take(outputs[0][0], range(part.start, part.stop), axis)


def _joined(parts: Sequence[Part], weights: Mapping[str, Array]) -> Array:
    arrays = [part.of(weights[part.path]) for part in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, parts[0].axis)


def _by_rule(
    rule: Rule, outputs: tuple[Array, ...], torch: LayerView, keras: LayerView, shape: Shape
) -> Iterator[Array]:
    from keras3conv.frameworks.shared.layout import output_of

    try:
        array = output_of(outputs, rule, torch.config, keras.config, shape)
    except (ValueError, IndexError):  # an output of another size than this Keras layer's
        return
    if array.shape == shape:
        yield array


def whole(tensor: TensorRef) -> tuple[Part, ...]:
    """All of a tensor."""
    return (Part(path=tensor.path, stop=tensor.shape[0] if tensor.shape else 1, storage=tensor.storage),)
