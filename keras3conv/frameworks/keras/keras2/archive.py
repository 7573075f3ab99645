"""Load the weights of a `.keras` archive of Keras 2.12 to 2.15 into a model of Keras 3.

In the archive, each layer has a group of weights; groups are numbered per class in the order of the archive's
architecture. Keras 3 may order the layers differently, so the archive's architecture assigns the groups to layers.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras3conv.errors import Problem
from keras3conv.formats.keras.names import DOUBLED, snake_case
from keras3conv.formats.keras2.layers import is_training_only
from keras3conv.formats.keras2.network import MODELS, layers_in, name_of
from keras3conv.frameworks.keras.keras2.classes import Config, layers_setting
from keras3conv.frameworks.keras.keras2.weights import assign, in_order_of_axes
from keras3conv.frameworks.keras.tree import file_locations, original_name
from keras3conv.transforms import Array


def load(model: keras.Model, entry: Config, arrays: Mapping[str, Array], path: Path) -> None:
    """Assign the values of an archive to the variables of the model that was built from it, all of them or none.

    Args:
        model: The model.
        entry: The architecture in the archive.
        arrays: The values by their paths in the archive, such as "layers/conv2d/vars/0".
        path: The file.

    Raises:
        ModelError: Variables have no value, or one of another shape; the message lists all of them.
    """
    problems: list[Problem] = []
    staged = list(_in_model(model, entry, "", arrays, problems))
    assign(model, staged, problems, path)


def groups_of(entry: Config, prefix: str, arrays: Mapping[str, Array]) -> Iterator[tuple[Config, str]]:
    """Yield the layers of a model, each with the path of its weights in the archive, such as "layers/conv2d_1/".

    The name in the path is the class name in snake case, numbered by appearance.
    Keras 2.13 lists a layer with weights twice, so the number of its class increases by two.

    Args:
        entry: The configuration of the model.
        prefix: The path of the model's weights in the archive.
        arrays: The values by their paths in the archive.
    """
    is_doubled = any(place.startswith(f"{prefix}{DOUBLED}/") for place in arrays)
    home = f"{prefix}{DOUBLED if is_doubled else 'layers'}"
    counts: dict[str, int] = {}
    for layer in layers_in(layers_setting(entry["config"])):
        if entry["class_name"] == "Sequential" and layer["class_name"] == "InputLayer":
            continue
        name = snake_case(layer["class_name"].rpartition(">")[2])
        number = counts.get(name, 0)
        group = f"{home}/{name}_{number}/" if number else f"{home}/{name}/"
        has_weights = is_doubled and any(place.startswith(group) for place in arrays)
        counts[name] = number + (2 if has_weights else 1)
        yield layer, group


def _in_model(
    model: Any, entry: Config, prefix: str, arrays: Mapping[str, Array], problems: list[Problem]
) -> Iterator[tuple[keras.Variable, Array]]:
    layers = {original_name(layer): layer for layer in model.layers}
    for inner, group in groups_of(entry, prefix, arrays):
        layer = layers.get(name_of(inner))
        if layer is not None and not is_training_only(inner):
            yield from _in_layer(layer, inner, group, arrays, problems)


def _in_layer(
    layer: Any, entry: Config, group: str, arrays: Mapping[str, Array], problems: list[Problem]
) -> Iterator[tuple[keras.Variable, Array]]:
    config = entry["config"]
    if entry["class_name"] in MODELS and "layers" in layers_setting(config):
        yield from _in_model(layer, entry, group, arrays, problems)
        return
    wrapped = config.get("layer")
    if isinstance(wrapped, Mapping) and wrapped.get("class_name") in MODELS:
        yield from _in_layer(layer.layer, wrapped, f"{group}layer/", arrays, problems)
        return
    places = file_locations(layer)
    for variable in layer.weights:
        if id(variable) not in places or variable.name.startswith("seed_generator_state"):
            continue
        array = _array(arrays, group, places[id(variable)])
        array = None if array is None else in_order_of_axes(layer, array, tuple(variable.shape))
        if array is None or array.shape != tuple(variable.shape):
            fact = "no value" if array is None else f"a value of shape {array.shape}"
            fact = f"the variable {variable.name} of shape {tuple(variable.shape)} has {fact} in the file"
            problems.append(Problem(keras=name_of(entry), fact=fact))
        else:
            yield variable, array


def _array(arrays: Mapping[str, Array], group: str, place: str) -> Array | None:
    """Return the value at a path in an archive; None if there is none.

    Args:
        arrays: The values by their paths in the archive.
        group: The path of the weights of a layer, such as "layers/conv2d_1/".
        place: The rest of the path: "vars/0". Keras 2 writes an underscore before some names, so the first name may
            have one in the archive.
    """
    found = arrays.get(f"{group}{place}")
    first, slash, rest = place.partition("/")
    return arrays.get(f"{group}_{first}{slash}{rest}") if found is None else found
