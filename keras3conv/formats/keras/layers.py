"""Create the layers of a model view from the datasets and the architecture of a Keras file, in any Keras format."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from keras3conv.errors import FileError, MalformedCheckpoint, quoted
from keras3conv.formats.keras.architecture import Architecture, LayerConfig
from keras3conv.formats.keras.names import NOT_TRAINABLE, class_of, creates, qualified
from keras3conv.formats.keras.nesting import with_attributes, with_parts, with_wholes
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source
from keras3conv.model.views import LayerRun, LayerView, Reader, TensorRef, made
from keras3conv.transforms import Array, Shape

_KEEPS_FEATURES = frozenset(
    {"Activation", "ActivityRegularization", "AlphaDropout", "Dropout", "ELU", "GaussianDropout", "GaussianNoise",
     "Identity", "LeakyReLU", "Masking", "ReLU", "Rescaling", "ThresholdedReLU"}
)  # fmt: skip
"""Layers whose output feature i depends only on input feature i, so that they keep the feature order of a flatten."""


class StoredLayer(NamedTuple):
    """A layer that has weights in a file, without information from the architecture.

    It is a tuple because a file may have 100,000 layers, and a tuple is created several times as fast.

    Attributes:
        path: The path in the model.
        datasets: The datasets of the variables, in the order of their creation.
        roles: The names of the variables in the layer, one for each dataset.
        kind: The qualified class name; empty if unknown.
        is_ordered: Whether layers with the same weight shapes are known to be listed in the order of the model.
    """

    path: str
    datasets: tuple[Dataset, ...] = ()
    roles: tuple[str, ...] = ()
    kind: str = ""
    is_ordered: bool = True


def layers_of(layers: Sequence[StoredLayer], architecture: Architecture | None, tree: Tree) -> tuple[LayerView, ...]:
    """Return the layers of a file: first the layers of the architecture in its order, then all other layers.

    Args:
        layers: The layers that have weights in the file.
        architecture: The architecture; None if the file has none.
        tree: The datasets of the file, which show the tied weights.
    """
    shared = tree.shared()
    by_path = {layer.path: view_of(layer, shared) for layer in layers}
    if architecture is None or not architecture.root.is_model:
        if not any("/" in path for path in by_path):  # no layer is inside another
            return tuple(by_path.values())
        return with_attributes(with_wholes(list(by_path.values())))
    described = []
    known = flattened(architecture.root)
    for path, config in architecture.walk():
        view = by_path.pop(path, LayerView(path=path))
        described.append(
            replace(
                view,
                kinds=(config.kind,) if config.kind else (),
                config=dict(config.config),
                run=LayerRun(calls=architecture.places.get(path), inputs=config.inputs, flattened=known.get(path)),
            )
        )
    return with_attributes(with_parts(described, list(by_path.values())))


def distinct(layers: Sequence[StoredLayer], where: str) -> Sequence[StoredLayer]:
    """Return the layers unchanged, after a check that layer paths, and the variable names in a layer, are unique.

    Args:
        layers: The layers that have weights in a file.
        where: The name of the file, for messages.

    Raises:
        MalformedCheckpoint: Two layers have the same path, or two variables of a layer have the same name.
    """
    paths, roles = {layer.path for layer in layers}, {layer.roles for layer in layers}
    if len(paths) == len(layers) and all(len(names) == len(set(names)) for names in roles):
        return layers
    seen: set[str] = set()
    for layer in layers:
        if layer.path in seen or len(layer.roles) != len(set(layer.roles)):
            raise MalformedCheckpoint(
                f"{where}: the layer name {quoted(layer.path)} occurs twice, or two variables of this layer have "
                "the same name"
            )
        seen.add(layer.path)
    return layers


class DatasetFile(Protocol):
    """The interface of a weight file, or of all shards of a model, from which `reader_of` reads datasets."""

    @property
    def source(self) -> Source:
        """The weight file, or the index of the shards; error messages name its path."""

    def read(self, dataset: Dataset) -> Array:
        """Return the values of a dataset as an array."""


def reader_of(file: DatasetFile, find_layers: Callable[[], Iterable[StoredLayer]]) -> Reader:
    """Return the function that reads a tensor of a file; its argument is the path of the tensor in the model.

    Args:
        file: The file.
        find_layers: A function that returns the layers in it, with the datasets of their variables.
    """
    datasets: dict[str, Dataset] = {}

    def read(path: str) -> Array:
        if not datasets:  # a listing of the tensors needs no values
            datasets.update(
                (tensor_path(layer.path, role), dataset)
                for layer in find_layers()
                for role, dataset in zip(layer.roles, layer.datasets, strict=True)
            )
        if path not in datasets:
            raise FileError(f"{file.source.path} has no tensor {quoted(path)}")
        return file.read(datasets[path])

    return read


def kind_by_name(path: str, roles: Sequence[str]) -> str:
    """Return the class of a layer, inferred from a default name: "keras.layers.Dense" for "block/dense_1".

    Return an empty text if the path does not end with a default name, or if the class has other variables.

    Args:
        path: The path of the layer.
        roles: The names of the variables of the layer: "kernel", "bias".
    """
    name = class_of(path.rpartition("/")[2])
    return qualified(name) if roles and creates(name, roles) else ""


def tensor_path(layer: str, role: str) -> str:
    """Return the path of a variable: "encoder/dense/kernel" for the layer "encoder/dense" and the role "kernel"."""
    return f"{layer}/{role}" if layer else role


def view_of(layer: StoredLayer, shared: Mapping[str, str]) -> LayerView:
    """Return the view of a layer in a file.

    Args:
        layer: The layer.
        shared: For each path of a dataset with several paths (tied weights), the first of these paths.
    """
    path, datasets, roles, kind, is_ordered = layer
    above = f"{path}/" if path else ""
    tensors = []
    for role, (location, shape, dtype, *_) in zip(roles, datasets, strict=True):
        values: dict[str, Any] = {"path": above + role, "role": role, "shape": shape, "dtype": dtype}
        values["location"] = location
        if role in NOT_TRAINABLE:
            values["trainable"] = False
        if location in shared:
            values["storage"] = shared[location]
        tensors.append(made(TensorRef, values))
    kinds = (kind,) if kind else ()
    of_layer = {"path": path, "kinds": kinds, "tensors": tuple(tensors), "is_ordered": is_ordered}
    if datasets and (held := _IN_MODEL.fullmatch(datasets[0].path)):
        of_layer["attribute"] = held[1]
    return made(LayerView, of_layer)


_IN_MODEL = re.compile(r"([^/]+)/vars/\d+")
"""The place of a variable whose layer is an attribute of the model itself: "embedding/vars/0" for `self.embedding`.

