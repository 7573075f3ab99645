"""List everything in a Keras 2 architecture that Keras 3 cannot compute, before any layer is created."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras3conv.errors import Problem, RuleError, message_of
from keras3conv.formats.keras2.layers import (
    REFUSED,
    changed_meaning,
    is_entry,
    is_training_only,
    is_without_effect,
    renamed,
    settings,
)
from keras3conv.formats.keras2.network import MODELS, layers_in, name_of, network_of
from keras3conv.formats.keras2.operations import CLASSES, applied
from keras3conv.frameworks.keras.keras2.classes import (
    Config,
    accepted_settings,
    class_named,
    is_activation,
    is_of_keras,
    layers_setting,
)


@dataclass(frozen=True, kw_only=True)
class _File:
    """The facts about a file that its problems mention: the version that wrote it, and the suggested line of code."""

    version: str
    is_of_tensorflow_2: bool
    own_code: str


def problems_in(entry: Config, version: str, own_code: str) -> Iterator[Problem]:
    """Yield a problem for each part of an architecture that has no counterpart in Keras 3.

    Args:
        entry: The configuration of the model in the file.
        version: The version of Keras that wrote the file.
        own_code: The suggested line of code for a layer of a custom class, which only the user's code can create.
    """
    file = _File(version=version, is_of_tensorflow_2=_says_ragged(entry), own_code=own_code)
    yield from _problems(entry, file, "")


def _problems(entry: Config, file: _File, path: str) -> Iterator[Problem]:
    class_name = renamed(entry["class_name"])
    if is_training_only(entry):
        return
    if class_name in MODELS and "layers" in layers_setting(entry["config"]):
        yield from _model_problems(entry, file, path)
    elif class_name in REFUSED:
        yield Problem(keras=path, fact=f"{class_name}: {REFUSED[class_name]}", fixes=(file.own_code,))
    elif class_name not in CLASSES:
        yield from _layer_problems(class_name, entry["config"], file, path)


def _says_ragged(entry: Config) -> bool:
    """Return whether an input layer has the argument `ragged`, which only a Keras with TensorFlow 2 wrote."""
    config = entry["config"]
    layers = layers_setting(config).get("layers")
    if isinstance(layers, list):
        return any(_says_ragged(layer) for layer in layers if is_entry(layer))
    return entry["class_name"] == "InputLayer" and "ragged" in config


def _model_problems(entry: Config, file: _File, path: str) -> Iterator[Problem]:
    """Yield the problems of those layers and TensorFlow functions of a model that its outputs depend on.

    Args:
        entry: The configuration of the model.
        file: Facts about the file.
        path: The path of the model; empty for the whole model.
    """
    entries = layers_in(entry["config"])
    if entry["class_name"] == "Sequential":
        for inner in entries:
            yield from _problems(inner, file, f"{path}/{name_of(inner)}".lstrip("/"))
        return
    network = network_of(entry["config"])
    calls = network.in_order()
    used = {call.layer for call in calls}
    for name, inner in network.layers.items():
        if name in used or inner["class_name"] == "InputLayer":
            yield from _problems(inner, file, f"{path}/{name}".lstrip("/"))
    for call in calls:
        layer = network.layers[call.layer]
        if layer["class_name"] in CLASSES:
            try:
                applied(layer["class_name"], layer["config"], call.argument, call.keywords)
            except RuleError as error:
                yield Problem(keras=f"{path}/{call.layer}".lstrip("/"), fact=message_of(error))


def _layer_problems(class_name: str, config: Any, file: _File, path: str) -> Iterator[Problem]:
    found = class_named(class_name)
    if found is None:
        fact = f"{class_name} is not a class of Keras 3, and no class is registered under this name"
        short = class_name.rpartition(">")[2]
        register = f'keras.saving.get_custom_objects()["{short}"] = {short}  # your class; then convert again'
        yield Problem(keras=path, fact=fact, fixes=(register, file.own_code))
        return
    if not is_of_keras(found):
        return
    accepted, arguments = accepted_settings(found), settings(class_name, config)
    change = changed_meaning(class_name, arguments, file.version, is_of_tensorflow_2=file.is_of_tensorflow_2)
    if change:
        yield Problem(keras=path, fact=f"{class_name}: {change}")
    for name, value in arguments.items():
        if isinstance(value, Mapping) and is_entry(value):
            yield from _problems(value, file, f"{path}/{name}")
        elif isinstance(value, list) and any(is_entry(one) for one in value):
            for place, one in enumerate(value):
                yield from _problems(one, file, f"{path}/{name}_{place}")
        elif name not in accepted and not is_without_effect(name, value):
            yield Problem(keras=path, fact=f"{class_name} has the argument {name}={value!r}, which Keras 3 lacks")
        elif name.endswith("activation") and not is_activation(value):
            yield Problem(
                keras=path,
                fact=f"{class_name} has {name}={value!r}, which is not an activation of Keras",
                fixes=(file.own_code,),
            )
