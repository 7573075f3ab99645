"""Load the weights of an HDF5 file of Keras 2 into a model of Keras 3, by the names of the layers.

In the file, each layer has a group that lists its variables in the order of their creation, the trainable ones first.
The group of a nested model lists the variables of all its layers; the path of a variable contains the name of the layer
that owns it.

The weights of CuDNNLSTM and CuDNNGRU become those of an LSTM and a GRU. cuDNN stores the matrix of each gate
transposed, in the memory layout of the input kernel, and has two biases for each gate. The order of the gates is that
of Keras.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.file import Group, role_of
from keras3conv.frameworks.keras.tree import original_name
from keras3conv.messages import count, lay_out
from keras3conv.transforms import Array, Shape

_ROLES = {"depthwise_kernel": "kernel"}
"""The names of variables that Keras 3 renamed: those of depthwise convolutions."""

_NUMBERED = re.compile(r"_\d+$")
"""The suffix that TensorFlow 1 added to duplicate names, such as those of stacked cells."""

Variables = Sequence[keras.Variable]
Weights = Sequence[tuple[str, Array]]
Staged = list[tuple[keras.Variable, Array]]


def load(model: keras.Model, groups: Sequence[Group], path: Path, dropped: Sequence[str] = ()) -> None:
    """Assign the values of a file to the variables of a model, all of them or none.

    Args:
        model: The model.
        groups: The weights in the file.
        path: The file.
        dropped: The paths of layers in the file that were left out of the model.

    Raises:
        ModelError: Layers or variables are on one side only, or differ; the message lists all of them.
    """
    layers = {original_name(layer): layer for layer in model.layers}
    problems: list[Problem] = []
    staged: Staged = []
    filled = [group for group in groups if group.weights and group.name not in dropped]
    for group in filled:
        if group.name not in layers:
            problems.append(
                Problem(
                    keras=group.name,
                    fact="the file has weights for this layer, but its architecture does not have the layer",
                )
            )
            continue
        staged += staged_layer(layers[group.name], group.weights, group.name, problems)
    names = {group.name for group in filled}
    for name, layer in layers.items():
        if name not in names and variables_in_order(layer):
            problems.append(Problem(keras=name, fact="this layer has variables, but the file has no values for them"))
    assign(model, staged, problems, path)


def assign(model: keras.Model, staged: Staged, problems: Sequence[Problem], path: Path) -> None:
    """Assign values to their variables; if there are problems, raise `ModelError` before any assignment.

    Args:
        model: The model.
        staged: The pairs of a variable and its value.
        problems: The problems found while these pairs were made.
        path: The file.
    """
    if problems:
        raise ModelError(lay_out(f"the weights in {path} do not fit the layers of the model", problems))
    for variable, array in staged:
        variable.assign(array)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with values that it derives from its variables


def staged_layer(layer: Any, weights: Weights, path: str, problems: list[Problem]) -> Iterator[Any]:
    """Yield each variable of a layer with its array in the file; append a problem for each that does not fit.

    Args:
        layer: The layer, which may be a nested model.
        weights: The arrays in the layer's group of the file, by name.
        path: The path of the layer.
        problems: The problems so far; it is extended.
    """
    inner = getattr(layer, "layers", None)
    if isinstance(layer, keras.Model) and inner:
        yield from _in_model(layer, weights, path, problems)
        return
    variables, of_keras = variables_in_order(layer), type(layer).__module__.startswith("keras.")
    weights = _converted(weights, [tuple(variable.shape) for variable in variables])
    if len(variables) != len(weights):
        problems.append(
            Problem(
                keras=path,
                fact=f"this layer has {count(len(weights), 'variable')} in the file, but {len(variables)} in Keras 3",
            )
        )
        return
    for variable, (name, stored) in zip(variables, weights, strict=True):
        role = role_of(name)
        roles = (role, _ROLES.get(role), _NUMBERED.sub("", role))
        array = in_order_of_axes(layer, stored, tuple(variable.shape))
        if (of_keras and variable.name not in roles) or tuple(variable.shape) != array.shape:
            fact = (
                f"the file has {role} of shape {array.shape} where Keras 3 has {variable.name} of shape "
                f"{tuple(variable.shape)}"
            )
            problems.append(Problem(keras=path, fact=fact))
        else:
            yield variable, np.asarray(array)


def in_order_of_axes(layer: Any, array: Array, shape: Shape) -> Array:
    """Return a value of a LayerNormalization over several axes with its axes in the order of the tensor.

    In Keras 2 they have the order in which the layer names them; the values are then read in that order. Keras 3 sorts
    the axes.

    Args:
        layer: The layer; a value of any other layer is returned unchanged.
        array: The value in the file.
        shape: The shape of the variable in Keras 3.
    """
    is_sorted = array.shape == shape or sorted(array.shape) != sorted(shape)
    return array.reshape(shape) if isinstance(layer, keras.layers.LayerNormalization) and not is_sorted else array


def _converted(weights: Weights, shapes: Sequence[Shape]) -> Weights:
    """Return the weights with the three weights of each cuDNN layer converted to those of a Keras layer.

    Args:
        weights: The arrays of a layer in the file, by name.
        shapes: The shapes of the variables of the Keras layer, in the same order.
    """
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
    """Yield each variable of a nested model with its array in the file.

    An array belongs to the layer whose name comes first in the path of the array. If it belongs to no layer, nothing is
    yielded.

    Args:
        model: The nested model.
        weights: The arrays in the model's group of the file, by path.
        path: The path of the nested model.
        problems: The problems so far; one is appended if an array belongs to no layer.
    """
    layers = {original_name(layer): layer for layer in model.layers}
    owners = {name: name for name in layers}
    for name, layer in layers.items():
        for inner in _below(layer):
            owners.setdefault(original_name(inner), name)
    found: dict[str, list[tuple[str, Array]]] = {name: [] for name in layers}
    for name, array in weights:
        owner = _owner(name, owners)
        if not owner:
            problems.append(Problem(keras=path, fact=f"the weight {name} in the file belongs to no layer of the model"))
            return
        found[owner].append((name, array))
    for name, layer in layers.items():
        yield from staged_layer(layer, found[name], f"{path}/{name}", problems)


def _owner(weight: str, owners: Mapping[str, str]) -> str:
    """Return the name of the model's layer that has a weight, by the path of the weight; empty if no layer has it.

    Of the known layer names in the path the first counts; of two names at one position the longer one.

    Args:
        weight: The path of the weight in the file, such as "block/conv/kernel:0".
        owners: For each layer name, that of a layer of the model itself, or of a layer inside one, the name of the
            layer of the model itself: {"block": "block", "conv": "block"}.
    """
    places = {name: f"/{weight}".find(f"/{name}/") for name in owners}
    found = [(place, -len(name), name) for name, place in places.items() if place >= 0]
    return owners[min(found)[2]] if found else ""


def _below(layer: Any) -> Iterator[Any]:
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield inner
            yield from _below(inner)


def variables_in_order(layer: Any) -> Variables:
    """Return the variables of a layer in the order in which Keras 2 saves them: the trainable ones first."""
    seeds = {id(generator.state) for part in layer._flatten_layers() for generator in part._seed_generators}
    ordered = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [variable for variable in ordered if id(variable) not in seeds]


def is_of_cudnn(weights: Sequence[Array], shapes: Sequence[Shape]) -> bool:
    """Return whether three weights are those of a cuDNN layer.

    The bias shows it. A cuDNN layer has one vector with two biases for each gate. A Keras LSTM has a vector of half the
    length, and a Keras GRU has a matrix of two rows.

    Args:
        weights: The kernel, the recurrent kernel and the bias in the file.
        shapes: Their shapes in an LSTM or a GRU of Keras 3.
    """
    if len(weights) != 3 or [array.shape for array in weights[:2]] != [tuple(shape) for shape in shapes[:2]]:
        return False
    found, wanted = weights[2].shape, tuple(shapes[2])
    return len(found) == 1 and found != wanted and found[0] == (2 * wanted[0] if len(wanted) == 1 else np.prod(wanted))


def from_cudnn(weights: Sequence[Array], bias: Shape) -> tuple[Array, Array, Array]:
    """Convert the weights of a cuDNN layer; return kernel, recurrent kernel and bias of an LSTM or a GRU.

    Args:
        weights: The kernel, the recurrent kernel and the bias in the file.
        bias: The shape of the bias in Keras 3.
    """
    kernel, recurrent, biases = weights
    gates = kernel.shape[1] // recurrent.shape[0]
    kernels = [gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(kernel, gates)]
    recurrents = [gate.T for gate in np.hsplit(recurrent, gates)]
    joined = biases.reshape(bias) if len(bias) == 2 else biases.reshape(2, -1).sum(axis=0)
    return np.hstack(kernels), np.hstack(recurrents), joined
