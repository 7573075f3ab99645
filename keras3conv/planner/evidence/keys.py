"""Compute the keys of layers: a torch layer and a Keras layer fit each other if they have a key in common.

A key is a class name, with the roles (names in the layer) and shapes of the layer's tensors: "torch.nn.Linear" with
("weight", (10, 4)) and ("bias", (10,)). Layers that differ only in their paths share one computation.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from keras3conv.errors import RuleError, TransformError
from keras3conv.model.views import LayerView
from keras3conv.rules.applying import keras_shapes, mappings_of, may_apply, rules_for_torch, torch_config
from keras3conv.rules.constants import is_constant
from keras3conv.rules.library import find, lookup
from keras3conv.rules.neutral import neutral_in_torch
from keras3conv.rules.rule import Config, Rule
from keras3conv.transforms import Shape

T = TypeVar("T")

_SIZES = ("normalized_shape", "num_channels", "num_features")
"""The fields of a normalisation's configuration that determine the size of its input."""

Key = tuple[str, frozenset[tuple[str, Shape]]]
"""The key of a layer: a class name, and the shapes of the layer's tensors by role ("weight"), as in torch or Keras."""

Keys = dict[Key, list[str]]
"""The keys of one layer; for each key the names of the rules from which it was computed."""


def torch_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """Return the keys (class name with tensor shapes) of each torch layer, by its path.

    Args:
        layers: The layers.
        in_keras: Whether to express the keys in Keras classes, roles and shapes instead of torch's.
    """
    return _by_path(layers, _torch_keys_in_keras if in_keras else _torch_keys)


def keras_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """Return the keys of each Keras layer, by its path: a torch class with the shapes that its tensors have in torch.

    Args:
        layers: The layers.
        in_keras: Whether to express the keys in Keras classes, roles and shapes instead of torch's.
    """
    return _by_path(layers, _keras_keys_in_keras if in_keras else _keras_keys)


@dataclass(frozen=True)
class OneSidedKey:
    """A key of layers that may be paired although only one of them has a bias or a scale: if `core` is the same.

    A role is the name of a tensor in its layer, such as "weight".

    Attributes:
        core: The torch class, and the roles and shapes of the tensors that both layers must have.
        neutral: The roles and shapes of the biases and scales, which one of the two layers may lack: a bias of 0 and a
            scale of 1 change nothing.
    """

    core: Key
    neutral: frozenset[tuple[str, Shape]]


OneSidedKeys = dict[OneSidedKey, list[str]]
"""Each `OneSidedKey` of a layer, with the names of the rules from which it was computed."""


def one_sided_torch_keys(layers: Iterable[LayerView], *, scales: bool) -> dict[str, OneSidedKeys]:
    """Return, by layer path, the keys that pair a torch layer with a Keras layer if only one has a bias or a scale.

    Args:
        layers: The layers.
        scales: Whether the scale of a normalisation may also be on one side only; otherwise only a bias may.
    """
    return _by_path(layers, partial(_one_sided_torch_keys, scales=scales))


def one_sided_keras_keys(layers: Iterable[LayerView], *, scales: bool) -> dict[str, OneSidedKeys]:
    """Return, by layer path, the keys that pair a Keras layer with a torch layer if only one has a bias or a scale.

    Args:
        layers: The layers.
        scales: Whether the scale of a normalisation may also be on one side only; otherwise only a bias may.
    """
    return _by_path(layers, partial(_one_sided_keras_keys, scales=scales))


def one_sided_cores(torch: Mapping[str, OneSidedKeys], keras: Mapping[str, OneSidedKeys]) -> set[Key]:
    """Return the keys (class and shapes, without biases and scales) of layers that may differ in a bias or a scale.

    For such a key, torch and Keras have different numbers of layers with a bias or a scale: two of three Conv2d, but
    all three Conv2D. For any other key, each layer has a partner with the same biases and scales.

    Args:
        torch: Each `OneSidedKey` of the unpaired torch layers, computed with `scales=True`, by layer path.
        keras: Each `OneSidedKey` of the unpaired Keras layers, by layer path.
    """
    counts: dict[Key, Counter[frozenset[tuple[str, Shape]]]] = {}
    for sign, found in ((1, torch), (-1, keras)):
        for entry in found.values():
            for key in entry:
                counts.setdefault(key.core, Counter())[key.neutral] += sign
    return {core for core, of_key in counts.items() if any(of_key.values()) and min(of_key.values()) < 0}


