"""Datasets as layers: the part that every Keras file shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.errors import FileError, MalformedCheckpoint
from keras3conv.formats import hdf5
from keras3conv.formats.keras_config import Architecture
from keras3conv.formats.keras_flatten import flattened
from keras3conv.formats.keras_names import is_trainable
from keras3conv.formats.source import Source
from keras3conv.model import LayerView, TensorRef
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Found:
    """A layer as the weights show it, before the architecture is asked.

    Attributes:
        path: Its path in the model.
        datasets: Its datasets, in the order of their creation.
        roles: What they are called.
        kind: Its qualified class; empty if unknown.
    """

    path: str
    datasets: tuple[hdf5.Dataset, ...] = ()
    roles: tuple[str, ...] = ()
    kind: str = ""


def layers_of(found: Sequence[Found], architecture: Architecture | None, tree: hdf5.Tree) -> tuple[LayerView, ...]:
    """The layers of a file: those of the architecture in its order, with their tensors; then those it does not name."""
    shared = tree.shared()
    by_path = {layer.path: _view(layer, shared) for layer in found}
    if architecture is None or not architecture.root.is_model:
        return tuple(by_path.values())
    described = []
    known = flattened(architecture.root)
    for path, config in architecture.walk():
        view = by_path.pop(path, LayerView(path=path))
        described.append(
            replace(
                view,
                kinds=(config.kind,) if config.kind else (),
                config=dict(config.config),
                calls=architecture.places.get(path),
                inputs=config.inputs,
                flattened=known.get(path),
            )
        )
    return _with_parts(described, list(by_path.values()))


def distinct(found: Sequence[Found], where: str) -> Sequence[Found]:
    """The layers, if no two have one path; raises `MalformedCheckpoint` otherwise."""
    seen: set[str] = set()
    for layer in found:
        names = [f"{layer.path}/{role}" for role in layer.roles]
        if layer.path in seen or len(names) != len(set(names)):
            raise MalformedCheckpoint(f"{where}: two layers, or two variables of one, are called {layer.path!r}")
        seen.add(layer.path)
    return found


def read_tensor(source: Source, file: Any, datasets: Mapping[str, hdf5.Dataset], path: str) -> Array:
    """The values of one tensor, by its path in the model, from a path or a file object that h5py opens."""
    if path not in datasets:
        raise FileError(f"{source.path} has no tensor {path!r}")
    with hdf5.opened(file, str(source.path)) as opened:
        return hdf5.read_dataset(opened, datasets[path])


def datasets_of(found: Sequence[Found]) -> dict[str, hdf5.Dataset]:
    """The dataset of every tensor, by the tensor's path in the model."""
    return {
        tensor_path(layer.path, role): dataset
        for layer in found
        for role, dataset in zip(layer.roles, layer.datasets, strict=True)
    }


def tensor_path(layer: str, role: str) -> str:
    """The path of a variable: the layer's path and what the layer calls it."""
    return f"{layer}/{role}" if layer else role


def _view(layer: Found, shared: Mapping[str, str]) -> LayerView:
    tensors = tuple(
        TensorRef(
            path=tensor_path(layer.path, role),
            role=role,
            shape=dataset.shape,
            dtype=dataset.dtype,
            trainable=is_trainable(role),
            storage=shared.get(dataset.path, ""),
            location=dataset.path,
        )
        for role, dataset in zip(layer.roles, layer.datasets, strict=True)
    )
    return LayerView(path=layer.path, kinds=(layer.kind,) if layer.kind else (), tensors=tensors)


def _with_parts(described: list[LayerView], parts: list[LayerView]) -> tuple[LayerView, ...]:
    """Puts layers that the architecture does not name (the cell of an LSTM) behind the one that they are part of."""
    owners: dict[str, list[LayerView]] = {}
    known = {layer.path for layer in described}
    for part in parts:
        pieces = part.path.split("/")
        prefixes = ("/".join(pieces[:length]) for length in range(len(pieces) - 1, 0, -1))
        owners.setdefault(next((prefix for prefix in prefixes if prefix in known), ""), []).append(part)
    result = []
    for layer in described:
        result += [layer, *(replace(part, calls=layer.calls) for part in owners.pop(layer.path, []))]
    return (*result, *(part for rest in owners.values() for part in rest))
