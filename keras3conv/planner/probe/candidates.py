"""Find the torch weights that may be those of a Keras layer (candidates), for the probe.

A candidate is a whole torch layer, a slice of a layer, several layers joined, or single tensors.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import combinations, islice
from typing import Any

from keras3conv.model.views import LayerView, Side, TensorRef
from keras3conv.numerics.fingerprint import Fingerprint, size_of
from keras3conv.planner.evidence.keys import (
    Key,
    Keys,
    by_key,
    first_common,
    keras_keys,
    one_sided_keras_keys,
    one_sided_torch_keys,
    signature_of,
    torch_keys,
)
from keras3conv.planner.evidence.names import words
from keras3conv.planner.evidence.parameters import Held
from keras3conv.planner.probe.layouts import same_sizes
from keras3conv.planner.probe.nearness import SAME_LIMIT
from keras3conv.planner.probe.option import Candidate, whole_tensor
from keras3conv.planner.probe.partitions import Partitions
from keras3conv.planner.probe.parts import (
    JoinedLayer,
    differing_axes,
    joined_layer_candidates,
    size_along,
    sliced_layer_candidates,
)
from keras3conv.planner.probe.pieces import (
    has_equal_variables,
    slice_candidates,
    stack_candidates,
    stack_of_halves_candidates,
)
from keras3conv.planner.probe.record import TorchRun
from keras3conv.planner.probe.row_orders import RowOrders
from keras3conv.planner.probe.rows import last_rows, sequence_candidates, tensor_candidates
from keras3conv.planner.probe.weights import is_weight
from keras3conv.rules.applying import mappings_of, with_paths
from keras3conv.rules.library import find
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Shape

_MOST_WAYS = 24
"""The largest number of candidates made from one torch layer without a rule."""

_IN_KERAS = partial(keras_keys, in_keras=True)
_ONE_SIDED = partial(one_sided_keras_keys, scales=True)

_MOST_TENSORS = 4


@dataclass
class CandidateFinder:
    """Finds the torch weights that may be those of a Keras layer, from both models and the recorded torch run.

    Attributes:
        torch: The torch layers that can be paired.
        run: The recorded torch run.
        one_sided: The keys (class and shapes, without biases and scales) of layers that may be paired even if only one
            of the two has a bias or a scale.
        alone: The paths of the torch layers that fit no Keras layer by class and shapes.
        orders: The orders of the rows of fused layers (query, key and value in one) that the search assumes.
        held: For each Keras layer with one variable, by its path, the torch parameter of the same name as the layer.
        modules: The torch modules with layers inside that may be one Keras layer; each view has all tensors inside.
        partitions: The Keras variables that may be slices of a torch tensor, or several torch tensors joined.
    """

    torch: tuple[LayerView, ...]
    run: TorchRun
    one_sided: frozenset[Key] = frozenset()
    alone: frozenset[str] = frozenset()
    orders: RowOrders = field(default_factory=RowOrders)
    held: Mapping[str, Held] = field(default_factory=dict)
    modules: tuple[LayerView, ...] = ()
    partitions: Partitions = field(default_factory=Partitions)
    _found: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    _signatures: dict[tuple[Side, str, Shape | None], Hashable] = field(default_factory=dict)
    _keras_keys: dict[tuple[Hashable, Hashable], Any] = field(default_factory=dict)
    _known_mappings: dict[tuple[Hashable, ...], tuple[WeightMapping, ...]] = field(default_factory=dict)

    @cached_property
    def _keys(self) -> dict[str, Keys]:
        return torch_keys(self.torch)

    @cached_property
    def _keys_in_keras(self) -> dict[str, Keys]:
        return torch_keys(self.torch, in_keras=True)

    @cached_property
    def _by_key(self) -> dict[Key, list[LayerView]]:
        return by_key(self.torch, self._keys)

    @cached_property
    def _by_key_in_keras(self) -> dict[Key, list[LayerView]]:
        return by_key(self.torch, self._keys_in_keras)

    @cached_property
    def _by_class(self) -> dict[tuple[str, frozenset[str]], list[tuple[Key, LayerView]]]:
        """The torch layers, each with its key, by class and tensor names: ("torch.nn.Linear", {"weight", "bias"})."""
        found: dict[tuple[str, frozenset[str]], list[tuple[Key, LayerView]]] = {}
        for key, layers in self._by_key.items():
            found.setdefault((key[0], _roles(key)), []).extend((key, layer) for layer in layers)
        return found

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
        for layer in self.torch:
            weights = [tensor for tensor in layer.tensors if is_weight(tensor)]
            is_unknown = not (self._keys[layer.path] or self._keys_in_keras[layer.path])
            is_only_tensor = layer.path in self.alone and len(layer.tensors) == len(weights) == 1
            if is_unknown or is_only_tensor or layer.path in divided:
                found += weights
            elif layer.path in self.alone and layer.path in self._containers:
                found += [tensor for tensor in weights if "." not in tensor.role]
            elif layer in self._used_without_call:
                found += weights
        return tuple(found)

    @cached_property
    def _owners(self) -> dict[str, LayerView]:
        """For the path of each tensor, the torch layer that owns it."""
        return {tensor.path: layer for layer in self.torch for tensor in layer.tensors}

    def by_rule(self, keras: LayerView) -> tuple[Candidate, ...]:
        """Return the torch layers, or sequences of them, that a rule pairs with a Keras layer, as candidates."""
        if keras.path not in self._found:
            self._found[keras.path] = tuple(self._by_rule(keras))
        return self._found[keras.path]

    def by_rule_and_input(self, keras: LayerView, fingerprint: Fingerprint) -> Iterator[Candidate]:
        """Yield the candidates that a rule gives for a Keras layer and whose first torch layer received the same input.

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint (sums of powers of the values) of the Keras layer's first input.
        """
        same = self.run.paths_with_input(fingerprint, SAME_LIMIT)
        return self._by_rule(keras, [layer for path in same for layer in self._layers_at.get(path, ())])

    @cached_property
    def _layers_at(self) -> dict[str, list[LayerView]]:
        found: dict[str, list[LayerView]] = {}
        for layer in self.torch:
            found.setdefault(layer.path, []).append(layer)
        return found

    def _by_rule(self, keras: LayerView, among: Sequence[LayerView] | None = None) -> Iterator[Candidate]:
        """Yield the candidates that a rule gives for a Keras layer.

        Args:
            keras: The Keras layer.
            among: The torch layers with which a candidate may begin; None for all.
        """
        seen: set[str] = set()
        ways = ((self._keys, self._by_key, keras_keys), (self._keys_in_keras, self._by_key_in_keras, _IN_KERAS))
        for known, fitting, keys in ways:
            for key, names in self._keys_of(keras, keys).items():
                for layer in fitting.get(key, ()) if among is None else among:
                    rule = first_common(names, known[layer.path].get(key, ()))
                    if rule is not None and layer.path in self.run.calls and layer.path not in seen:
                        seen.add(layer.path)
                        yield from self._whole_layer(rule, layer, keras)
        paths = None if among is None else {layer.path for layer in among}
        yield from self._by_rule_one_sided(keras, seen, paths)
        yield from sequence_candidates(self.torch if among is None else among, self.torch, self.run, keras)

    def _by_rule_one_sided(self, keras: LayerView, seen: set[str], among: Container[str] | None) -> Iterator[Candidate]:
        """Yield the torch layers that a rule pairs with a Keras layer, although only one of them has a bias or a scale.

        Args:
            keras: The Keras layer.
            seen: The paths of the torch layers that were yielded before; the new ones are added.
            among: The paths of the torch layers to consider; None for all.
        """
        for key, names in (self._keys_of(keras, _ONE_SIDED) if self.one_sided else {}).items():
            for layer, other_names in self._one_sided_layers.get(key.core, ()):
                rule = first_common(names, other_names) if among is None or layer.path in among else None
                if rule is not None and layer.path in self.run.calls and layer.path not in seen:
                    seen.add(layer.path)
                    yield from self._whole_layer(rule, layer, keras)

    @cached_property
    def _one_sided_layers(self) -> dict[Key, list[tuple[LayerView, list[str]]]]:
        """The torch layers, grouped by class and shapes without biases and scales, each with the names of its rules."""
        keys = one_sided_torch_keys(self.torch, scales=True)
        found: dict[Key, list[tuple[LayerView, list[str]]]] = {}
        for layer in self.torch:
            for key, names in keys[layer.path].items():
                if key.core in self.one_sided:
                    found.setdefault(key.core, []).append((layer, names))
        return found

    def _whole_layer(self, rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Candidate]:
        """Yield the candidate that takes all weights of a Keras layer from one torch layer.

        If torch flattens the input of the layer, yield two candidates: one whose weight is permuted, as the flattened
        axes are channels-last in Keras, and one for a Keras model that does not flatten.
        """
        seen = []
        unflattened = replace(torch, run=replace(torch.run, flattened=None))
        for layer in (torch, unflattened) if torch.run.flattened else (torch,):
            mappings = self._mappings(rule, layer, keras)
            if mappings in seen or not mappings:
                continue
            seen.append(mappings)
            sources = {tensor.path: whole_tensor(tensor) for tensor in torch.tensors}
            if all(name in sources for mapping in mappings for name in mapping.torch):
                candidate = Candidate(
                    kind="layer", layers=(torch,), keras=keras, rule=rule, mappings=mappings, sources=sources
                )
                yield candidate.in_order_of(self.orders)

    def _ordered(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        return (candidate.in_order_of(self.orders) for candidate in candidates)

    def _mappings(self, rule: Rule, torch: LayerView, keras: LayerView) -> tuple[WeightMapping, ...]:
        """Return the mappings from the tensors of a torch layer to the variables of a Keras layer by a rule.

        The mappings are computed once for all layers that are equal except for their names.
        """
        key = (rule.name, self._signature("torch", torch), self._signature("keras", keras))
        if key not in self._known_mappings:
            self._known_mappings[key] = mappings_of(rule, torch, keras) or ()
        return tuple(with_paths(self._known_mappings[key], rule, torch, keras))

    def _keys_of(self, keras: LayerView, keys: Callable[[tuple[LayerView]], dict[str, Any]] = keras_keys) -> Any:
        """Return what `keys` returns for a Keras layer, computed once for layers that differ only in name."""
        signature = self._signature("keras", keras)
        if (signature, keys) not in self._keras_keys:
            self._keras_keys[signature, keys] = keys((keras,))[keras.path]
        return self._keras_keys[signature, keys]

    def _signature(self, side: Side, layer: LayerView) -> Hashable:
        name = (side, layer.path, layer.run.flattened)
        if name not in self._signatures:
            self._signatures[name] = signature_of(layer)
        return self._signatures[name]

    def sliced_layers(self, keras: LayerView, fingerprint: Fingerprint | None) -> Iterator[Candidate]:
        """Yield candidates that are slices of larger torch layers with the same input: the query of a packed "qkv".

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        for key, names in self._keys_of(keras).items():
            for other, layer in self._by_class.get((key[0], _roles(key)), ()):
                difference = differing_axes(dict(other[1]), dict(key[1]))
                rule = first_common(names, self._keys[layer.path][other])
                if difference is not None and rule is not None and self._had_input(layer, fingerprint):
                    yield from self._ordered(sliced_layer_candidates(rule, layer, keras, difference))

    def joined_layers(self, keras: LayerView, fingerprint: Fingerprint | None) -> Iterator[Candidate]:
        """Yield candidates that join smaller torch layers with the same input: query, key and value for a Keras "qkv".

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        for key, names in self._keys_of(keras).items():
            by_rule: dict[str, list[JoinedLayer]] = {}
            for other, layer in self._by_class.get((key[0], _roles(key)), ()):
                difference = differing_axes(dict(key[1]), dict(other[1]))
                rule = first_common(names, self._keys[layer.path][other])
                if difference is not None and rule is not None and self._had_input(layer, fingerprint):
                    joined = JoinedLayer(layer, difference.axes, difference.smaller)
                    by_rule.setdefault(rule.name, []).append(joined)
            for name, layers in by_rule.items():
                total = size_along(dict(key[1]), layers[0].axes)
                candidates = joined_layer_candidates(find(name), layers, keras, total)
                yield from self._ordered(candidates)

    def _had_input(self, layer: LayerView, fingerprint: Fingerprint | None) -> bool:
        calls = self.run.calls_of(layer.path)
        return fingerprint is not None and any(
            entry.agrees(fingerprint, SAME_LIMIT) for call in calls for entry in call.inputs
        )

    @cached_property
    def _leaves(self) -> tuple[LayerView, ...]:
        """The torch layers that ran and contain no other layer with tensors.

        Only their own weights determine their outputs.
        """
        return tuple(
            layer for layer in self.torch if layer.path in self.run.calls and layer.path not in self._containers
        )

    @cached_property
    def _containers(self) -> frozenset[str]:
        """The paths of the torch layers that contain a layer with tensors."""
        paths = [layer.path.split(".") for layer in self.torch if layer.tensors]
        return frozenset(".".join(names[:length]) for names in paths for length in range(len(names)))

    def by_tensors(self, keras: LayerView) -> Iterator[Candidate]:
        """Yield candidates from torch modules of any class with tensors of the sizes of a Keras layer's variables."""
        wanted = [tensor for tensor in keras.tensors if not tensor.is_seed]
        for module in self.modules:
            if module.path in self.run.calls and same_sizes(_shapes(module.tensors), _shapes(wanted)):
                found = tensor_candidates((module,), module.tensors, keras, wanted, "tensors")
                yield from islice(found, _MOST_WAYS)
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

    def by_name(self, keras: LayerView) -> Iterator[Candidate]:
        """Yield a candidate for each torch parameter with the name of a Keras layer and each transform that fits."""
        if held := self.held.get(keras.path):
            likely = held.transforms
            found = self.single_tensors(keras, held.keras, [held.torch])
            yield from sorted(found, key=lambda candidate: likely.index(candidate.mappings[0].transform))
        for layer in self._used_without_call:
            if words(layer.path) == words(keras.path):
                for candidate in self._by_rules_of(layer, keras):
                    yield replace(candidate, kind="parameter", rule=None)

    def _by_rules_of(self, torch: LayerView, keras: LayerView) -> Iterator[Candidate]:
        """Yield the candidates that the rules give for a torch layer, even one that never ran, and a Keras layer."""
        for known, keys in ((self._keys, keras_keys), (self._keys_in_keras, _IN_KERAS)):
            for key, rules in self._keys_of(keras, keys).items():
                if rule := first_common(rules, known[torch.path].get(key, ())):
                    yield from self._whole_layer(rule, torch, keras)

    @cached_property
    def _used_without_call(self) -> tuple[LayerView, ...]:
        """The torch layers that were never called although outputs depend on their tensors, such as an `out_proj`.

        The parent module of such a layer computes with the tensors itself, as MultiheadAttention does.
        """
        uncalled = (layer for layer in self.torch if layer.path not in self.run.calls)
        return tuple(layer for layer in uncalled if any(self.run.is_used(one.path) for one in layer.tensors))

    def single_tensors(self, keras: LayerView, variable: TensorRef, among: Iterable[TensorRef]) -> Iterator[Candidate]:
        """Yield the torch tensors with as many values as a Keras variable, as candidates for this variable."""
        for tensor in among:
            if size_of(tensor.shape) == size_of(variable.shape):
                candidates = tensor_candidates((self._owners[tensor.path],), [tensor], keras, [variable], "parameter")
                yield from self._ordered(candidates)

    def tensors_with_input(
        self, keras: LayerView, variable: TensorRef, fingerprint: Fingerprint | None
    ) -> Iterator[Candidate]:
        """Yield the tensors of torch layers with the input of a Keras layer, as candidates for one of its variables."""
        layers = [layer for layer in self._leaves if self._had_input(layer, fingerprint)]
        yield from self.single_tensors(keras, variable, [one for layer in layers for one in layer.tensors])

    def parts(self, keras: LayerView, variable: TensorRef) -> Iterator[Candidate]:
        """Yield the slices of torch tensors, and joined torch tensors, that are a Keras variable in a partition."""
        yield from self._ordered(self.partitions.candidates(keras, variable))

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
                yield from self._ordered(candidates)
        if nothing_else:
            yield from stack_candidates(self.torch, keras, variable)
            yield from stack_of_halves_candidates(self.torch, keras, variable)


def _roles(key: Key) -> frozenset[str]:
    return frozenset(role for role, _ in key[1])


def _shapes(tensors: Iterable[TensorRef]) -> list[Shape]:
    return [tensor.shape for tensor in tensors]
