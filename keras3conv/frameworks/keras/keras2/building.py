"""Build a live Keras 3 model from a Keras 2 architecture, layer by layer and call by call.

Keras 3 itself reads such files only if every argument has kept its name and its meaning. This module translates the
changed arguments, and replaces TensorFlow functions between the layers by calls of `keras.ops`. It does not import
TensorFlow, and runs no code of the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.layers import (
    HALF_PRECISION,
    cudnn_settings,
    has_masks,
    is_entry,
    is_training_only,
    policy_of,
    renamed,
    settings,
    unwrapped,
)
from keras3conv.formats.keras2.names import allowed_names
from keras3conv.formats.keras2.network import MODELS, Network, OldCall, Result, layers_in, name_of, network_of
from keras3conv.formats.keras2.operations import CLASSES
from keras3conv.formats.keras2.shapes import first_shape
from keras3conv.frameworks.keras.internals import get_keras_mask
from keras3conv.frameworks.keras.keras2.classes import (
    Config,
    accepted_settings,
    class_named,
    hard_sigmoid_of_keras_2,
    is_of_keras,
    layers_setting,
    settings_of_training,
)
from keras3conv.frameworks.keras.keras2.deferred import as_tensors, call_function
from keras3conv.frameworks.keras.keras2.masks import layers_with_masks
from keras3conv.frameworks.keras.keras2.names_of_operations import Operations
from keras3conv.frameworks.keras.keras2.on_torch import layers_on_torch
from keras3conv.frameworks.keras.tree import set_original_name
from keras3conv.frameworks.keras.values import error_message, raised_by_keras
from keras3conv.messages import lay_out, with_article
from keras3conv.model.graph import mapped
from keras3conv.transforms import Shape

WeightShapes = Callable[[str], Mapping[str, Shape]]
"""A function from the name of a layer to the shapes of its weights in the file, by role ("kernel")."""


@dataclass(kw_only=True)
class Built:
    """A model that was built from a Keras 2 architecture, and its differences from the file.

    Attributes:
        model: The model.
        dropped: The paths of the layers that were left out because they act only in training.
        half_precision: The paths of the layers that computed in half precision.
        renamed: The original names of the layers by their names in the model.
    """

    model: Any = None
    dropped: list[str] = field(default_factory=list)
    half_precision: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """The differences between the new model and the file, as sentences for a report."""
        notes = []
        if self.dropped:
            notes.append(
                f"these layers and losses are left out, because they act only in training: {', '.join(self.dropped)}"
            )
        if self.half_precision:
            notes.append(
                "layers that computed in half precision are read as float32 layers with the same weights: "
                f"{', '.join(self.half_precision)}"
            )
        if self.renamed:
            pairs = ", ".join(f"{old} is {new}" for new, old in self.renamed.items())
            notes.append(f"layers are renamed, because Keras 3 does not allow their names: {pairs}")
        return tuple(notes)


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
    builder = _Builder(weight_shapes, {**layers_on_torch(), **masked})
    builder.built.model = builder.model(entry, "", name_of(entry))
    return builder.built


class _Builder:
    """Creates the Keras 3 layers of one Keras 2 file, and records the differences of the new model from the file."""

    def __init__(self, weight_shapes: WeightShapes, replaced: Mapping[str, Any]) -> None:
        self.built = Built()
        self._replaced = replaced
        self._weight_shapes = weight_shapes

    def model(self, entry: Config, path: str, name: str) -> Any:
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

        def tensor(leaf: Any) -> Any:
            return results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf

        inputs, outputs = (unwrapped(mapped(nested, tensor)) for nested in (network.inputs, network.outputs))
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
                    self.built.dropped.append(where)
            elif entry["class_name"] not in CLASSES:
                layers[name] = self.layer(entry, where, names[name])
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

        def tensor(leaf: Any) -> Any:
            return results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf

        given, keywords = mapped(call.argument, tensor), mapped(call.keywords, tensor)
        entry = network.layers[call.layer]
        try:
            if entry["class_name"] in CLASSES:
                return call_function(entry, given, keywords, operations.new(call.layer))
            given, keywords = (as_tensors(nested, operations.new(call.layer)) for nested in (given, keywords))
            if call.layer not in layers:  # the layer acts only in training
                made = _as_floats(given)
            else:
                made = _layer_called(layers[call.layer], given, keywords)
        except raised_by_keras() as error:
            where = f"{path}/{call.layer}".lstrip("/")
            raise _failed("Keras 3 cannot call a layer with the arguments in the file", where, error) from error
        return list(keras.tree.flatten(made))

    def _sequential(self, entry: Config, path: str, name: str) -> keras.Sequential:
        config = entry["config"]
        entries = layers_in(config)
        names = allowed_names(map(name_of, entries))
        model = keras.Sequential(name=allowed_names([name])[name] or None)
        shape = self._input_shape(entry) if entries else None
        if entries and entries[0]["class_name"] == "InputLayer":
            first = self.layer(entries[0], f"{path}/{name_of(entries[0])}".lstrip("/"), names[name_of(entries[0])])
            entries = entries[1:]
            if shape != tuple(first.batch_shape):
                first = keras.layers.InputLayer(batch_shape=shape, dtype=first.dtype, name=first.name)
            model.add(first)
        elif shape:
            model.add(keras.layers.InputLayer(batch_shape=shape, dtype=_input_dtype(entries[0]) if path else None))
        for layer in entries:
            where = f"{path}/{name_of(layer)}".lstrip("/")
            if is_training_only(layer):
                self.built.dropped.append(where)
                continue
            made = self.layer(layer, where, names[name_of(layer)])
            try:
                model.add(made)
            except raised_by_keras() as error:
                raise _failed("Keras 3 cannot call a layer with the arguments in the file", where, error) from error
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

    def layer(self, entry: Config, path: str, name: str = "") -> Any:
        """Create the layer of a configuration; if a layer is among its arguments, create that layer first.

        Args:
            entry: The configuration of the layer in the file.
            path: The path of the layer in the model, to record differences from the file.
            name: The name of the new layer; by default that in the configuration.
        """
        class_name = renamed(entry["class_name"])
        if class_name in MODELS and "layers" in layers_setting(entry["config"]):
            return self._remembered(self.model(entry, path, name or name_of(entry)), entry, path)
        found = class_named(class_name)
        assert found is not None
        if not is_of_keras(found):
            return found.from_config(dict(entry["config"]))
        config = settings(class_name, entry["config"]) | cudnn_settings(entry["class_name"].rpartition(">")[2])
        if policy_of(entry["config"].get("dtype")) in HALF_PRECISION:
            self.built.half_precision.append(path)
        given = {
            key: self._value(key, value, f"{path}/{key}")
            for key, value in config.items()
            if key in accepted_settings(found) and key != "trainable"
        }
        given |= settings_of_training(entry["config"], accepted_settings(found))
        if class_name == "Bidirectional" and "backward_layer" not in given:
            given |= self._backward_layer(entry["config"], path)
        if name:
            given["name"] = name
        elif "name" in given:
            given["name"] = allowed_names([given["name"]])[given["name"]]
        try:
            made = self._replaced.get(class_name, found)(**given)
        except raised_by_keras() as error:
            raise _failed(
                f"Keras 3 cannot create {with_article(class_name)} with the arguments in the file", path, error
            ) from error
        if config.get("trainable") is False:
            made.trainable = False
        return self._remembered(made, entry, path)

    def _backward_layer(self, config: Config, path: str) -> dict[str, Any]:
        """Return the second layer of a Bidirectional whose first runs backwards; as in Keras 2, it runs forwards.

        Keras 3 makes a backward layer that runs backwards, whichever way the layer runs, and then refuses it.
        """
        inner: Config = config.get("layer") or {}
        if not is_entry(inner) or not inner["config"].get("go_backwards"):
            return {}
        turned = {**inner["config"], "go_backwards": False, "name": f"backward_{name_of(inner)}"}
        return {"backward_layer": self.layer({**inner, "config": turned}, f"{path}/backward_layer")}

    def _remembered(self, layer: Any, entry: Config, path: str) -> Any:
        """Record the name that a new layer has in the file, if Keras 3 does not allow it; return the layer.

        Args:
            layer: The new layer.
            entry: Its configuration in the file, with the original name.
            path: Its path in the file.
        """
        original = name_of(entry)
        if original and layer.name != original:
            set_original_name(layer, original)
            self.built.renamed[f"{path.removesuffix(original)}{layer.name}"] = path
        return layer

    def _value(self, name: str, value: Any, path: str) -> Any:
        if isinstance(value, Mapping) and is_entry(value):
            return self.layer(value, path)
        if isinstance(value, list) and value and all(is_entry(one) for one in value):
            return [self.layer(one, f"{path}_{place}") for place, one in enumerate(value)]
        if name.endswith("activation") and value == "hard_sigmoid":
            return hard_sigmoid_of_keras_2
        return tuple(value) if isinstance(value, list) else value


def _failed(headline: str, path: str, error: Exception) -> ModelError:
    problem = Problem(keras=path, fact=f"{type(error).__name__}: {error_message(error)}")
    return ModelError(lay_out(headline, [problem]))


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
