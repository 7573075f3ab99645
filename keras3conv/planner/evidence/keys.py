"""What a layer of either side may be, on the torch side or on the Keras side: a class, with the shapes of its tensors.

Layers that may be the same fit each other. A model has few kinds of layers many times, and each kind is looked at once.
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
"""A torch class, with the roles and shapes of its tensors: what a layer of either side is on the torch side."""

Keys = dict[Key, list[str]]
"""What a layer may be, each with the names of the rules that say so."""


def torch_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """What each torch layer may be, by its path.

    Args:
        layers: The layers.
        in_keras: Whether the keys are of the Keras side: its classes, roles and shapes.
    """
    return _by_path(layers, _torch_keys_in_keras if in_keras else _torch_keys)


def keras_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """What each Keras layer may be, by its path; see `torch_keys`."""
    return _by_path(layers, _keras_keys_in_keras if in_keras else _keras_keys)


def by_key(layers: Iterable[LayerView], keys: Mapping[str, Keys]) -> dict[Key, list[LayerView]]:
    """The layers that may be the same, by what they may be."""
    found: dict[Key, list[LayerView]] = {}
    for layer in layers:
        for key in keys[layer.path]:
            found.setdefault(key, []).append(layer)
    return found


def first_common(names: Iterable[str], others: Iterable[str]) -> Rule | None:
    """The first rule that makes both sides fit."""
    known = set(others)
    return next((find(name) for name in names if name in known), None)


def _by_path(layers: Iterable[LayerView], find_keys: Callable[[LayerView], Keys]) -> dict[str, Keys]:
    """The keys of every layer; a model has few kinds of layers many times, and each kind is looked at once."""
    known: dict[Hashable, Keys] = {}
    found = {}
    for layer in layers:
        sort = sort_of(layer)
        if sort not in known:
            known[sort] = find_keys(layer)
        found[layer.path] = known[sort]
    return found


def sort_of(layer: LayerView) -> Hashable:
    """What layers have in common that differ in nothing but their name and place."""
    config = None if layer.config is None else {k: v for k, v in layer.config.items() if k != "name"}
    return (layer.kinds, repr(config), tuple(layer.shapes.items()), layer.inputs, layer.flattened)


def _torch_keys(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in rules_for_torch(layer):
        if may_apply(rule, layer):
            kept = [tensor for tensor in layer.tensors if tensor.role not in rule.ignored and not is_constant(tensor)]
            shapes = {tensor.role: tensor.shape for tensor in kept}
            keys.setdefault((rule.torch, _signature(shapes)), []).append(rule.name)
    return keys


def _keras_keys(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in lookup((), layer.kinds):
        shapes = shapes_in_torch(rule, layer)
        if shapes is not None:
            keys.setdefault((rule.torch, _signature(shapes)), []).append(rule.name)
    return keys


def _torch_keys_in_keras(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in rules_for_torch(layer) if layer.config is not None else ():
        shapes = _shapes_in_keras(rule, layer) if may_apply(rule, layer) else None
        if shapes is not None:
            keys.setdefault((rule.keras, _signature(shapes)), []).append(rule.name)
    return keys


def _keras_keys_in_keras(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in lookup((), layer.kinds):
        keys.setdefault((rule.keras, _signature(keras_shapes(rule, layer))), []).append(rule.name)
    return keys


def _shapes_in_keras(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """What the tensors of a torch layer are on the Keras side; None where its configuration does not tell."""
    shapes = {role: shape for role, shape in layer.shapes.items() if role not in rule.ignored}
    keras: dict[str, Shape] = {}
    try:
        mappings = rule.weights({**rule.config_of(layer), "inputs": layer.inputs})
        for mapping in mappings:
            if shapes.keys() & set(mapping.torch):
                given = tuple(shapes.pop(role) for role in mapping.torch)
                keras |= dict(zip(mapping.keras, mapping.transform.shapes(given), strict=True))
    except (RuleError, TransformError, LookupError):
        return None  # the shapes are not those of this rule's layer, or only the Keras layer can tell
    return None if shapes else keras


def shapes_in_torch(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """What the tensors of a Keras layer are on the torch side; None where it cannot be a layer of this rule."""
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
        return None  # the shapes are not those of this rule's layer
    return torch if {role for mapping in mappings for role in mapping.keras} == set(shapes) else None


def _signature(shapes: Mapping[str, Shape]) -> frozenset[tuple[str, Shape]]:
    return frozenset(shapes.items())
