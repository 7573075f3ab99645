"""Read and write the `.weights.h5` format of Keras 3, in which groups are attributes and variables have numbers.

A layer is a group that contains a group `vars`. Since Keras 3.9, `vars` has the layer's name as an HDF5 attribute. A
`.keras` archive contains a `.weights.h5` file and the architecture.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from keras3conv.errors import FileError, MalformedCheckpoint, listed, quoted
from keras3conv.formats.keras.architecture import Architecture, LayerConfig, inner_layer
from keras3conv.formats.keras.inferred import class_of_parts, class_of_shapes
from keras3conv.formats.keras.layers import Found, distinct, layers_of, reader_of
from keras3conv.formats.keras.names import DOUBLED, child_class, class_of, qualified, roles, snake_case
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Dataset, Tree
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.model.views import ModelView, TensorRef, made
from keras3conv.transforms import Array

_LOCATION = re.compile(r"(?:[^/]+/)*vars/\d+")


@dataclass(frozen=True, kw_only=True)
class Node:
    """The HDF5 group of a layer in a `.weights.h5` file.

    Attributes:
        group: The path of the group in the file; empty for the model.
        name: The name of the layer; the name of the group if the file does not contain the layer's name.
        datasets: The datasets of the variables, in the order of their numbers.
        class_name: The class of the layer; empty if unknown.
        config: The layer in the architecture; None if there is none.
    """

    group: str
    name: str
    datasets: tuple[Dataset, ...]
    class_name: str = ""
    config: LayerConfig | None = None


def read(source: Source) -> ModelView:
    """Return a view of the model in a file; `ModelView.read` loads one tensor at a time."""
    file = Hdf5File(source)
    tree = file.survey()
    found = distinct(find(tree, None, str(source.path)), str(source.path))
    return ModelView(
        side="keras",
        name=source.path.name,
        layers=layers_of(found, None, tree),
        reader=reader_of(file, found),
        origin=str(source.path),
        facts={"format": "Keras 3 weights"} | ignored_facts(tree),
    )


def datasets(path: Path) -> dict[str, Array]:
    """Return the weights in a file by their HDF5 path: "layers/conv2d/vars/0".

    Raises:
        FileError: The file cannot be read.
    """
    file = Hdf5File(Source.pin(path))
    return {place: file.read(dataset) for place, dataset in file.survey().datasets.items()}


def ignored_facts(tree: Tree) -> dict[str, str]:
    """Return a fact for reports about optimizer state, which is not read: {"ignored": "the state of the optimizer"}.

    Return {} if the file has none.
    """
    return {"ignored": f"the state of the {tree.ignored[0]}"} if tree.ignored else {}


def find(tree: Tree, architecture: Architecture | None, where: str) -> list[Found]:
    """Return the layers in the file, with the names and classes from the file and the architecture.

    Args:
        tree: The groups and datasets of the file.
        architecture: The architecture; None if there is none.
        where: The name of the file, for messages.
    """
    model = Node(group="", name="", datasets=(), config=architecture.root if architecture else None)
    nodes: dict[str, Node] = {}
    for group in sorted((path for path, names in tree.groups.items() if "vars" in names), key=_natural):
        nodes[group] = _node(tree, group, nodes, model, where)
    if architecture is None and not any(node.datasets for node in nodes.values()):
        raise MalformedCheckpoint(f"{where} is an HDF5 file, but contains no weights of a Keras model")
    paths = _paths(nodes)
    return [_found(node, paths[group]) for group, node in nodes.items() if group or node.datasets]


def lay_out(path: Path, tensors: Sequence[TensorRef]) -> Layout:
    """Write a weight file for `keras.Model.load_weights` without its values, and return the byte ranges for them.

    Every tensor needs a `location` such as "layers/dense/vars/0". The state of a seed generator without a location is
    not written, as in files that Keras saves.

    Args:
        path: The file to write.
        tensors: All tensors of the model.
    """
    extents: dict[str, Extent] = {}
    names: set[str] = set()
    with hdf5.opened(path, str(path), "w") as file:
        declarations = hdf5.Declarations(file)
        for tensor in tensors:
            if tensor.is_seed and not tensor.location:
                continue
            values, number = place_of(tensor, path)
            if values not in names:
                for above, name in _names_of(tensor, values):
                    if above not in names:
                        names.add(above)
                        if name:
                            declarations.text(declarations.group(above), "name", name)
            extents[tensor.path] = declarations.dataset(declarations.group(values), number, tensor)
    return Layout(extents, {tensor.path: tensor.location for tensor in tensors})


def _names_of(tensor: TensorRef, values: str) -> list[tuple[str, str]]:
    """Return the HDF5 groups of a tensor's layer and of the layers around it: [("layers/dense", "dense_3")].

    Each element is the path of a layer's group and the name of the layer.

    A model stores a layer under "layers/CLASS", and a layer stores a sublayer under the name of the attribute. If the
    path does not show which groups are layers, as in a list of layers, only the innermost pair is returned.

    Args:
        tensor: The tensor.
        values: The path of the group of the owner's variables: "layers/dense/vars".
    """
    layers = [name.partition("#")[0] for name in tensor.path.removesuffix(tensor.role).rstrip("/").split("/")]
    groups = values.split("/")[:-1]
    places = [place for place, group in enumerate(groups) if group != "layers"]
    if len(places) != len(layers):
        return [(values, layers[-1])]
    return [("/".join([*groups[: place + 1], "vars"]), name) for place, name in zip(places, layers, strict=True)]


def place_of(tensor: TensorRef, path: Path) -> tuple[str, str]:
    """Return the HDF5 group that holds a tensor, and the tensor's name in the group: "layers/dense/vars" and "0".

    Args:
        tensor: The tensor, with a location such as "layers/dense/vars/0".
        path: The file, for messages.

    Raises:
        FileError: The tensor has no such location.
    """
    if not _LOCATION.fullmatch(tensor.location):
        raise FileError(
            f"{path.name}: {tensor.path} needs a location such as 'layers/dense/vars/0', but has {tensor.location!r}\n"
            f'Fix:  k3c.transfer(source, model, plan, out="{path.name}")  # a live model has them'
        )
    values, _, number = tensor.location.rpartition("/")
    return values, number


def _node(
    tree: Tree,
    group: str,
    nodes: Mapping[str, Node],
    model: Node,
    where: str,
) -> Node:
    """Return the node of a group in the file, after a check of its variables.

    Args:
        tree: The groups and datasets of the file.
        group: The path of the group.
        nodes: The nodes of the groups around it, by path.
        model: The node of the whole model.
        where: The name of the file, for messages.
    """
    values = f"{group}/vars" if group else "vars"
    if values not in tree.groups:
        raise MalformedCheckpoint(f"{where}: {quoted(values)} must be an HDF5 group with the variables of a layer")
    numbers = _numbers(len(tree.groups[values]))
    if tree.groups[values] != numbers and (found := sorted(tree.groups[values], key=_natural)) != list(numbers):
        raise MalformedCheckpoint(
            f"{where}: the variables of {quoted(group)} must be numbered 0, 1, ..., but are {listed(found)}"
        )
    paths = [f"{values}/{number}" for number in numbers]
    datasets = tuple([tree.datasets[path] for path in paths if path in tree.datasets])
    if len(datasets) < len(paths):
        missing = next(path for path in paths if path not in tree.datasets)
        raise MalformedCheckpoint(f"{where}: the variable {missing} is not an HDF5 dataset, so it has no values")
    stored = tree.text(values, "name")
    parent = nodes.get(_owner(group, nodes), model)
    config = _config(group, parent, stored, tree) if group else model.config
    return made(
        Node,
        group=group,
        name=stored or (config.name if config and config.name else group.rpartition("/")[2]),
        datasets=datasets,
        class_name=config.class_name if config else _class_name(group, datasets, parent, stored, tree),
        config=config,
    )


@lru_cache(64)
def _numbers(count: int) -> tuple[str, ...]:
    """Return the names of the variables of a layer with this number of variables: ("0", "1")."""
    return tuple(map(str, range(count)))


def _owner(group: str, nodes: Mapping[str, Node]) -> str:
    """Return the path of the innermost layer group around a group; "", the model, if there is none.

    Args:
        group: The path of the group.
        nodes: The groups of layers that were found so far, by path.
    """
    above = group.rpartition("/")[0]
    while above and above not in nodes:
        above = above.rpartition("/")[0]
    return above


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
    if not group:
        return ""
    inside = group.removeprefix(parent.group).strip("/")
    if "/" in inside:
        return class_of(inside.rpartition("/")[2])
    if parent.class_name == "Bidirectional" and stored:
        return class_of(re.sub("^(forward|backward)_", "", stored))
    known = child_class(parent.class_name, inside) or _class_by_name(datasets, stored)
    return known or _inferred_class(group, datasets, (inside, stored or ""), tree)


def _inferred_class(group: str, datasets: Sequence[Dataset], names: Sequence[str], tree: Tree) -> str:
    """Return the class of a layer in a user's layer, by its inner layers or by the shapes of its variables; else "".

    Args:
        group: The path of the group of the layer.
        datasets: The datasets of its variables.
        names: The names of the layer: that of its group, and its own.
        tree: The content of the file.
    """
    parts = [name for name in tree.groups[group] if name != "vars"]
    if not parts:
        shapes = [dataset.shape for dataset in datasets]
        return next(filter(None, (class_of_shapes(name, shapes) for name in names)), "")
    kernels = []
    for name in ("query_dense", "key_dense"):
        found = (tree.datasets.get(f"{group}/{part}/vars/0") for part in parts if part.lstrip("_") == name)
        kernels.append(next((dataset.shape for dataset in found if dataset), ()))
    return class_of_parts(parts, *kernels)


def _class_by_name(datasets: Sequence[Dataset], stored: str | None) -> str:
    """Return the class for which the stored name is the default layer name: "Conv2D" for "conv2d_3".

    Return an empty text if the name is no default name, or if the class has another number of variables.

    Args:
        datasets: The datasets of the variables of a layer.
        stored: The name of the layer in the file; None if the file has no names.
    """
    name = class_of(stored or "")
    known = roles(name, [dataset.shape for dataset in datasets])
    return name if not any(role.isdecimal() for role in known) else ""


def _paths(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Return the path of each layer, by its group; layers with the same path get the paths of their groups instead."""
    paths = {"": ""}
    for group, node in nodes.items():
        if group:
            above = paths[_owner(group, nodes)]
            paths[group] = f"{above}/{node.name}".lstrip("/")
    taken = Counter(paths.values())
    return {group: path if taken[path] == 1 else group for group, path in paths.items()}


def _found(node: Node, path: str) -> Found:
    shapes = [dataset.shape for dataset in node.datasets]
    config = node.config.config if node.config else None
    kind = node.config.kind if node.config else qualified(node.class_name)
    known = node.class_name if kind.startswith("keras.") else ""
    return made(Found, path=path, datasets=node.datasets, roles=roles(known, shapes, config), kind=kind)


def _natural(path: str) -> tuple[tuple[str, int, str], ...]:
    """Return a sort key that puts "dense_2" before "dense_10", and all inside of "block" before "block_1"."""
    key = []
    for part in path.split("/"):
        name = part.rstrip("0123456789")
        number = part[len(name) :]
        key.append((name.removesuffix("_"), int(number) if number else -1, part))
    return tuple(key)
