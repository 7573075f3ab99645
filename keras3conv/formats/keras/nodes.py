"""Find the layers in the groups of a `.weights.h5` file: their names, classes and variables.

A layer of the model has an HDF5 group that is named after its class: "dense_1". A layer inside a user's layer has a
group that is named after the attribute, such as "project", which does not prove a class (see `classes`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from typing import NamedTuple

import numpy as np

from keras3conv.errors import MalformedCheckpoint, listed, quoted
from keras3conv.formats.keras.architecture import LayerConfig, inner_layer
from keras3conv.formats.keras.classes import class_by_name, inferred_class
from keras3conv.formats.keras.names import DOUBLED, child_class, class_of, snake_case
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.transforms import Array

_MOST = 1 << 62
_LEAF = ("vars",)
"""The members of the group of a layer that contains no other layer."""


class Node(NamedTuple):
    """A layer in a `.weights.h5` file, with its HDF5 group and its variables.

    Attributes:
        group: The path of the group in the file; empty for the model.
        path: The path of the layer, by the names of the layers; the name of a group if the file has no name of its
            layer. Several layers may have the same path.
        datasets: The datasets of the variables, in the order of their numbers.
        class_name: The class of the layer; empty if unknown.
        config: The layer in the architecture; None if there is none.
    """

    group: str = ""
    path: str = ""
    datasets: tuple[Dataset, ...] = ()
    class_name: str = ""
    config: LayerConfig | None = None


def nodes_of(tree: Tree, config: LayerConfig | None, where: str) -> list[Node]:
    """Return a `Node` for each layer (a group that has a group `vars`) in the order of the names, outer layers first.

    Args:
        tree: The groups and datasets of the file.
        config: The model in the architecture; None if there is none.
        where: The name of the file, for messages.
    """
    nodes: list[Node] = []
    waiting = [([""], Node(config=config))]
    while waiting:
        groups, parent = waiting.pop()
        group, members = groups[0], tree.groups.get(groups[0])
        if members is None:  # a dataset
            continue
        if "vars" in members:
            found = _siblings(tree, groups, parent, where)
            nodes += found
            parent = found[0]
        if members != _LEAF:
            above = f"{group}/" if group else ""
            inside = [above + name for name in _in_order(members) if name != "vars"]
            waiting += reversed([(run, parent) for run in _runs(tree, inside)])
    return nodes


def _runs(tree: Tree, groups: Sequence[str]) -> Iterator[list[str]]:
    """Yield groups in their order, in lists: successive layers without inner groups together, every other group alone.

    A file may have a list of 100,000 layers, which are inspected together.
    """
    for is_leaf, run in groupby(groups, lambda group: tree.groups.get(group) == _LEAF):
        if is_leaf:
            yield list(run)
        else:
            yield from ([group] for group in run)


def _siblings(tree: Tree, groups: Sequence[str], parent: Node, where: str) -> list[Node]:
    """Return a `Node` for each of several layers inside the same outer layer, after a check of their variables.

    Args:
        tree: The groups and datasets of the file.
        groups: The paths of the groups of these layers.
        parent: The innermost layer that contains them; the model if there is none.
        where: The name of the file, for messages.
    """
    values = [f"{group}/vars" if group else "vars" for group in groups]
    datasets = _variables(tree, groups, values, where)
    if not groups[0]:
        config = parent.config
        return [Node(datasets=datasets[0], class_name=config.class_name if config else "", config=config)]
    stored = [tree.text(path, "name") for path in values]
    configs: Sequence[LayerConfig | None] = [None] * len(groups)
    if parent.config is not None:
        configs = [_config(group, parent, name, tree) for group, name in zip(groups, stored, strict=True)]
    names = [
        name or (config.name if config else "") or group.rpartition("/")[2]
        for group, name, config in zip(groups, stored, configs, strict=True)
    ]
    paths = [f"{parent.path}/{name}" for name in names] if parent.path else [name.lstrip("/") for name in names]
    classes = [
        config.class_name if config else _class_name(group, own, parent, name, tree)
        for group, own, name, config in zip(groups, datasets, stored, configs, strict=True)
    ]
    return list(map(partial(tuple.__new__, Node), zip(groups, paths, datasets, classes, configs, strict=True)))


def _variables(tree: Tree, groups: Sequence[str], values: Sequence[str], where: str) -> list[tuple[Dataset, ...]]:
    """Return the datasets of the variables of each layer, in the order of their numbers.

    Args:
        tree: The groups and datasets of the file.
        groups: The paths of the groups of the layers.
        values: The paths of the groups `vars` in them.
        where: The name of the file, for messages.

    Raises:
        MalformedCheckpoint: The members of a group `vars` are not numbered, or are not datasets.
    """
    members = [tree.groups.get(path) for path in values]
    for names in set(members):
        path, group = values[members.index(names)], groups[members.index(names)]
        if names is None:
            raise MalformedCheckpoint(f"{where}: {quoted(path)} must be an HDF5 group with the variables of a layer")
        if (found := _in_order(names)) != list(_numbers(len(names))):
            raise MalformedCheckpoint(
                f"{where}: the variables of {quoted(group)} must be numbered 0, 1, ..., but are {listed(found)}"
            )
    counts = [len(names) for names in members if names is not None]
    get = tree.datasets.get
    datasets = [
        tuple([dataset for number in _numbers(count) if (dataset := get(f"{path}/{number}"))])
        for path, count in zip(values, counts, strict=True)
    ]
    if list(map(len, datasets)) != counts:
        paths = (f"{path}/{number}" for path, count in zip(values, counts, strict=True) for number in _numbers(count))
        missing = next(path for path in paths if path not in tree.datasets)
        raise MalformedCheckpoint(f"{where}: the variable {missing} is not an HDF5 dataset, so it has no values")
    return datasets


@lru_cache(64)
def _numbers(count: int) -> tuple[str, ...]:
    """Return the names of the variables of a layer with this number of variables: ("0", "1")."""
    return tuple(map(str, range(count)))


def _config(group: str, parent: Node, stored: str | None, tree: Tree) -> LayerConfig | None:
    """Return the layer of the architecture for a group, by the stored name or by class and number; None if unknown.

    Args:
        group: The path of the group.
        parent: The layer that contains the layer.
        stored: The name of the layer in the file; None if the file has no names.
        tree: The content of the file.
    """
    if parent.config is None:
        return None
    inside = group.removeprefix(parent.group).strip("/")
    if not parent.config.is_model:
        return inner_layer(parent.config, inside)
    if stored is not None:
        return next((layer for layer in parent.config.children if layer.name == stored), None)
    home, _, name = inside.rpartition("/")
    home = f"{parent.group}/{home}".strip("/")
    return _by_number(parent.config, home, tree).get(name)


def _by_number(model: LayerConfig, home: str, tree: Tree) -> dict[str, LayerConfig]:
    """Return the layers of a model by their group names in the file, such as "dense_1" for the second Dense.

    Args:
        model: The model in the architecture.
        home: The path of the group that contains the groups of the layers.
        tree: The content of the file.
    """
    counts: dict[str, int] = {}
    layers: dict[str, LayerConfig] = {}
    for layer in model.children:
        if model.class_name == "Sequential" and layer.class_name == "InputLayer":
            continue
        snake = snake_case(layer.class_name)
        number = counts.get(snake, 0)
        name = f"{snake}_{number}" if number else snake
        is_doubled = home.rpartition("/")[2] == DOUBLED and any(
            place.startswith(f"{home}/{name}/") for place in tree.datasets
        )
        counts[snake] = number + (2 if is_doubled else 1)
        layers[name] = layer
    return layers


def _class_name(group: str, datasets: Sequence[Dataset], parent: Node, stored: str | None, tree: Tree) -> str:
    """Return the class of a layer in a file without architecture, by its group name; "" if unknown.

    In a list of layers, Keras makes the group name from the class; elsewhere the group name is an attribute name, and
    the shapes of the variables must show the class.

    Args:
        group: The path of the group of the layer.
        datasets: The datasets of its variables.
        parent: The group of the layer that contains it.
        stored: The name of the layer in the file; None if the file has no names.
        tree: The content of the file.
    """
    inside = group.removeprefix(parent.group).strip("/")
    if "/" in inside:
        return class_of(inside.rpartition("/")[2])
    if parent.class_name == "Bidirectional" and stored:
        return class_of(re.sub("^(forward|backward)_", "", stored))
    known = child_class(parent.class_name, inside) or class_by_name(datasets, stored)
    return known or inferred_class(group, datasets, (inside, stored or ""), tree)


def _in_order(names: Iterable[str]) -> list[str]:
    """Return the names of the members of a group in an order that has "dense_2" before "dense_10"."""
    given = list(names)
    return [given[place] for place in order_of(given).tolist()]


def order_of(names: Sequence[str]) -> Array:
    """Return the indices of the names in an order that has "dense_2" before "dense_10"."""
    texts = [name.rstrip("0123456789") for name in names]
    digits = [name[len(text) :] for name, text in zip(names, texts, strict=True)]
    numbers = [int(number) if number else -1 for number in digits]
    ranks = {text: rank for rank, text in enumerate(sorted({text.removesuffix("_") for text in texts}))}
    known = {text: ranks[text.removesuffix("_")] for text in set(texts)}
    rank = [known[text] for text in texts]
    if names and max(numbers) < _MOST:
        keys = np.array([numbers, rank], np.int64)
        order = np.lexsort(keys)  # much faster than `sorted` for 100,000 names
        if (np.diff(keys[:, order]) != 0).any(axis=0).all():
            return order
    return np.array(sorted(range(len(names)), key=lambda place: (rank[place], numbers[place], names[place])), np.int64)
