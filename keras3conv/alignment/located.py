"""Translate a plan between a live Keras model and a file, which numbers the variables of layers of the user's own."""

from collections.abc import Mapping
from dataclasses import replace

from keras3conv.alignment.pair import Ignored, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.model.numbered import has_numbers, names_by_location
from keras3conv.model.paths import join_layers, split_layers
from keras3conv.model.views import ModelView


def may_have_other_names(plan: Alignment) -> bool:
    """Return True if a live Keras model and its file may name variables of this plan differently.

    That is so if the plan has numbers in place of names of variables ("gate/0"), or custom layers that have variables.
    """
    layers = [layer for layer in plan.keras.layers if layer.tensors]
    return has_numbers(plan.keras) or any(not layer.kind.startswith("keras.") for layer in layers)


def named_for(plan: Alignment, keras: ModelView) -> Alignment:
    """Return a plan with the names that a Keras model or file has for the variables that a file numbers.

    Args:
        plan: The plan; it is returned unchanged if all its names are those of the model.
        keras: The view of the Keras model or file, with the locations of the variables.
    """
    names = names_by_location(plan.keras, keras)
    if not names:
        return plan
    return replace(
        plan,
        pairs=tuple(_pair(pair, names) for pair in plan.pairs),
        ignored=tuple(_ignored(entry, names) for entry in plan.ignored),
        keras=_view(plan.keras, names, keras),
    )


def _pair(pair: Pair, names: Mapping[str, str]) -> Pair:
    weights = (
        replace(mapping, keras=tuple(names.get(path, path) for path in mapping.keras)) for mapping in pair.weights
    )
    layers = join_layers(names.get(path, path) for path in split_layers(pair.keras))
    return replace(pair, keras=layers, weights=tuple(weights))


def _ignored(entry: Ignored, names: Mapping[str, str]) -> Ignored:
    return replace(entry, path=names.get(entry.path, entry.path)) if entry.side == "keras" else entry


def _view(planned: ModelView, names: Mapping[str, str], keras: ModelView) -> ModelView:
    """Return the Keras view of a plan, with the paths and the names in the layer that the model gives the variables.

    Args:
        planned: The Keras view of the plan.
        names: The new path of each variable that has another one.
        keras: The view of the model or file.
    """
    roles = {tensor.path: tensor.role for tensor in keras.tensors()}
    layers = []
    for layer in planned.layers:
        tensors = (
            replace(tensor, path=names[tensor.path], role=roles[names[tensor.path]]) if tensor.path in names else tensor
            for tensor in layer.tensors
        )
        layers.append(replace(layer, tensors=tuple(tensors)))
    return replace(planned, layers=tuple(layers))