def layers_alone(torch: Iterable[LayerView], keras: Iterable[LayerView]) -> frozenset[str]:
    """Return the paths of the torch layers that fit none of the Keras layers by class and shapes."""
    return _alone(torch, keras, torch_keys, keras_keys)


def keras_layers_alone(torch: Iterable[LayerView], keras: Iterable[LayerView]) -> frozenset[str]:
    """Return the paths of the Keras layers that fit none of the torch layers by class and shapes."""
    return _alone(keras, torch, keras_keys, torch_keys)


def _alone(
    these: Iterable[LayerView],
    others: Iterable[LayerView],
    keys: Callable[..., dict[str, Keys]],
    other_keys: Callable[..., dict[str, Keys]],
) -> frozenset[str]:
    layers, others = tuple(these), tuple(others)
    fitting: set[str] = set()
    for in_keras in (False, True):
        known = {key for entry in other_keys(others, in_keras=in_keras).values() for key in entry}
        fitting |= {path for path, entry in keys(layers, in_keras=in_keras).items() if known.intersection(entry)}
    return frozenset(layer.path for layer in layers) - fitting


def by_key(layers: Iterable[LayerView], keys: Mapping[str, Keys]) -> dict[Key, list[LayerView]]:
    """Group layers by key (class and tensor shapes): a dict from key to layers.

    A layer with several keys is in several groups.

    Args:
        layers: The layers of one model.
        keys: The keys of each layer, by its path.
    """
    found: dict[Key, list[LayerView]] = {}
    for layer in layers:
        for key in keys[layer.path]:
            found.setdefault(key, []).append(layer)
    return found


def first_common(names: Iterable[str], allowed: Iterable[str]) -> Rule | None:
    """Return the rule whose name is the first in `names` that is also in `allowed`; None if no name is in both."""
    known = set(allowed)
    return next((find(name) for name in names if name in known), None)


def _by_path(layers: Iterable[LayerView], find_keys: Callable[[LayerView], T]) -> dict[str, T]:
    """Return the result of `find_keys` for every layer, by the path of the layer.

    Layers that differ only in their paths share one result.
    """
    known: dict[Hashable, T] = {}
    found = {}
    for layer in layers:
        signature = signature_of(layer)
        if signature not in known:
            known[signature] = find_keys(layer)
        found[layer.path] = known[signature]
    return found


def signature_of(layer: LayerView) -> Hashable:
    """Return a hashable value that is equal for layers of the same class, configuration, shapes and input shapes.

    Names and positions of the layers do not count.
    """
    config = None if layer.config is None else {k: v for k, v in layer.config.items() if k != "name"}
    return (layer.kinds, repr(config), tuple(layer.shapes.items()), layer.run.inputs, layer.run.flattened)


