"""The weights of Keras 2 into a model of Keras 3: layer by layer by their names, and within a layer in order.

A layer's group in the file has the names of its variables in the order in which it made them, those that are trained
first. A group of a model has them for all its layers; there the names of the layers say which is whose.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.file import Group, role_of
from keras3conv.messages import lay_out
from keras3conv.transforms_base import Array

_ROLES = {"depthwise_kernel": "kernel"}
"""Variables of depthwise convolutions that have another name now."""

Variables = Sequence[keras.Variable]
Weights = Sequence[tuple[str, Array]]


def load(model: keras.Model, groups: Sequence[Group], path: Path) -> None:
    """Writes the values of a file into a model, all of them or none.

    Raises:
        ModelError: A layer of one side has no place on the other, or its variables are others; all of it at once.
    """
    layers = {layer.name: layer for layer in model.layers}
    problems: list[Problem] = []
    staged: list[tuple[keras.Variable, Array]] = []
    filled = [group for group in groups if group.weights]
    for group in filled:
        if group.name not in layers:
            problems.append(Problem(keras=group.name, fact="is in the file, and not in the architecture"))
            continue
        staged += _staged(layers[group.name], group.weights, group.name, problems)
    names = {group.name for group in filled}
    for name, layer in layers.items():
        if name not in names and _variables(layer):
            problems.append(Problem(keras=name, fact="has variables, and the file has none for it"))
    if problems:
        raise ModelError(lay_out(f"the weights in {path} are not those of its architecture", problems))
    for variable, array in staged:
        variable.assign(array)


def _staged(layer: Any, weights: Weights, path: str, problems: list[Problem]) -> Iterator[tuple[keras.Variable, Array]]:
    inner = getattr(layer, "layers", None)
    if isinstance(layer, keras.Model) and inner:
        yield from _in_model(layer, weights, path, problems)
        return
    variables, of_keras = _variables(layer), type(layer).__module__.startswith("keras.")
    if len(variables) != len(weights):
        problems.append(Problem(keras=path, fact=f"{len(weights)} variables in the file, {len(variables)} in Keras 3"))
        return
    for variable, (name, array) in zip(variables, weights, strict=True):
        role = role_of(name)
        if (of_keras and variable.name not in (role, _ROLES.get(role))) or tuple(variable.shape) != array.shape:
            fact = f"{role} {array.shape} in the file is {variable.name} {tuple(variable.shape)} in Keras 3"
            problems.append(Problem(keras=path, fact=fact))
        else:
            yield variable, np.asarray(array)


def _in_model(
    model: keras.Model, weights: Weights, path: str, problems: list[Problem]
) -> Iterator[tuple[keras.Variable, Array]]:
    """The weights of a model within the model: each belongs to the layer whose name is the first in its own."""
    layers = {layer.name: layer for layer in model.layers}
    nested = {inner.name: name for name, layer in layers.items() for inner in _below(layer) if inner.name not in layers}
    found: dict[str, list[tuple[str, Array]]] = {name: [] for name in layers}
    for name, array in weights:
        owner = next((nested.get(piece, piece) for piece in name.split("/") if piece in layers or piece in nested), "")
        if not owner:
            problems.append(Problem(keras=path, fact=f"{name} in the file belongs to none of its layers"))
            return
        found[owner].append((name, array))
    for name, layer in layers.items():
        yield from _staged(layer, found[name], f"{path}/{name}", problems)


def _below(layer: Any) -> Iterator[Any]:
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield inner
            yield from _below(inner)


def _variables(layer: Any) -> Variables:
    """The variables in the order in which Keras 2 saved them: those that are trained first."""
    seeds = {id(generator.state) for part in layer._flatten_layers() for generator in part._seed_generators}
    ordered = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [variable for variable in ordered if id(variable) not in seeds]


__all__ = ["load"]
