"""Build a live Keras 3 model from a Keras 2 architecture, layer by layer and call by call.

Keras 3 itself reads such files only if every argument has kept its name and its meaning. Here the changed arguments are
translated, and calls of `keras.ops` replace TensorFlow functions between the layers. TensorFlow is not imported, and no
code of the file runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras3conv.formats.keras2.layers import has_masks, is_training_only, unwrapped
from keras3conv.formats.keras2.names import allowed_names
from keras3conv.formats.keras2.network import Network, OldCall, Result, layers_in, name_of, network_of
from keras3conv.formats.keras2.operations import CLASSES
from keras3conv.formats.keras2.shapes import first_shape
from keras3conv.frameworks.keras.internals import get_keras_mask
from keras3conv.frameworks.keras.keras2.classes import Config
from keras3conv.frameworks.keras.keras2.deferred import as_tensors, call_function
from keras3conv.frameworks.keras.keras2.layers import Differences, Layers, explained
from keras3conv.frameworks.keras.keras2.masks import layers_with_masks
from keras3conv.frameworks.keras.keras2.names_of_operations import Operations
from keras3conv.frameworks.keras.keras2.on_torch import layers_on_torch
from keras3conv.model.graph import mapped
from keras3conv.transforms import Shape

WeightShapes = Callable[[str], Mapping[str, Shape]]
"""A function from the name of a layer to the shapes of its weights in the file, by role ("kernel")."""

_NOT_CALLED = "Keras 3 cannot call a layer with the arguments in the file"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A model that was built from a Keras 2 architecture, and its differences from the file."""

    model: Any
    differences: Differences


def build(entry: Config, weight_shapes: WeightShapes, version: str = "") -> Built:
    """Build the model of an architecture in which `problems_in` found no problem; its weights are newly initialized.

    Args:
        entry: The configuration of the model in the file.
        weight_shapes: Returns the shapes of the weights of a layer; used if the input shape is not in the file.
        version: The version of Keras that wrote the file; empty if it is unknown.

    Raises:
        ModelError: A layer cannot be created or called with the arguments in the file.
        MalformedCheckpoint: The configuration is not an architecture.
    """
    masked = layers_with_masks(version) if has_masks(entry) else {}
    return _Builder(weight_shapes, {**layers_on_torch(), **masked}).built(entry)