A functional or sequential model has its layers in a list, whose places begin with "layers/".
"""


def flattened(model: LayerConfig, prefix: str = "") -> dict[str, Shape]:
    """Return the input shape of Flatten, for each layer that follows a Flatten: {"dense": (7, 7, 64)}.

    The keys are the paths of the layers after Flatten. A shape has no batch axis; it is empty if the file does not
    store it.

    Args:
        model: The model in the architecture.
        prefix: The text before the names of its layers: the path of an inner model and "/"; empty for the whole model.
    """
    found: dict[str, Shape] = {}
    before = {layer.name: source for layer, source in _sources(model)}
    for layer in model.children:
        path = f"{prefix}{layer.name}"
        origin = _origin(layer, before)
        if origin is not None and origin.class_name == "Flatten":
            found[path] = _shape(origin)
        if layer.is_model:
            found |= flattened(layer, f"{path}/")
    return found


def _origin(layer: LayerConfig, before: Mapping[str, LayerConfig | None]) -> LayerConfig | None:
    """Return the layer that computes a layer's first input; layers between them such as Dropout are skipped.

    A layer is skipped if it does not change the order of the features. Return None if the file does not tell.

    Args:
        layer: The layer.
        before: For each layer name, the layer that computes the first input of this layer; None if unknown.
    """
    source = before.get(layer.name)
    for _ in before:  # the loop ends even if the file describes a cycle
        if source is None or source.class_name not in _KEEPS_FEATURES:
            break
        source = before.get(source.name)
    return source


def _sources(model: LayerConfig) -> Iterator[tuple[LayerConfig, LayerConfig | None]]:
    """Yield every layer of a model, each with the layer that computes its first input, or None if that is unknown."""
    if model.class_name == "Sequential":
        yield from zip(model.children, (None, *model.children), strict=False)
        return
    layers = {layer.name: layer for layer in model.children}
    for layer in model.children:
        first = layer.calls[0][0][0] if layer.calls and layer.calls[0] else ""
        yield layer, layers.get(first)


def _shape(layer: LayerConfig) -> Shape:
    """Return the input shape of a Flatten layer without the batch axis; empty if a size in it is unknown."""
    shape = layer.inputs[0][1:] if layer.inputs else ()
    return tuple(int(size) for size in shape if size) if all(shape) else ()
