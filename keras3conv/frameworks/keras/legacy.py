"""A model of Keras 3 from an architecture that Keras 2 wrote: layer by layer, call by call.

Keras 3 reads such files as long as every setting kept its name and its meaning. Here what changed is translated, the
functions of TensorFlow that stood between the layers are calls of `keras.ops`, and what has no counterpart is named,
all of it, before a layer is made. Nothing of TensorFlow is imported, and no code in a file is run.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from keras3conv.errors import ModelError, Problem, RuleError
from keras3conv.formats.keras2.layers import REFUSED, changed_meaning, is_without_effect, renamed, settings
from keras3conv.formats.keras2.network import MODELS, Network, OldCall, Result, layers_in, name_of, network_of
from keras3conv.formats.keras2.operations import CLASSES, Applied, applied
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.values import raised_by_keras
from keras3conv.messages import lay_out
from keras3conv.model.graph import mapped

Config = Mapping[str, Any]

_EVERY_LAYER = frozenset({"name", "dtype", "trainable"})
"""What a class takes that hands unknown settings on to `keras.layers.Layer`."""


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """The hard sigmoid of Keras 2, clip(0.2 x + 0.5, 0, 1); that of Keras 3 rises by 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# A Bidirectional makes its layers anew from their settings.
keras.saving.register_keras_serializable("keras3conv")(hard_sigmoid_of_keras_2)


def problems_in(entry: Config, version: str, own_code: str, path: str = "") -> Iterator[Problem]:
    """What in an architecture has no counterpart in Keras 3.

    Args:
        entry: A model or a layer, as the file has it.
        version: The version of Keras that wrote it.
        own_code: The line to paste for what only the user's own code can make.
        path: Where it is; empty for the whole model.
    """
    class_name = renamed(entry["class_name"])
    if class_name in MODELS and "layers" in _mapping(entry["config"], "layers"):
        for inner in layers_in(entry["config"]):
            yield from problems_in(inner, version, own_code, f"{path}/{name_of(inner)}".lstrip("/"))
        yield from _call_problems(entry, path)
    elif class_name in REFUSED:
        yield Problem(keras=path, fact=f"{class_name}: {REFUSED[class_name]}", fixes=(own_code,))
    elif class_name not in CLASSES:
        yield from _layer_problems(class_name, entry["config"], version, path, own_code)


def model_of(entry: Config) -> keras.Model:
    """The model of an architecture in which `problems_in` found nothing, with the values that new variables have.

    Raises:
        ModelError: A layer cannot be made, or cannot be called as the file says.
        MalformedCheckpoint: The architecture is none.
    """
    made = _model(entry, "")
    assert isinstance(made, keras.Model)
    return made


def _mapping(config: Any, key: str) -> Config:
    return config if isinstance(config, Mapping) else {key: config}  # a Sequential was a bare list once


def _layer_problems(class_name: str, config: Any, version: str, path: str, own_code: str) -> Iterator[Problem]:
    found = _class_of(class_name)
    if found is None:
        fact = f"{class_name} is no class of Keras 3, and nobody registered it"
        short = class_name.rpartition(">")[2]
        register = f'keras.saving.get_custom_objects()["{short}"] = {short}  # your class; then convert again'
        yield Problem(keras=path, fact=fact, fixes=(register, own_code))
        return
    if not _is_of_keras(found):
        return
    accepted, given = _accepted(found), settings(class_name, config)
    if said := changed_meaning(class_name, given, version):
        yield Problem(keras=path, fact=f"{class_name}: {said}")
    for name, value in given.items():
        if isinstance(value, Mapping) and _is_entry(value):
            yield from problems_in(value, version, own_code, f"{path}/{name}")
        elif isinstance(value, list) and any(_is_entry(one) for one in value):
            for place, one in enumerate(value):
                yield from problems_in(one, version, own_code, f"{path}/{name}_{place}")
        elif name not in accepted and not is_without_effect(name, value):
            yield Problem(
                keras=path, fact=f"{class_name} has the setting {name}={value!r}, which Keras 3 does not have"
            )
        elif name.endswith("activation") and not _is_activation(value):
            yield Problem(keras=path, fact=f"its activation {value!r} is none of Keras", fixes=(own_code,))


def _call_problems(entry: Config, path: str) -> Iterator[Problem]:
    """The functions of TensorFlow among the calls of a model that have no counterpart."""
    if entry["class_name"] == "Sequential":
        return
    network = network_of(entry["config"])
    for call in network.calls:
        layer = network.layers[call.layer]
        if layer["class_name"] in CLASSES:
            try:
                applied(layer["class_name"], layer["config"], call.given, call.keywords)
            except RuleError as error:
                yield Problem(keras=f"{path}/{call.layer}".lstrip("/"), fact=str(error))


