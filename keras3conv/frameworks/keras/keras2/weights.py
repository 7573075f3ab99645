"""Load the weights of an HDF5 file of Keras 2 into a model of Keras 3, by the names of the layers.

A layer's group in the file has the names of its variables in the order in which it made them, those that are trained
first. A group of a model has them for all its layers; there the names of the layers say which is whose.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.file import Group, role_of
from keras3conv.frameworks.keras.keras2.cudnn import from_cudnn, is_of_cudnn
from keras3conv.frameworks.keras.origin import original_name
from keras3conv.messages import lay_out
from keras3conv.transforms import Array, Shape

_ROLES = {"depthwise_kernel": "kernel"}
"""Variables of depthwise convolutions that have another name now."""

_NUMBERED = re.compile(r"_\d+$")
"""What TensorFlow 1 made of names that were there twice: those of cells on top of each other."""

Variables = Sequence[keras.Variable]
Weights = Sequence[tuple[str, Array]]
Staged = list[tuple[keras.Variable, Array]]


def load(model: keras.Model, groups: Sequence[Group], path: Path, dropped: Sequence[str] = ()) -> None:
    """Write the values of a file into a model, all of them or none.

    Args:
        model: The model.
        groups: The weights in the file.
        path: The file.
        dropped: The paths of layers in the file that the model does not have, on purpose.

    Raises:
        ModelError: A layer of one side has no place on the other, or its variables are others; all of it at once.
    """
    layers = {original_name(layer): layer for layer in model.layers}
    problems: list[Problem] = []
    staged: Staged = []
    filled = [group for group in groups if group.weights and group.name not in dropped]
    for group in filled:
        if group.name not in layers:
            problems.append(Problem(keras=group.name, fact="is in the file, and not in the architecture"))
            continue
        staged += staged_layer(layers[group.name], group.weights, group.name, problems)
    names = {group.name for group in filled}
    for name, layer in layers.items():
        if name not in names and variables_in_order(layer):
            problems.append(Problem(keras=name, fact="has variables, and the file has none for it"))
    assign(model, staged, problems, path)


def assign(model: keras.Model, staged: Staged, problems: Sequence[Problem], path: Path) -> None:
    """Write staged values into the variables of a model; raises `ModelError` before that if there are problems."""
    if problems:
        raise ModelError(lay_out(f"the weights in {path} are not those of its architecture", problems))
    for variable, array in staged:
        variable.assign(array)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with values that it makes of its variables


def staged_layer(layer: Any, weights: Weights, path: str, problems: list[Problem]) -> Iterator[Any]:
    """Pair the variables of a layer with the arrays in its group; what does not fit becomes a problem."""
    inner = getattr(layer, "layers", None)
    if isinstance(layer, keras.Model) and inner:
        yield from _in_model(layer, weights, path, problems)
        return
    variables, of_keras = variables_in_order(layer), type(layer).__module__.startswith("keras.")
    weights = _converted(weights, [tuple(variable.shape) for variable in variables])
    if len(variables) != len(weights):
        problems.append(Problem(keras=path, fact=f"{len(weights)} variables in the file, {len(variables)} in Keras 3"))
        return
    for variable, (name, array) in zip(variables, weights, strict=True):
        role = role_of(name)
        roles = (role, _ROLES.get(role), _NUMBERED.sub("", role))
        if (of_keras and variable.name not in roles) or tuple(variable.shape) != array.shape:
            fact = f"{role} {array.shape} in the file is {variable.name} {tuple(variable.shape)} in Keras 3"
            problems.append(Problem(keras=path, fact=fact))
        else:
            yield variable, np.asarray(array)


def _converted(weights: Weights, shapes: Sequence[Shape]) -> Weights:
    """The weights with those of cuDNN's layers, of which there are three each, in the form of Keras' own."""
    if len(weights) != len(shapes) or len(weights) % 3:
        return weights
    found: list[tuple[str, Array]] = []
    for start in range(0, len(weights), 3):
        names, arrays = zip(*weights[start : start + 3], strict=True)
        if is_of_cudnn(arrays, shapes[start : start + 3]):
            arrays = from_cudnn(arrays, shapes[start + 2])
        found += zip(names, arrays, strict=True)
    return found


def _in_model(model: keras.Model, weights: Weights, path: str, problems: list[Problem]) -> Iterator[Any]:
    """The weights of a model within the model: each belongs to the layer whose name is the first in its own."""
    layers = {original_name(layer): layer for layer in model.layers}
    owners = {name: name for name in layers}
    for name, layer in layers.items():
        for inner in _below(layer):
            owners.setdefault(original_name(inner), name)
    found: dict[str, list[tuple[str, Array]]] = {name: [] for name in layers}
    for name, array in weights:
        owner = _owner(name, owners)
        if not owner:
            problems.append(Problem(keras=path, fact=f"{name} in the file belongs to none of its layers"))
            return
        found[owner].append((name, array))
    for name, layer in layers.items():
        yield from staged_layer(layer, found[name], f"{path}/{name}", problems)


def _owner(weight: str, owners: Mapping[str, str]) -> str:
    """The layer that a weight belongs to: its name is the first in the weight's, the longest of those at one place."""
    places = {name: f"/{weight}".find(f"/{name}/") for name in owners}
    found = [(place, -len(name), name) for name, place in places.items() if place >= 0]
    return owners[min(found)[2]] if found else ""


def _below(layer: Any) -> Iterator[Any]:
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield inner
            yield from _below(inner)


def variables_in_order(layer: Any) -> Variables:
    """Return the variables in the order in which Keras 2 saved them: those that are trained first."""
    seeds = {id(generator.state) for part in layer._flatten_layers() for generator in part._seed_generators}
    ordered = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [variable for variable in ordered if id(variable) not in seeds]


__all__ = ["Staged", "assign", "load", "staged_layer", "variables_in_order"]
