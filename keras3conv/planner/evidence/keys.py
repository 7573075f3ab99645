"""Compute the keys by which layers of both sides fit each other: a class with the shapes of its tensors.

Layers with a common key fit. A model repeats few kinds of layers many times, so keys are computed once for all layers
with the same signature.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping

from keras3conv.errors import RuleError, TransformError
from keras3conv.model.views import LayerView
from keras3conv.rules.applying import keras_shapes, mappings_of, may_apply, rules_for_torch
from keras3conv.rules.constants import is_constant
from keras3conv.rules.library import find, lookup
from keras3conv.rules.rule import Rule
from keras3conv.transforms import Shape

Key = tuple[str, frozenset[tuple[str, Shape]]]
"""A class with the roles and shapes of its tensors: of torch, or with `in_keras` of Keras."""

Keys = dict[Key, list[str]]
"""The keys of a layer, each with the names of the rules that give it."""


def torch_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """Return the keys of each torch layer, by its path.

    Args:
        layers: The layers.
        in_keras: Whether the keys have the classes, roles and shapes of Keras.
    """
    return _by_path(layers, _torch_keys_in_keras if in_keras else _torch_keys)


def keras_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """Return the keys of each Keras layer, by its path; see `torch_keys`."""
    return _by_path(layers, _keras_keys_in_keras if in_keras else _keras_keys)


def by_key(layers: Iterable[LayerView], keys: Mapping[str, Keys]) -> dict[Key, list[LayerView]]:
    """Return the layers that have each key."""
    found: dict[Key, list[LayerView]] = {}
    for layer in layers:
        for key in keys[layer.path]:
            found.setdefault(key, []).append(layer)
    return found


def first_common(names: Iterable[str], others: Iterable[str]) -> Rule | None:
    """Return the first rule that both lists of names contain."""
    known = set(others)
    return next((find(name) for name in names if name in known), None)


def _by_path(layers: Iterable[LayerView], find_keys: Callable[[LayerView], Keys]) -> dict[str, Keys]:
    """Return the keys of every layer, computed once for all layers with the same signature."""
    known: dict[Hashable, Keys] = {}
    found = {}
    for layer in layers:
        signature = signature_of(layer)
        if signature not in known:
            known[signature] = find_keys(layer)
        found[layer.path] = known[signature]
    return found


def signature_of(layer: LayerView) -> Hashable:
    """Return everything about a layer except its name and its position; equal layers have equal signatures."""
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
    """Return the shapes that a torch layer's tensors have in Keras; None where its configuration does not tell."""
    shapes = {role: shape for role, shape in layer.shapes.items() if role not in rule.ignored}
    keras: dict[str, Shape] = {}
    try:
        mappings = rule.weights({**rule.config_of(layer), "inputs": layer.run.inputs})
        for mapping in mappings:
            if shapes.keys() & set(mapping.torch):
                given = tuple(shapes.pop(role) for role in mapping.torch)
                keras |= dict(zip(mapping.keras, mapping.transform.shapes(given), strict=True))
    except (RuleError, TransformError, LookupError):
        return None  # the shapes do not fit the rule, or depend on the Keras layer
    return None if shapes else keras


def shapes_in_torch(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """Return the shapes that a Keras layer's tensors have in torch; None where the rule does not fit the layer."""
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
        return None  # the shapes do not fit the rule
    return torch if {role for mapping in mappings for role in mapping.keras} == set(shapes) else None


def _shape_set(shapes: Mapping[str, Shape]) -> frozenset[tuple[str, Shape]]:
    return frozenset(shapes.items())
