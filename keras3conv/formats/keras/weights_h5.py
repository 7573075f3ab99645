"""Read and write the `.weights.h5` format of Keras 3, in which groups are attributes and variables have numbers.

A layer is a group that contains a group `vars`. Since Keras 3.9, `vars` has the layer's name as an HDF5 attribute. A
`.keras` archive contains a `.weights.h5` file and the architecture.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from pathlib import Path

from keras3conv.errors import FileError, MalformedCheckpoint
from keras3conv.formats.keras.alike import forms_in
from keras3conv.formats.keras.architecture import Architecture
from keras3conv.formats.keras.layers import StoredLayer, distinct, layers_of, reader_of, view_of
from keras3conv.formats.keras.names import qualified, roles
from keras3conv.formats.keras.nodes import Node, nodes_of
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.garbage import collection_paused
from keras3conv.model.listing import ManyLayers
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.transforms import Array, Shape

_LOCATION = re.compile(r"(?:[^/]+/)*vars/\d+")


def read(source: Source) -> ModelView:
    """Return a view of the model in a file; `ModelView.read` loads one tensor at a time."""
    file, where = Hdf5File(source), str(source.path)
    tree = file.survey()
    known = forms_in(tree.columns, _usual_roles_and_kind, partial(view_of, shared={})) if tree.columns else None

    @cache
    def stored_layers() -> Sequence[StoredLayer]:
        return distinct(find(tree, None, where), where)

    def layers() -> tuple[LayerView, ...]:
        with collection_paused():
            return layers_of(stored_layers(), None, tree)

    return ModelView(
        side="keras",
        name=source.path.name,
        layers=ManyLayers(known, layers) if known else layers(),
        reader=reader_of(file, stored_layers),
        origin=where,
        facts={"format": "Keras 3 weights"} | ignored_facts(tree),
    )


def datasets(path: Path) -> dict[str, Array]:
    """Return the weights in a file by their HDF5 path, such as "layers/conv2d/vars/0".

    Raises:
        FileError: The file cannot be read.
    """
    file = Hdf5File(Source.pin(path))
    return {place: file.read(dataset) for place, dataset in file.survey().datasets.items()}


def ignored_facts(tree: Tree) -> dict[str, str]:
    """Return a line for reports about optimizer state, which is not read: {"ignored": "the state of the optimizer"}.

    Return {} if the file has none.
    """
    return {"ignored": f"the state of the {tree.ignored[0]}"} if tree.ignored else {}


def find(tree: Tree, architecture: Architecture | None, where: str) -> list[StoredLayer]:
    """Return the layers in the file, with the names and classes from the file and the architecture.

    Args:
        tree: The groups and datasets of the file.
        architecture: The architecture; None if there is none.
        where: The name of the file, for messages.
    """
    nodes = nodes_of(tree, architecture.root if architecture else None, where)
    if architecture is None and not any(node.datasets for node in nodes):
        raise MalformedCheckpoint(f"{where} is an HDF5 file, but contains no weights of a Keras model")
    nodes = [node for node in nodes if node.group or node.datasets]
    paths = [node.path for node in nodes]
    taken = Counter(["", *[node.path for node in nodes if node.group]])
    if max(taken.values()) > 1:  # layers with the same path get the paths of their groups
        paths = [node.group if taken[path] > 1 else path for node, path in zip(nodes, paths, strict=True)]
    described = zip(paths, nodes, map(_roles_and_kind, nodes), strict=True)
    return [
        tuple.__new__(StoredLayer, (path, node.datasets, names, kind, True))  # faster than `StoredLayer(...)`
        for path, node, (names, kind) in described
    ]


def lay_out(path: Path, tensors: Sequence[TensorRef]) -> Layout:
    """Write a weight file for `keras.Model.load_weights` without its values, and return the byte ranges for them.

    Every tensor needs a `location` such as "layers/dense/vars/0". The state of a seed generator without a location is
    not written, as in files that Keras saves.
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
    """Return the HDF5 groups of a tensor's layer and of the layers that contain it: [("layers/dense", "dense_3")].

    Each element is the path of a layer's group and the name of the layer.

    A model stores a layer under "layers/CLASS", and a layer stores a sublayer under the name of the attribute. If the
    path does not show which groups are layers, as in a list of layers, only the innermost pair is returned.

    Args:
        tensor: The tensor.
        values: The path of the group of the owner's variables, such as "layers/dense/vars".
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


def _roles_and_kind(node: Node) -> tuple[tuple[str, ...], str]:
    """Return the names of a layer's variables, and the qualified name of its class."""
    if node.config is None:
        return _usual_roles_and_kind(node.class_name, tuple([dataset.shape for dataset in node.datasets]))
    kind = node.config.kind
    known = node.class_name if kind.startswith("keras.") else ""
    return roles(known, [dataset.shape for dataset in node.datasets], node.config.config), kind


@lru_cache(4096)  # a file may have 100,000 layers of few classes
def _usual_roles_and_kind(class_name: str, shapes: tuple[Shape, ...]) -> tuple[tuple[str, ...], str]:
    """Return the names of the variables of a layer without a configuration, and the qualified name of its class.

    Args:
        class_name: The name of the class; empty if unknown.
        shapes: The shapes of the variables.
    """
    kind = qualified(class_name)
    return roles(class_name if kind.startswith("keras.") else "", shapes), kind
