"""Load a legacy HDF5 file of weights into a model that was created by code.

Keras itself loads by order, and the order of a nested model's weights depends on the layers that were frozen when it
was saved. This module assigns weights by the names in the file; if the names are ambiguous, nothing is loaded.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.file import Group, role_of
from keras3conv.formats.keras2.order import proven_order
from keras3conv.frameworks.keras.keras2.weights import Staged, assign, staged_layer, variables_in_order
from keras3conv.frameworks.keras.tree import original_name
from keras3conv.messages import count, lay_out
from keras3conv.transforms import Array

_TOP_LEVEL = "top_level_model_weights"


def load_by_names(model: keras.Model, groups: Sequence[Group], path: Path) -> None:
    """Assign the values of a file to the variables of a model, all of them or none.

    The top-level layers are matched by name, or in order if the file has other names.

    Args:
        model: The model.
        groups: The weights in the file, a group for each top-level layer.
        path: The file, for messages.

    Raises:
        ModelError: The weights do not fit the model, or the order of a nested model's weights is ambiguous.
    """
    filled = [group for group in groups if group.weights and group.name != _TOP_LEVEL]
    layers = [layer for layer in model.layers if variables_in_order(layer)]
    by_name = {original_name(layer): layer for layer in layers}
    if len(filled) != len(layers):
        weighty = count(len(layers), "layer with weights", "layers with weights")
        fact = f"the file has weights for {count(len(filled), 'layer')}, the model has {weighty}"
        raise ModelError(lay_out(f"the weights in {path} are not those of {model.name} (keras)", [Problem(fact=fact)]))
    if {group.name for group in filled} == by_name.keys():
        layers = [by_name[group.name] for group in filled]
    problems: list[Problem] = []
    staged: Staged = []
    for layer, group in zip(layers, filled, strict=True):
        weights = _in_order_of(layer, group, problems, model.name)
        staged += staged_layer(layer, weights, group.name, problems)
    assign(model, staged, problems, path)


def _in_order_of(layer: Any, group: Group, problems: list[Problem], model: str) -> tuple[tuple[str, Array], ...]:
    """Return the weights in a group of the file, renamed after the layers of the model that they belong to.

    The group of a nested model has the weights of all its layers. If their names in the file are not the names of the
    model's layers, the weights are assigned to the layers in order and get their names. If the order is ambiguous, a
    problem is appended.

    Args:
        layer: The layer, which may be a nested model.
        group: The group of the file with the layer's weights.
        problems: The problems so far; it is extended.
        model: The name of the whole model, for the problem.
    """
    if not isinstance(layer, keras.Model) or not layer.layers:
        return group.weights
    leaves = [inner for inner in _leaves(layer) if variables_in_order(inner)]
    names = [original_name(inner) for inner in leaves]
    owned: dict[str, list[tuple[str, Array]]] = {}
    for name, array in group.weights:
        owner = next((one for one in names if f"/{one}/" in f"/{name}"), name.rpartition("/")[0])
        owned.setdefault(owner, []).append((name, array))
    if set(owned) <= set(names):
        return group.weights
    order, unproven = proven_order([(owner, _shapes(weights)) for owner, weights in owned.items()])
    if unproven:
        listed = [name.rpartition("/")[2] for name in order]
        fact = f"the file lists frozen layers last, and these names do not show the order: {', '.join(listed)}"
        inner = f'model.get_layer("{layer.name}").layers'
        fix = f"for layer, name in zip({inner}, {listed}): layer.name = name  # in the order of the layers of {model}"
        problems.append(Problem(keras=group.name, fact=fact, fixes=(fix,)))
        return group.weights
    renamed = zip(order, names, strict=False)
    return tuple((f"{name}/{role_of(weight)}:0", array) for owner, name in renamed for weight, array in owned[owner])


def _shapes(weights: Sequence[tuple[str, Array]]) -> Hashable:
    return tuple((role_of(name), array.shape) for name, array in weights)


def _leaves(layer: Any) -> Any:
    """Yield the layers of a nested model, and of the models inside it, but not these models themselves."""
    for inner in layer.layers:
        if isinstance(inner, keras.Model) and inner.layers:
            yield from _leaves(inner)
        else:
            yield inner