class _Builder:
    """Calls the layers of one Keras 2 file as the file does, and makes models of the results."""

    def __init__(self, weight_shapes: WeightShapes, replaced: Mapping[str, Any]) -> None:
        self._layers = Layers(self._model, replaced)
        self._weight_shapes = weight_shapes

    def built(self, entry: Config) -> Built:
        """Return the model of an architecture, and its differences from the file."""
        return Built(model=self._model(entry, "", name_of(entry)), differences=self._layers.differences)

    def _model(self, entry: Config, path: str, name: str) -> Any:
        if entry["class_name"] == "Sequential":
            return self._sequential(entry, path, name)
        network = network_of(entry["config"])
        calls = network.in_order()
        names = allowed_names(network.layers)
        layers = self._layers_of(network, {call.layer for call in calls}, names, path)
        results = {
            (one, 0): [layer.output] for one, layer in layers.items() if isinstance(layer, keras.layers.InputLayer)
        }
        operations = Operations({id(layer) for layer in layers.values()}, set(names.values()))
        for call in calls:
            found = self._called(call, network, layers, results, operations, path)
            results[call.layer, call.number] = found
            operations.name(found, names[call.layer])
        inputs, outputs = (unwrapped(_with_results(nested, results)) for nested in (network.inputs, network.outputs))
        outputs = as_tensors(outputs, operations.new("outputs"))
        model = keras.Model(inputs, outputs, name=allowed_names([name])[name] or None)
        model.trainable = bool(entry["config"].get("trainable", True)) if path else True
        return model

    def _layers_of(self, network: Network, used: set[str], names: Mapping[str, str], path: str) -> dict[str, Any]:
        """Create the layers that the outputs depend on and that act in inference, and return them by name.

        Layers that act only in training are recorded as dropped.

        Args:
            network: The layers and calls in the file.
            used: The names of the layers that the outputs depend on.
            names: The allowed name of each layer in Keras 3.
            path: The path of the model.
        """
        layers = {}
        for name, entry in network.layers.items():
            where = f"{path}/{name}".lstrip("/")
            if is_training_only(entry) or (name not in used and entry["class_name"] != "InputLayer"):
                if entry["class_name"] not in CLASSES:
                    self._layers.differences.dropped.append(where)
            elif entry["class_name"] not in CLASSES:
                layers[name] = self._layers.create(entry, where, names[name])
        return layers

    def _called(
        self,
        call: OldCall,
        network: Network,
        layers: Mapping[str, Any],
        results: Mapping[tuple[str, int], Any],
        operations: Operations,
        path: str,
    ) -> list[Any]:
        """Repeat one layer call of the file with the new layers, and return the results as a flat list.

        A result is a tensor, or a deferred computation with sizes.

        Args:
            call: The call in the file.
            network: The layers and calls in the file.
            layers: The new layers by name.
            results: The results of earlier calls, by layer and number of the call.
            operations: The names of the operations of the new model.
            path: The path of the model.
        """
        given, keywords = (_with_results(nested, results) for nested in (call.argument, call.keywords))
        entry = network.layers[call.layer]
        with explained(_NOT_CALLED, f"{path}/{call.layer}".lstrip("/")):
            if entry["class_name"] in CLASSES:
                return call_function(entry, given, keywords, operations.new(call.layer))
            given, keywords = (as_tensors(nested, operations.new(call.layer)) for nested in (given, keywords))
            if call.layer not in layers:  # the layer acts only in training
                made = _as_floats(given)
            else:
                made = _layer_called(layers[call.layer], given, keywords)
        return list(keras.tree.flatten(made))

    def _sequential(self, entry: Config, path: str, name: str) -> keras.Sequential:
        config = entry["config"]
        entries = layers_in(config)
        names = allowed_names(map(name_of, entries))
        model = keras.Sequential(name=allowed_names([name])[name] or None)
        shape = self._input_shape(entry) if entries else None
        if entries and entries[0]["class_name"] == "InputLayer":
            first = self._layers.create(
                entries[0], f"{path}/{name_of(entries[0])}".lstrip("/"), names[name_of(entries[0])]
            )
            entries = entries[1:]
            if shape != tuple(first.batch_shape):
                first = keras.layers.InputLayer(batch_shape=shape, dtype=first.dtype, name=first.name)
            model.add(first)
        elif shape:
            model.add(keras.layers.InputLayer(batch_shape=shape, dtype=_input_dtype(entries[0]) if path else None))
        for layer in entries:
            where = f"{path}/{name_of(layer)}".lstrip("/")
            if is_training_only(layer):
                self._layers.differences.dropped.append(where)
                continue
            made = self._layers.create(layer, where, names[name_of(layer)])
            with explained(_NOT_CALLED, where):
                model.add(made)
        if path and isinstance(config, Mapping):
            model.trainable = bool(config.get("trainable", True))
        return model

    def _input_shape(self, entry: Config) -> tuple[int | None, ...] | None:
        """Return the input shape of a Sequential from its configuration, or else from the shapes of its weights."""
        config = entry["config"]
        entries = layers_in(config)
        first = entries[0]["config"]
        stated = first.get("batch_input_shape") if isinstance(first, Mapping) else None
        built = config.get("build_input_shape") if isinstance(config, Mapping) else None
        return first_shape(entries, stated or built, self._weight_shapes)


def _with_results(nested: Any, results: Mapping[tuple[str, int], Any]) -> Any:
    """Return nested values in which each result of a call in the file is replaced by that of the new call.

    Args:
        nested: Arguments of a layer in the file, or inputs or outputs of a model.
        results: The results of the new calls, by layer and number of the call.
    """
    return mapped(nested, lambda leaf: results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf)


def _as_floats(tensor: Any) -> Any:
    """Return the output, in inference, of a layer that acts only in training: its input, with integers as float32."""
    if isinstance(tensor, keras.KerasTensor) and not keras.backend.is_float_dtype(tensor.dtype):
        return keras.ops.cast(tensor, "float32")
    return tensor


def _layer_called(layer: Any, inputs: Any, keywords: Mapping[str, Any]) -> Any:
    """Call a layer of a Keras 2 file and return its output.

    Keras 2 passes the input and the initial states of an RNN in one list.

    Args:
        layer: The layer.
        inputs: The input; for a recurrent layer also a list of the input and the initial states.
        keywords: The keyword arguments; those that are None are left out.
    """
    known = {name: value for name, value in keywords.items() if value is not None}
    recurrent = (keras.layers.RNN, keras.layers.Bidirectional)
    if isinstance(layer, recurrent) and isinstance(inputs, list) and len(inputs) > 1:
        known.setdefault("mask", get_keras_mask(inputs[0]))  # Keras 3 ignores it in a call with more tensors
        return layer(inputs[0], initial_state=inputs[1:], **known)
    return layer(inputs, **known)


def _input_dtype(layer: Config) -> str | None:
    """Return the input dtype for the first layer of a Sequential in a model: integers for an Embedding."""
    return "int32" if layer["class_name"] == "Embedding" else None
