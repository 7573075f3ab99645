"""Build a live Keras 3 model from a Keras 2 architecture, layer by layer and call by call.

Keras 3 reads such files as long as every setting kept its name and its meaning. Here what changed is translated, and
the functions of TensorFlow between the layers become calls of `keras.ops`. Nothing of TensorFlow is imported, and no
code in a file is run.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.layers import (
    HALF_PRECISION,
    cudnn_settings,
    is_training_only,
    policy_of,
    renamed,
    settings,
)
from keras3conv.formats.keras2.names import allowed_names
from keras3conv.formats.keras2.network import MODELS, Network, OldCall, Result, layers_in, name_of, network_of
from keras3conv.formats.keras2.operations import CLASSES, OWN, Applied, applied
from keras3conv.formats.keras2.shapes import first_shape
from keras3conv.frameworks.keras.keras2.classes import (
    Config,
    accepted_settings,
    class_named,
    hard_sigmoid_of_keras_2,
    is_entry,
    is_of_keras,
    layers_setting,
)
from keras3conv.frameworks.keras.keras2.operations import FUNCTIONS, array_like, get_item
from keras3conv.frameworks.keras.origin import set_original_name
from keras3conv.frameworks.keras.values import error_message, raised_by_keras
from keras3conv.messages import lay_out
from keras3conv.model.graph import mapped
from keras3conv.transforms import Shape

WeightShapes = Callable[[str], Mapping[str, Shape]]
"""Returns the shapes of the weights in the file of a layer, by their roles, for the name of the layer."""


@dataclass(kw_only=True)
class Built:
    """A model that was built, and what was changed on the way.

    Attributes:
        model: The model.
        dropped: The paths of the layers that count in training only, which the model does not have.
        half_precision: The paths of the layers that computed in half precision.
        renamed: The original names of the layers by their names in the model.
    """

    model: Any = None
    dropped: list[str] = field(default_factory=list)
    half_precision: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report says about the changes, a sentence each."""
        notes = []
        if self.dropped:
            notes.append(f"dropped, because they count in training only: {', '.join(self.dropped)}")
        if self.half_precision:
            notes.append(
                "some layers computed in half precision; the float32 function of the same weights is what is read: "
                f"{', '.join(self.half_precision)}"
            )
        if self.renamed:
            pairs = ", ".join(f"{old} is {new}" for new, old in self.renamed.items())
            notes.append(f"renamed, because Keras 3 does not allow the names: {pairs}")
        return tuple(notes)


def build(entry: Config, weight_shapes: WeightShapes) -> Built:
    """Build the model of an architecture in which `problems_in` found nothing; its weights are new.

    Args:
        entry: The model, as the file has it.
        weight_shapes: Tells the shapes of weights, for a model that does not say what it is called with.

    Raises:
        ModelError: A layer cannot be made, or cannot be called as the file says.
        MalformedCheckpoint: The architecture is none.
    """
    builder = _Builder(weight_shapes)
    builder.built.model = builder.model(entry, "", name_of(entry))
    return builder.built


class _Builder:
    """Makes the layers of one file and notes what it changes."""

    def __init__(self, weight_shapes: WeightShapes) -> None:
        self.built = Built()
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
        operations = _Operations({id(layer) for layer in layers.values()}, set(names.values()))
        for call in calls:
            found = self._called(call, network, layers, results, path)
            results[call.layer, call.number] = found
            operations.name(found, names[call.layer])

        def tensor(leaf: Any) -> Any:
            return results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf

        inputs, outputs = (_unwrapped(mapped(nested, tensor)) for nested in (network.inputs, network.outputs))
        model = keras.Model(inputs, outputs, name=allowed_names([name])[name] or None)
        model.trainable = bool(entry["config"].get("trainable", True)) if path else True
        return model

    def _layers_of(self, network: Network, used: set[str], names: Mapping[str, str], path: str) -> dict[str, Any]:
        """Make the layers that the outputs depend on; the others only count in training."""
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
        path: str,
    ) -> list[Any]:
        """What a call returns, as a flat list."""

        def tensor(leaf: Any) -> Any:
            return results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf

        given, keywords = mapped(call.given, tensor), mapped(call.keywords, tensor)
        entry = network.layers[call.layer]
        try:
            if entry["class_name"] in CLASSES:
                made = _operated(applied(entry["class_name"], entry["config"], given, keywords))
            elif call.layer not in layers:  # it counts in training only
                made = _as_floats(given)
            else:
                made = _layer_called(layers[call.layer], given, keywords)
        except raised_by_keras() as error:
            where = f"{path}/{call.layer}".lstrip("/")
            raise _failed("a layer cannot be called as the file says", where, error) from error
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
            model.add(keras.layers.InputLayer(batch_shape=shape, dtype=_input_dtype(entries[0])))
        for layer in entries:
            where = f"{path}/{name_of(layer)}".lstrip("/")
            if is_training_only(layer):
                self.built.dropped.append(where)
                continue
            made = self.layer(layer, where, names[name_of(layer)])
            try:
                model.add(made)
            except raised_by_keras() as error:
                raise _failed("a layer cannot be called as the file says", where, error) from error
        if path and isinstance(config, Mapping):
            model.trainable = bool(config.get("trainable", True))
        return model

    def _input_shape(self, entry: Config) -> tuple[int | None, ...] | None:
        """What a Sequential is called with, as the file or the weights of its layers say."""
        config = entry["config"]
        entries = layers_in(config)
        first = entries[0]["config"]
        stated = first.get("batch_input_shape") if isinstance(first, Mapping) else None
        built = config.get("build_input_shape") if isinstance(config, Mapping) else None
        return first_shape(entries, stated or built, self._weight_shapes)

    def layer(self, entry: Config, path: str, name: str = "") -> Any:
        """The layer of an entry; a layer in its settings is made first."""
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
        if name:
            given["name"] = name
        elif "name" in given:
            given["name"] = allowed_names([given["name"]])[given["name"]]
        try:
            made = found(**given)
        except raised_by_keras() as error:
            raise _failed(f"Keras 3 cannot make a {class_name} as the file says", path, error) from error
        if config.get("trainable") is False:
            made.trainable = False
        return self._remembered(made, entry, path)

    def _remembered(self, layer: Any, entry: Config, path: str) -> Any:
        """Remember the original name of a layer that has another one now."""
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