def _model(entry: Config, path: str) -> keras.layers.Layer:
    if entry["class_name"] == "Sequential":
        return _sequential(entry, path)
    config = entry["config"]
    network = network_of(config)
    layers = {
        name: _layer(layer, f"{path}/{name}".lstrip("/"))
        for name, layer in network.layers.items()
        if layer["class_name"] not in CLASSES
    }
    results = {
        (name, 0): [layer.output] for name, layer in layers.items() if isinstance(layer, keras.layers.InputLayer)
    }
    for call in network.in_order():
        results[call.layer, call.number] = _called(call, network, layers, results, path)

    def tensor(leaf: Any) -> Any:
        return results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf

    inputs, outputs = (_unwrapped(mapped(nested, tensor)) for nested in (network.inputs, network.outputs))
    model = keras.Model(inputs, outputs, name=name_of(entry) or None)
    model.trainable = bool(config.get("trainable", True)) if path else True
    return model


def _called(
    call: OldCall, network: Network, layers: Mapping[str, Any], results: Mapping[tuple[str, int], Any], path: str
) -> list[Any]:
    """What a call returns, as a flat list."""

    def tensor(leaf: Any) -> Any:
        return results[leaf.layer, leaf.call][leaf.place] if isinstance(leaf, Result) else leaf

    given, keywords = mapped(call.given, tensor), mapped(call.keywords, tensor)
    entry = network.layers[call.layer]
    try:
        if entry["class_name"] in CLASSES:
            made = _operated(applied(entry["class_name"], entry["config"], given, keywords))
        else:
            made = _layer_called(layers[call.layer], given, keywords)
    except raised_by_keras() as error:
        where = f"{path}/{call.layer}".lstrip("/")
        problem = Problem(keras=where, fact=f"{type(error).__name__}: {keras_side.what_was_said(error)}")
        raise ModelError(lay_out("a layer cannot be called as the file says", [problem])) from error
    return list(keras.tree.flatten(made))


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
        return arguments["x"][arguments["key"]]
    function: Any = keras.ops
    for part in call.name.split("."):
        function = getattr(function, part)
    return function(**arguments)


def _unwrapped(nested: Any) -> Any:
    """The one tensor of a list of one: what Keras 2 returned for it."""
    return nested[0] if isinstance(nested, list) and len(nested) == 1 else nested


def _sequential(entry: Config, path: str) -> keras.Sequential:
    config = entry["config"]
    layers = layers_in(config)
    model = keras.Sequential(name=name_of(entry) or None)
    first = layers[0]["config"] if layers else {}
    shape = first.get("batch_input_shape") if isinstance(first, Mapping) else None
    if shape and layers[0]["class_name"] != "InputLayer":
        model.add(keras.layers.InputLayer(batch_shape=shape, dtype=_input_dtype(layers[0])))
    for layer in layers:
        model.add(_layer(layer, f"{path}/{name_of(layer)}".lstrip("/")))
    if not model.built and isinstance(config, Mapping) and config.get("build_input_shape"):
        model.build(tuple(config["build_input_shape"]))
    return model


def _input_dtype(layer: Config) -> str | None:
    """The dtype of what the first layer of a Sequential is given: numbers of words are no floats."""
    return "int32" if layer["class_name"] == "Embedding" else None


def _layer(entry: Config, path: str) -> Any:
    """The layer of an entry; a layer in its settings is made first."""
    class_name = renamed(entry["class_name"])
    if class_name in MODELS and "layers" in _mapping(entry["config"], "layers"):
        return _model(entry, path)
    found = _class_of(class_name)
    assert found is not None
    if not _is_of_keras(found):
        return found.from_config(dict(entry["config"]))
    config = settings(class_name, entry["config"])
    given = {
        name: _value(name, value, f"{path}/{name}")
        for name, value in config.items()
        if name in _accepted(found) and name != "trainable"
    }
    try:
        made = found(**given)
    except raised_by_keras() as error:
        problem = Problem(keras=path, fact=f"{type(error).__name__}: {keras_side.what_was_said(error)}")
        raise ModelError(lay_out(f"Keras 3 cannot make a {class_name} as the file says", [problem])) from error
    if config.get("trainable") is False:
        made.trainable = False
    return made


def _value(name: str, value: Any, path: str) -> Any:
    if isinstance(value, Mapping) and _is_entry(value):
        return _layer(value, path)
    if isinstance(value, list) and value and all(_is_entry(one) for one in value):
        return [_layer(one, f"{path}_{place}") for place, one in enumerate(value)]
    if name.endswith("activation") and value == "hard_sigmoid":
        return hard_sigmoid_of_keras_2
    return tuple(value) if isinstance(value, list) else value


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and {"class_name", "config"} <= value.keys()


def _is_activation(value: Any) -> bool:
    return value is None or _is_entry(value) or (isinstance(value, str) and hasattr(keras.activations, value))


def _class_of(class_name: str) -> Any:
    """The class of Keras 3, or the one that the user registered under this name."""
    return getattr(keras.layers, class_name, None) or keras.saving.get_registered_object(class_name)


def _is_of_keras(found: type) -> bool:
    return found.__module__.startswith("keras.")


def _accepted(found: Callable[..., Any]) -> frozenset[str]:
    """The names of the arguments that a class of Keras takes, as far up as it hands the others on."""
    names: set[str] = set()
    for base in inspect.getmro(found):  # type: ignore[arg-type]
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values() if "__init__" in vars(base) else ()
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if parameters and not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return frozenset(names - {"self"})
    return frozenset(names - {"self"} | _EVERY_LAYER)


__all__ = ["hard_sigmoid_of_keras_2", "model_of", "problems_in"]
