"""Load a TensorFlow checkpoint into a Keras model that was created by code: by the names of the layers, or in order."""

from pathlib import Path

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.keras2.weights import Staged, assign
from keras3conv.frameworks.keras.tree import variables_by_path
from keras3conv.frameworks.keras.view import view
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView, ModelView
from keras3conv.transforms import Shape

Kind = dict[str, Shape]
"""The shapes of the variables of a layer, by role ("kernel")."""


def load_checkpoint(model: keras.Model, saved: ModelView, path: Path) -> None:
    """Assign the values of a checkpoint to the variables of a model, all of them or none.

    Layers are matched by their paths. If the paths differ, layers are matched by position. The layers at each position
    must then have variables with the same names and shapes.

    Args:
        model: The model.
        saved: The layers and tensors in the checkpoint (its view).
        path: The checkpoint, for messages.

    Raises:
        ModelError: The layers differ, or the checkpoint does not tell their order.
    """
    model_layers = [layer for layer in view(model).layers if _kind(layer)]
    file_layers = [layer for layer in saved.layers if layer.tensors]
    by_path = {layer.path: layer for layer in file_layers}
    if by_path.keys() == {layer.path for layer in model_layers}:
        file_layers = [by_path[layer.path] for layer in model_layers]
    problems = _problems(model_layers, file_layers)
    if problems:
        raise ModelError(lay_out(f"the weights in {path} are not the weights of {model.name} (keras)", problems))
    variables = variables_by_path(model)
    staged: Staged = []
    for layer, other in zip(model_layers, file_layers, strict=True):
        sources = {tensor.role: tensor.path for tensor in other.tensors}
        targets = {tensor.role: tensor.path for tensor in layer.tensors if not tensor.is_seed}
        staged += [(variables[target], saved.read(sources[role])) for role, target in targets.items()]
    assign(model, staged, (), path)


def _problems(model_layers: list[LayerView], file_layers: list[LayerView]) -> list[Problem]:
    """Return the reasons why the layers of a checkpoint cannot be those of a model; empty if they can be.

    They can be if both lists have the same length, and the same classes, variable names and shapes at each index.

    Args:
        model_layers: The layers of the model that have variables, in order.
        file_layers: The layers of the checkpoint, in order.
    """
    if len(model_layers) != len(file_layers):
        fact = f"the file has {len(file_layers)} layers with variables, the model has {len(model_layers)}"
        return [Problem(fact=fact)]
    unlike = [
        Problem(keras=layer.path, fact=f"the model has {_kind(layer)} where the file has {_kind(other)} ({other.path})")
        for layer, other in zip(model_layers, file_layers, strict=True)
        if _kind(layer) != _kind(other)
    ]
    moved = [
        Problem(keras=other.path, fact="the file has no layer order, and the model has no layer of this name")
        for layer, other in zip(model_layers, file_layers, strict=True)
        if not other.is_ordered and layer.path != other.path
    ]
    return unlike or moved


def _kind(layer: LayerView) -> Kind:
    return {tensor.role: tensor.shape for tensor in layer.tensors if not tensor.is_seed}