def _torch_keys(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in rules_for_torch(layer):
        if may_apply(rule, layer):
            kept = [tensor for tensor in layer.tensors if tensor.role not in rule.ignored and not is_constant(tensor)]
            shapes = {tensor.role: tensor.shape for tensor in kept}
            keys.setdefault((rule.torch, _shape_set(shapes)), []).append(rule.name)
    return keys


def _keras_keys(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in lookup((), layer.kinds):
        shapes = shapes_in_torch(rule, layer)
        if shapes is not None:
            keys.setdefault((rule.torch, _shape_set(shapes)), []).append(rule.name)
    return keys


def _torch_keys_in_keras(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in rules_for_torch(layer) if layer.config is not None else ():
        shapes = _shapes_in_keras(rule, layer) if may_apply(rule, layer) else None
        if shapes is not None:
            keys.setdefault((rule.keras, _shape_set(shapes)), []).append(rule.name)
    return keys


def _keras_keys_in_keras(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in lookup((), layer.kinds):
        keys.setdefault((rule.keras, _shape_set(keras_shapes(rule, layer))), []).append(rule.name)
    return keys


def _shapes_in_keras(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """Return the shapes of the Keras variables that a rule makes of a torch layer, by role; None if they do not fit."""
    shapes = {role: shape for role, shape in layer.shapes.items() if role not in rule.ignored}
    keras: dict[str, Shape] = {}
    try:
        mappings = rule.weights({**rule.config_of(layer), "inputs": layer.run.inputs})
        for mapping in mappings:
            if shapes.keys() & set(mapping.torch):
                given = tuple(shapes.pop(role) for role in mapping.torch)
                keras |= dict(zip(mapping.keras, mapping.transform.shapes(given), strict=True))
    except (RuleError, TransformError, LookupError):
        return None  # the rule does not allow these shapes, or they depend on the Keras layer
    return None if shapes else keras


def shapes_in_torch(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """Return the shapes of the torch tensors that a rule makes of a Keras layer, by role; None if they do not fit."""
    mappings = mappings_of(rule, None, layer)
    if mappings is None:
        return None
    shapes = keras_shapes(rule, layer)
    torch: dict[str, Shape] = {}
    try:
        for mapping in mappings:
            given = tuple(shapes[role] for role in mapping.keras)
            torch |= dict(zip(mapping.torch, mapping.transform.inverse.shapes(given), strict=True))
    except (TransformError, KeyError):
        return None  # the rule does not allow these shapes
    return torch if {role for mapping in mappings for role in mapping.keras} == set(shapes) else None


def _one_sided_torch_keys(layer: LayerView, *, scales: bool) -> OneSidedKeys:
    keys: OneSidedKeys = {}
    for rule in rules_for_torch(layer):
        # A normalisation without tensors also fits a Keras layer with scale one and bias zero.
        if may_apply(rule, layer) or not layer.tensors:
            kept = [tensor for tensor in layer.tensors if tensor.role not in rule.ignored and not is_constant(tensor)]
            shapes = {tensor.role: tensor.shape for tensor in kept}
            config = None if layer.config is None else rule.config_of(layer)
            if key := _one_sided_key(rule, shapes, config, scales=scales):
                keys.setdefault(key, []).append(rule.name)
    return keys


def _one_sided_keras_keys(layer: LayerView, *, scales: bool) -> OneSidedKeys:
    keys: OneSidedKeys = {}
    for rule in lookup((), layer.kinds):
        shapes = shapes_in_torch(rule, layer)
        config = None if shapes is None else torch_config(rule, None, layer)
        if shapes is not None and (key := _one_sided_key(rule, shapes, config, scales=scales)):
            keys.setdefault(key, []).append(rule.name)
    return keys


def _one_sided_key(
    rule: Rule, shapes: Mapping[str, Shape], config: Config | None, *, scales: bool
) -> OneSidedKey | None:
    """Return the `OneSidedKey` of a layer: its biases are in `neutral`, its other tensors in `core`.

    A normalisation may have no other tensors. Then `core` has its size from the configuration. Return None if the
    configuration has no size either.

    Args:
        rule: The rule that pairs the class of the layer.
        shapes: The shapes of the layer's tensors in torch, by name in the layer.
        config: The torch configuration; it has the size of a normalisation without tensors.
        scales: Whether `neutral` also has the scales of normalisations.
    """
    neutral = {role for role in shapes if neutral_in_torch(rule, role) in ((0, 1) if scales else (0,))}
    core = {role: shape for role, shape in shapes.items() if role not in neutral}
    if not core:  # a normalisation without core tensors: its configuration has the size
        sizes = next((config[name] for name in _SIZES if config and config.get(name)), None)
        if sizes is None:
            return None
        core = {"": (sizes,) if isinstance(sizes, int) else tuple(sizes)}
    kept = {role: shape for role, shape in shapes.items() if role in neutral}
    return OneSidedKey((rule.torch, _shape_set(core)), _shape_set(kept))


def _shape_set(shapes: Mapping[str, Shape]) -> frozenset[tuple[str, Shape]]:
    return frozenset(shapes.items())