class _Operations:
    """Names the operations of `keras.ops` after the functions in the file: Keras allows a name only once in a model."""

    def __init__(self, known: set[int], taken: set[str]) -> None:
        self._known, self._taken = known, taken

    def name(self, results: Iterable[Any], name: str) -> None:
        """Name the operations that the results were made with, as far back as they have no name of the file."""
        waiting = [result._keras_history.operation for result in results if isinstance(result, keras.KerasTensor)]
        number = 0
        while waiting:
            operation = waiting.pop()
            if id(operation) in self._known or isinstance(operation, keras.layers.Layer):
                continue
            self._known.add(id(operation))
            operation.name = name if number == 0 else self._free(name)
            number += 1
            for node in operation._inbound_nodes:
                waiting += [tensor._keras_history.operation for tensor in node.input_tensors]

    def _free(self, name: str) -> str:
        number = 1
        while f"{name}_part_{number}" in self._taken:
            number += 1
        self._taken.add(f"{name}_part_{number}")
        return f"{name}_part_{number}"


def _failed(headline: str, path: str, error: Exception) -> ModelError:
    problem = Problem(keras=path, fact=f"{type(error).__name__}: {error_message(error)}")
    return ModelError(lay_out(headline, [problem]))


def _as_floats(given: Any) -> Any:
    """What a layer that counts in training only returns: layers of images make floats of whole numbers."""
    if isinstance(given, keras.KerasTensor) and not keras.backend.is_float_dtype(given.dtype):
        return keras.ops.cast(given, "float32")
    return given


def _layer_called(layer: Any, given: Any, keywords: Mapping[str, Any]) -> Any:
    """Recurrent layers were given their initial state behind their input, in one list."""
    known = {name: value for name, value in keywords.items() if value is not None}
    recurrent = (keras.layers.RNN, keras.layers.Bidirectional)
    if isinstance(layer, recurrent) and isinstance(given, list) and len(given) > 1:
        return layer(given[0], initial_state=given[1:], **known)
    return layer(given, **known)


def _operated(call: Applied) -> Any:
    arguments = dict(call.arguments)
    if call.name == "get_item":
        return get_item(**arguments)
    tensor = next((value for value in arguments.values() if isinstance(value, keras.KerasTensor)), None)
    arguments = {
        name: array_like(value, tensor) if name in ("x1", "x2") else _axes(name, value)
        for name, value in arguments.items()
    }
    if call.name.startswith(OWN):
        return FUNCTIONS[call.name.removeprefix(OWN)](**arguments)
    function: Any = keras.ops
    for part in call.name.split("."):
        function = getattr(function, part)
    return function(**arguments)


def _axes(name: str, value: Any) -> Any:
    """Several axes as a tuple, and a list of one axis too."""
    return tuple(value) if name == "axis" and isinstance(value, list) else value


def _unwrapped(nested: Any) -> Any:
    """The one tensor of a list of one: what Keras 2 returned for it."""
    return nested[0] if isinstance(nested, list) and len(nested) == 1 else nested


def _input_dtype(layer: Config) -> str | None:
    """The dtype of what the first layer of a Sequential is given: numbers of words are no floats."""
    return "int32" if layer["class_name"] == "Embedding" else None


__all__ = ["Built", "WeightShapes", "build"]
