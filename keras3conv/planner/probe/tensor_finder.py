"""Find the torch tensors that may be those of a Keras layer that no rule pairs with a torch layer, for the probe.

A candidate has all tensors of a module, a single tensor, a slice of one, or several joined.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, islice

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import Fingerprint, size_of
from keras3conv.planner.evidence.names import words
from keras3conv.planner.evidence.parameters import Held
from keras3conv.planner.probe.containers import consecutive_layers, have_sizes, module_candidates
from keras3conv.planner.probe.layer_finder import LayerFinder
from keras3conv.planner.probe.layouts import same_sizes
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.partitions import Partitions
from keras3conv.planner.probe.pieces import (
    has_equal_variables,
    slice_candidates,
    stack_candidates,
    stack_of_halves_candidates,
)
from keras3conv.planner.probe.rows import last_rows, tensor_candidates
from keras3conv.planner.probe.weights import is_weight
from keras3conv.transforms import Shape

_MOST_WAYS = 24
"""The largest number of candidates made from one torch layer without a rule."""

_MOST_TENSORS = 4


@dataclass
class TensorFinder:
    """Finds the torch tensors that may be the variables of a Keras layer, by their sizes and names.

    Attributes:
        layers: Finds the torch layers that a rule pairs with a Keras layer.
        alone: The paths of the torch layers that fit no Keras layer by class and shapes.
        held: For each Keras layer with one variable, by its path, the torch parameter of the same name as the layer.
        modules: The torch modules with layers inside that may be one Keras layer; each view has all tensors inside.
        partitions: The Keras variables that may be slices of a torch tensor, or several torch tensors joined.
    """

    layers: LayerFinder
    alone: frozenset[str] = frozenset()
    held: Mapping[str, Held] = field(default_factory=dict)
    modules: tuple[LayerView, ...] = ()
    partitions: Partitions = field(default_factory=Partitions)

    @cached_property
    def bare_parameters(self) -> tuple[TensorRef, ...]:
        """The parameters of modules that no rule knows: class tokens, position tables, layer scales.

        Of modules that fit no Keras layer, these are included: the only tensor of a module, such as a table of relative
        positions, and the own tensors of a module that contains layers, such as the packed weight of an attention. The
        tensors of layers that were never called are included if an output depends on them, and those of layers with a
        tensor of a partition.
        """
        found: list[TensorRef] = []
        divided = self.partitions.layers()
        for layer in self.layers.torch:
            weights = [tensor for tensor in layer.tensors if is_weight(tensor)]
            is_only_tensor = layer.path in self.alone and len(layer.tensors) == len(weights) == 1
            if not self.layers.is_known(layer) or is_only_tensor or layer.path in divided:
                found += weights
            elif layer.path in self.alone and layer.path in self._containers:
                found += [tensor for tensor in weights if "." not in tensor.role]
            elif layer in self._used_without_call:
                found += weights
        return tuple(found)

    @cached_property
    def _owners(self) -> dict[str, LayerView]:
        """For the path of each tensor, the torch layer that owns it."""
        return {tensor.path: layer for layer in self.layers.torch for tensor in layer.tensors}

    @cached_property
    def _leaves(self) -> tuple[LayerView, ...]:
        """The torch layers that ran and contain no other layer with tensors.

        Only their own weights determine their outputs.
        """
        return tuple(
            layer
            for layer in self.layers.torch
            if layer.path in self.layers.run.calls and layer.path not in self._containers
        )

    @cached_property
    def _containers(self) -> frozenset[str]:
        """The paths of the torch layers that contain a layer with tensors."""
        paths = [layer.path.split(".") for layer in self.layers.torch if layer.tensors]
        return frozenset(".".join(names[:length]) for names in paths for length in range(len(names)))

    def by_tensors(self, keras: LayerView) -> Iterator[Candidate]:
        """Yield candidates from torch modules of any class with tensors of the sizes of a Keras layer's variables."""
        wanted = [tensor for tensor in keras.tensors if not tensor.is_seed]
        for layers in self._layers_like(wanted):
            yield from islice(module_candidates(layers, keras, wanted), _MOST_WAYS)
        for layer in self._leaves:
            own = [tensor for tensor in layer.tensors if is_weight(tensor)]
            if same_sizes(_shapes(own), _shapes(wanted)):
                yield from islice(tensor_candidates((layer,), own, keras, wanted, "tensors"), _MOST_WAYS)
            elif len(own) == len(wanted) == 1:
                yield from last_rows(layer, own[0], keras, wanted[0])
            elif own and len(own) < len(wanted) <= _MOST_TENSORS:
                for chosen in combinations(wanted, len(own)):
                    if same_sizes(_shapes(own), _shapes(chosen)):
                        yield from islice(tensor_candidates((layer,), own, keras, chosen, "tensors"), _MOST_WAYS)

    def _layers_like(self, wanted: Sequence[TensorRef]) -> Sequence[tuple[LayerView, ...]]:
        """Return the torch modules with tensors of the sizes of these variables, or layers called one after another."""
        calls = self.layers.run.calls
        called = [(module,) for module in self.modules if module.path in calls]
        if modules := [layers for layers in called if have_sizes(layers, wanted)]:
            return modules
        leaves = sorted(self._leaves, key=lambda layer: calls[layer.path][0].index)
        return tuple(consecutive_layers(leaves, wanted))

    def by_name(self, keras: LayerView) -> Iterator[Candidate]:
        """Yield a candidate for each torch parameter with the name of a Keras layer and each transform that fits."""
        if held := self.held.get(keras.path):
            likely = held.transforms
            found = self.single_tensors(keras, held.keras, [held.torch])
            yield from sorted(found, key=lambda candidate: likely.index(candidate.mappings[0].transform))
        for layer in self._used_without_call:
            if words(layer.path) == words(keras.path):
                for candidate in self.layers.by_rules_of(layer, keras):
                    yield replace(candidate, kind="parameter", rule=None)

    @cached_property
    def _used_without_call(self) -> tuple[LayerView, ...]:
        """The torch layers that were never called although outputs depend on their tensors, such as an `out_proj`.

        The parent module of such a layer computes with the tensors itself, as MultiheadAttention does.
        """
        uncalled = (layer for layer in self.layers.torch if layer.path not in self.layers.run.calls)
        return tuple(layer for layer in uncalled if any(self.layers.run.is_used(one.path) for one in layer.tensors))

    def single_tensors(self, keras: LayerView, variable: TensorRef, among: Iterable[TensorRef]) -> Iterator[Candidate]:
        """Yield the torch tensors with as many values as a Keras variable, as candidates for this variable."""
        for tensor in among:
            if size_of(tensor.shape) == size_of(variable.shape):
                candidates = tensor_candidates((self._owners[tensor.path],), [tensor], keras, [variable], "parameter")
                yield from self.layers.ordered(candidates)

    def tensors_with_input(
        self, keras: LayerView, variable: TensorRef, fingerprint: Fingerprint | None
    ) -> Iterator[Candidate]:
        """Yield the tensors of torch layers with the input of a Keras layer, as candidates for one of its variables."""
        layers = [layer for layer in self._leaves if self.layers.had_input(layer, fingerprint)]
        yield from self.single_tensors(keras, variable, [one for layer in layers for one in layer.tensors])

    def parts(self, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
        """Yield the slices of torch tensors, and joined torch tensors, that are a Keras variable in a partition."""
        yield from self.layers.ordered(self.partitions.candidates(keras, variable))

    def slices_and_stacks(self, keras: LayerView, variable: TensorRef, *, nothing_else: bool) -> Iterator[Candidate]:
        """Yield the slices of a larger torch tensor, and the stacks of smaller ones, that may become a Keras variable.

        Args:
            keras: The Keras layer.
            variable: A variable of the Keras layer.
            nothing_else: True if no torch tensor has as many values as the variable; stacks are tried only then.
        """
        if nothing_else or has_equal_variables(keras, variable, 2):
            for tensor in self.bare_parameters:
                candidates = slice_candidates(self._owners[tensor.path], tensor, keras, variable)
                yield from self.layers.ordered(candidates)
        if nothing_else:
            yield from stack_candidates(self.layers.torch, keras, variable)
            yield from stack_of_halves_candidates(self.layers.torch, keras, variable)


def _shapes(tensors: Iterable[TensorRef]) -> list[Shape]:
    return [tensor.shape for tensor in tensors]
