"""Datasets as layers: the part that every Keras file shares."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.errors import FileError, MalformedCheckpoint
from keras3conv.formats.keras.architecture import Architecture, LayerConfig
from keras3conv.formats.keras.names import attribute_of, class_of, is_trainable, qualified
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.source import Source
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.transforms import Array, Shape

_KEEPS_FEATURES = frozenset(
    {"Activation", "ActivityRegularization", "AlphaDropout", "Dropout", "ELU", "GaussianDropout", "GaussianNoise",
     "Identity", "LeakyReLU", "Masking", "ReLU", "Rescaling", "ThresholdedReLU"}
)  # fmt: skip
"""After these a feature is still the value that was flattened, or a function of it alone."""


_STACK = "keras.layers.StackedRNNCells"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A layer as the weights show it, before the architecture is asked.

    Attributes:
        path: Its path in the model.
        datasets: Its datasets, in the order of their creation.
        roles: What they are called.
        kind: Its qualified class; empty if unknown.
        is_ordered: Whether the order of the layers that it may be taken for is known.
    """

    path: str
    datasets: tuple[hdf5.Dataset, ...] = ()
    roles: tuple[str, ...] = ()
    kind: str = ""
    is_ordered: bool = True


def layers_of(found: Sequence[Found], architecture: Architecture | None, tree: hdf5.Tree) -> tuple[LayerView, ...]:
    """The layers of a file: those of the architecture in its order, with their tensors; then those it does not name."""
    shared = tree.shared()
    by_path = {layer.path: _view(layer, shared) for layer in found}
    if architecture is None or not architecture.root.is_model:
        return _named(_with_wholes(list(by_path.values())))
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
    return _named(_with_parts(described, list(by_path.values())))


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
    kinds = (layer.kind,) if layer.kind else ()
    return LayerView(path=layer.path, kinds=kinds, tensors=tensors, is_ordered=layer.is_ordered)


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


def _with_wholes(layers: list[LayerView]) -> tuple[LayerView, ...]:
    """Puts layers without variables of their own (an LSTM, an attention) before their parts, by the groups' names."""
    paths = {layer.path for layer in layers}
    result = []
    for layer in layers:
        names = layer.path.split("/")
        groups = layer.tensors[0].location.partition("/vars/")[0].split("/") if layer.tensors else []
        # "layers/gru/cell" for "gru/gru_cell": a name for every group but the first.
        if names[0] not in paths and len(groups) == len(names) + 1 and (name := class_of(groups[1])):
            paths.add(names[0])
            result.append(LayerView(path=names[0], kinds=(qualified(name),)))
        result.append(layer)
    return tuple(result)


def _named(layers: tuple[LayerView, ...]) -> tuple[LayerView, ...]:
    """The layers, each with what the layer that it is part of calls it."""
    by_path = {layer.path: layer for layer in layers}
    named = []
    for layer in layers:
        pieces = layer.path.split("/")
        prefixes = ("/".join(pieces[:length]) for length in range(len(pieces) - 1, 0, -1))
        whole = next((by_path[prefix] for prefix in prefixes if prefix in by_path), None)
        named.append(replace(layer, attribute=_attribute(whole, layer)) if whole else layer)
    return _with_places(tuple(named))


def _with_places(layers: tuple[LayerView, ...]) -> tuple[LayerView, ...]:
    """The layers, the cells of a stack with their places: "cells.0", as far as the file tells them."""
    by_path = {layer.path: layer for layer in layers}
    places: dict[str, int] = {}
    for stack in layers:
        if stack.kind == _STACK:
            owner = by_path.get(stack.path.rpartition("/")[0])
            cells = [layer for layer in layers if layer.path.rpartition("/")[0] == stack.path]
            places |= _places((owner.config if owner else None) or {}, cells)
    return tuple(
        replace(layer, attribute=f"cells.{places[layer.path]}") if layer.path in places else layer for layer in layers
    )


def _places(config: Mapping[str, Any], cells: Sequence[LayerView]) -> dict[str, int]:
    """By what the RNN says; else by the numbers of the groups, which Keras counts for every class by itself."""
    stack = (config.get("cell") or {}).get("config", {}).get("cells", ())
    named = {cell.get("config", {}).get("name"): place for place, cell in enumerate(stack)}
    if named:
        names = {cell.path: cell.path.rpartition("/")[2] for cell in cells}
        return {path: named[name] for path, name in names.items() if name in named}
    groups = {cell.path: cell.attribute.rpartition("/")[2] for cell in cells}
    kinds = {cell.kind for cell in cells}
    if len(kinds) != 1:
        return {}
    numbers = {path: re.search(r"_(\d+)$", group) for path, group in groups.items()}
    return {path: int(found[1]) if found else 0 for path, found in numbers.items()}


def _attribute(whole: LayerView, part: LayerView) -> str:
    """What a layer calls a part of it, as the live layer does: "cell", "forward_layer/cell".

    Keras 3 names its groups so. An older file has the parts' names, which Keras makes in ways that are known.
    """
    names = part.path.removeprefix(f"{whole.path}/").split("/")
    group, variables, _ = part.tensors[0].location.partition("/vars/") if part.tensors else ("", "", "")
    if variables:
        return "/".join(name.lstrip("_") for name in group.split("/")[-len(names) :])
    if part.kind == _STACK:
        return "cell"
    if whole.kind == "keras.layers.TimeDistributed":
        return "/".join(["layer", *names[1:]])
    return "/".join(attribute_of(name) for name in names)


def flattened(model: LayerConfig, prefix: str = "") -> dict[str, Shape]:
    """What was flattened into the first input of a layer, for every layer (by its path) of which that is known.

    The shape is without the batch axis; it is empty where something was flattened of which the file does not tell the
    shape.
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
    """The layer that the first input of a layer comes from, as far back as every feature is kept."""
    source = before.get(layer.name)
    for _ in before:  # at most as many steps as there are layers, whatever the file says
        if source is None or source.class_name not in _KEEPS_FEATURES:
            break
        source = before.get(source.name)
    return source


def _sources(model: LayerConfig) -> Iterator[tuple[LayerConfig, LayerConfig | None]]:
    """Every layer with the layer that its first input comes from."""
    if model.class_name == "Sequential":
        yield from zip(model.children, (None, *model.children), strict=False)
        return
    layers = {layer.name: layer for layer in model.children}
    for layer in model.children:
        first = layer.calls[0][0][0] if layer.calls and layer.calls[0] else ""
        yield layer, layers.get(first)


def _shape(layer: LayerConfig) -> Shape:
    """The shape that a Flatten is given, where the file tells it all."""
    shape = layer.inputs[0][1:] if layer.inputs else ()
    return tuple(int(size) for size in shape if size) if all(shape) else ()
