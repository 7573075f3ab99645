"""Find the torch layers that a rule pairs with a Keras layer, as candidates of the probe.

A candidate has a whole torch layer, a slice of a larger one, or several smaller ones joined.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from keras3conv.model.views import LayerView, Side
from keras3conv.numerics.fingerprint import Fingerprint
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
from keras3conv.planner.probe.nearness import SAME_LIMIT
from keras3conv.planner.probe.option import Candidate, whole_tensor
from keras3conv.planner.probe.parts import (
    AxisDifference,
    JoinedLayer,
    differing_axes,
    joined_layer_candidates,
    size_along,
    sliced_layer_candidates,
)
from keras3conv.planner.probe.record import TorchRun
from keras3conv.planner.probe.row_orders import RowOrders
from keras3conv.planner.probe.rows import sequence_candidates
from keras3conv.rules.applying import mappings_of, with_paths
from keras3conv.rules.library import find
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Shape

_KeysOf = Callable[[tuple[LayerView]], dict[str, Any]]

_KERAS_KEYS: tuple[_KeysOf, _KeysOf] = (keras_keys, partial(keras_keys, in_keras=True))
"""The functions that compute the keys of Keras layers: with the shapes of their tensors in torch, and in Keras."""

_ONE_SIDED = partial(one_sided_keras_keys, scales=True)


@dataclass
class LayerFinder:
    """Finds the torch layers whose weights may be those of a Keras layer, from the rules and the recorded torch run.

    Attributes:
        torch: The torch layers that can be paired.
        run: The recorded torch run.
        one_sided: The keys (class and shapes, without biases and scales) of layers that may be paired even if only one
            of the two has a bias or a scale.
        orders: The orders of the rows of fused layers (query, key and value in one) that the search assumes.
    """

    torch: tuple[LayerView, ...]
    run: TorchRun
    one_sided: frozenset[Key] = frozenset()
    orders: RowOrders = field(default_factory=RowOrders)
    _found: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    _signatures: dict[tuple[Side, str, Shape | None], Hashable] = field(default_factory=dict)
    _keras_keys: dict[tuple[Hashable, Hashable], Any] = field(default_factory=dict)
    _known_mappings: dict[tuple[Hashable, ...], tuple[WeightMapping, ...]] = field(default_factory=dict)

    @cached_property
    def _keys(self) -> tuple[dict[str, Keys], dict[str, Keys]]:
        """The keys of the torch layers, by path: with the shapes of their tensors in torch, and with those in Keras."""
        return torch_keys(self.torch), torch_keys(self.torch, in_keras=True)

    @cached_property
    def _by_key(self) -> tuple[dict[Key, list[LayerView]], dict[Key, list[LayerView]]]:
        return by_key(self.torch, self._keys[0]), by_key(self.torch, self._keys[1])

    @cached_property
    def _by_class(self) -> dict[tuple[str, frozenset[str]], list[tuple[Key, LayerView]]]:
        """The torch layers, each with its key, by class and tensor names: ("torch.nn.Linear", {"weight", "bias"})."""
        found: dict[tuple[str, frozenset[str]], list[tuple[Key, LayerView]]] = {}
        for key, layers in self._by_key[0].items():
            found.setdefault((key[0], _roles(key)), []).extend((key, layer) for layer in layers)
        return found

    def is_known(self, layer: LayerView) -> bool:
        """Return whether a rule knows a torch layer, with the shapes of its tensors."""
        return any(keys[layer.path] for keys in self._keys)

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
        for known, fitting, keys in zip(self._keys, self._by_key, _KERAS_KEYS, strict=True):
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

    def ordered(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """Yield candidates with their rows in the orders that the search assumes."""
        return (candidate.in_order_of(self.orders) for candidate in candidates)

    def _mappings(self, rule: Rule, torch: LayerView, keras: LayerView) -> tuple[WeightMapping, ...]:
        """Return the mappings from the tensors of a torch layer to the variables of a Keras layer by a rule.

        The mappings are computed once for all layers that are equal except for their names.
        """
        key = (rule.name, self._signature("torch", torch), self._signature("keras", keras))
        if key not in self._known_mappings:
            self._known_mappings[key] = mappings_of(rule, torch, keras) or ()
        return tuple(with_paths(self._known_mappings[key], rule, torch, keras))

    def _keys_of(self, keras: LayerView, keys: _KeysOf = keras_keys) -> Any:
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

    def by_rules_of(self, torch: LayerView, keras: LayerView) -> Iterator[Candidate]:
        """Yield the candidates that the rules give for a torch layer, even one that never ran, and a Keras layer."""
        for known, keys in zip(self._keys, _KERAS_KEYS, strict=True):
            for key, rules in self._keys_of(keras, keys).items():
                if rule := first_common(rules, known[torch.path].get(key, ())):
                    yield from self._whole_layer(rule, torch, keras)

    def sliced_layers(self, keras: LayerView, fingerprint: Fingerprint | None) -> Iterator[Candidate]:
        """Yield candidates that are slices of larger torch layers with the same input: the query of a packed "qkv".

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        for _, rule, layer, difference in self._of_other_size(keras, fingerprint, larger="torch"):
            yield from self.ordered(sliced_layer_candidates(rule, layer, keras, difference))

    def joined_layers(self, keras: LayerView, fingerprint: Fingerprint | None) -> Iterator[Candidate]:
        """Yield candidates that join smaller torch layers with the same input: query, key and value for a Keras "qkv".

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
        """
        groups: dict[tuple[Key, str], list[JoinedLayer]] = {}
        for key, rule, layer, difference in self._of_other_size(keras, fingerprint, larger="keras"):
            joined = JoinedLayer(layer, difference.axes, difference.smaller)
            groups.setdefault((key, rule.name), []).append(joined)
        for (key, name), layers in groups.items():
            total = size_along(dict(key[1]), layers[0].axes)
            yield from self.ordered(joined_layer_candidates(find(name), layers, keras, total))

    def _of_other_size(
        self, keras: LayerView, fingerprint: Fingerprint | None, *, larger: Side
    ) -> Iterator[tuple[Key, Rule, LayerView, AxisDifference]]:
        """Yield the torch layers with the same input as a Keras layer that fit it but for the size of one axis.

        Args:
            keras: The Keras layer.
            fingerprint: The fingerprint of its first input; None if it has none.
            larger: The side on which the axis is larger.

        Yields:
            A key (class and shapes) of the Keras layer, the rule of the two layers, the torch layer, and the axis.
        """
        for key, names in self._keys_of(keras).items():
            for other, layer in self._by_class.get((key[0], _roles(key)), ()):
                sizes = (other, key) if larger == "torch" else (key, other)
                difference = differing_axes(*(dict(one[1]) for one in sizes))
                rule = first_common(names, self._keys[0][layer.path][other])
                if difference is not None and rule is not None and self.had_input(layer, fingerprint):
                    yield key, rule, layer, difference

    def had_input(self, layer: LayerView, fingerprint: Fingerprint | None) -> bool:
        """Return whether a recorded call of a torch layer had an input of this fingerprint."""
        calls = self.run.calls_of(layer.path)
        return fingerprint is not None and any(
            entry.agrees(fingerprint, SAME_LIMIT) for call in calls for entry in call.inputs
        )


def _roles(key: Key) -> frozenset[str]:
    return frozenset(role for role, _ in key[1])
