"""Group the layers of a large `.weights.h5` file by class and shapes, for many layers at once."""

from collections.abc import Callable, Sequence

import numpy as np

from keras3conv.formats.keras.layers import StoredLayer
from keras3conv.formats.keras.names import class_of
from keras3conv.formats.keras.nodes import order_of
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_image import distinct, first_and_group
from keras3conv.formats.safe.hdf5_levels import Form, Level, Levels
from keras3conv.model.listing import Forms
from keras3conv.model.views import LayerView
from keras3conv.transforms import Array, Shape

_MOST_VARIABLES = 10
"""The number of variables of a layer up to which the order of their names is that of their numbers."""

Roles = Callable[[str, tuple[Shape, ...]], tuple[tuple[str, ...], str]]


def forms_in(columns: Levels, roles: Roles, view: Callable[[StoredLayer], LayerView]) -> Forms | None:
    """Group the layers of a flat model by their form: the class, and the shapes and dtypes of the variables.

    Return the path of each layer in the order of the names, the index of its form, and an example layer of each form.
    Return None if the model is not a plain list of layers (it has layers inside of layers, for example): each of its
    layers must then be read alone.

    Args:
        columns: The groups and datasets of the file, for each depth (`Levels`).
        roles: A function that returns the names of the variables, and the qualified class, for a class and shapes.
        view: A function that returns the view of a layer.
    """
    if len(columns.levels) != 5 or not _is_list(columns.levels):
        return None
    _, _, layers, values, variables = columns.levels
    places = order_of(layers.members.names)
    paths = _paths(layers, values, places)
    if paths is None:
        return None
    number, chosen = _by_form(layers, variables, places)
    examples = []
    for class_name, datasets in chosen:
        found = [Dataset("", form.shape, form.dtype, 0, form.size) for form in datasets]
        names, kind = roles(class_name, tuple([form.shape for form in datasets]))
        examples.append(view(StoredLayer(path="", datasets=tuple(found), roles=names, kind=kind)))
    return Forms(paths, number.tolist(), examples)


def _is_list(levels: Sequence[Level]) -> bool:
    """Return whether a file has only a list of layers, each with its own variables and no inner layers.

    Args:
        levels: The objects at each depth: the root, the list of layers, the layers, their groups `vars`, the variables.
    """
    _, top, layers, values, variables = levels
    lists = [place for place, name in enumerate(top.members.names) if name != "vars"]
    if not top.is_group.all() or [top.members.names[place] for place in lists] != ["layers"]:
        return False
    is_simple = (
        (layers.members.parent == lists[0]).all()
        and layers.is_group.all()
        and values.is_group.all()
        and not variables.is_group.any()
        and np.array_equal(values.members.parent, np.arange(len(layers.members.names)))
        and set(values.members.names) == {"vars"}
    )
    if not is_simple:
        return False
    numbers = _numbers_in(variables)
    if numbers.max() >= _MOST_VARIABLES or distinct(variables.datasets.address).size < numbers.size:
        return False
    texts = [str(number) for number in range(_MOST_VARIABLES)]
    return variables.members.names == [texts[number] for number in numbers.tolist()]


def _numbers_in(variables: Level) -> Array:
    """Return, for each variable, its position among the variables of its layer."""
    parent = variables.members.parent
    return np.arange(len(parent)) - np.searchsorted(parent, parent)


def _paths(layers: Level, values: Level, places: Array) -> list[str] | None:
    """Return the paths of the layers, by their stored names; None if they are not distinct names of simple layers.

    Args:
        layers: The groups of the layers.
        values: Their groups `vars`, whose attribute is the name of the layer; without it the name of the group counts.
        places: The indices of the layers in their order.
    """
    names: list[object] = [*layers.members.names]
    if column := values.attributes.get("name"):
        if len(column.values) == len(names):
            names = np.array(column.values, object)[np.argsort(column.owner)].tolist()
        else:
            for owner, name in zip(column.owner.tolist(), column.values, strict=True):
                names[owner] = name or names[owner]
    paths = [names[place] for place in places.tolist()]
    texts = [path for path in paths if isinstance(path, str)]
    is_plain = len(texts) == len(paths) == len({*texts}) and "" not in texts and "/" not in "".join(texts)
    return texts if is_plain else None


def _by_form(layers: Level, variables: Level, places: Array) -> tuple[Array, list[tuple[str, list[Form]]]]:
    """Return the index of the form of each layer, and for each form the class and the forms of its variables.

    Args:
        layers: The groups of the layers.
        variables: The variables in them.
        places: The indices of the layers in their order.
    """
    digits = "0123456789"
    # Keras numbers the groups of a class: "dense", "dense_1". One number stands for all.
    texts = [text if len(text := name.rstrip(digits)) == len(name) else f"{text}0" for name in layers.members.names]
    classes = {text: class_of(text) for text in set(texts)}
    names = sorted({*classes.values()})
    number = np.array([names.index(classes[text]) for text in texts] if len(names) > 1 else 0 * places)
    held, position = variables.datasets, _numbers_in(variables)
    for column in range(int(position.max()) + 1):
        form = np.zeros(len(texts), np.int64)
        those = position == column
        form[variables.members.parent[those]] = held.form[those] + 1
        _, number = first_and_group(number * (len(held.forms) + 1) + form)
    first, number = first_and_group(number[places])
    counts = variables.members.counts(len(texts))
    starts = np.cumsum(counts) - counts
    chosen = []
    for place in places[first].tolist():
        own = held.form[starts[place] : starts[place] + counts[place]].tolist()
        chosen.append((classes[texts[place]], [held.forms[form] for form in own]))
    return number, chosen
