"""Read and write the `.h5` format of Keras 2, which Keras 3 can still write: a group per layer, with weights by name.

A full model has the architecture in the attribute `model_config` and the weights in the group `model_weights`. A
weight file has the layers at the root.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import FileError, IncompleteCheckpoint, MalformedCheckpoint, first_of, printable, quoted
from keras3conv.formats.keras.architecture import Architecture, LayerConfig, parse
from keras3conv.formats.keras.layers import StoredLayer, distinct, kind_by_name, layers_of, reader_of
from keras3conv.formats.keras.names import attribute_of
from keras3conv.formats.keras2.order import proven_order
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import LEGACY_WEIGHTS, Tree
from keras3conv.formats.safe.source import Source, parse_json
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.model.views import ModelView, TensorRef

WEIGHTS = LEGACY_WEIGHTS

_TOP_LEVEL = "top_level_model_weights"
_SHOWN = 20
"""The largest number of layer names in the facts of a file."""

_ATTRIBUTE_LIMIT = 64_000
"""The largest HDF5 attribute in bytes (64 KiB); Keras splits longer lists into numbered parts."""


def read(source: Source) -> ModelView:
    """Return a view of the model in a file; `ModelView.read` loads one tensor at a time."""
    where = str(source.path)
    file = Hdf5File(source)
    tree = file.survey()
    text = tree.text("", "model_config")
    architecture = None if text is None else parse(parse_json(text, f"{where}: model_config", infinite=True), where)
    found = distinct(_find(tree, architecture, where), where)
    return ModelView(
        side="keras",
        name=source.path.name,
        layers=layers_of(found, architecture, tree),
        reader=reader_of(file, lambda: found),
        origin=where,
        input_specs=architecture.input_specs if architecture else (),
        facts=_facts(tree),
    )


def lay_out(path: Path, tensors: Sequence[TensorRef]) -> Layout:
    """Write a weight file for `keras.Model.load_weights` without its values, and return the byte ranges for them.

    Keras loads such a file by order, so `tensors` must be in the model's order. The states of seed generators are not
    written, as in files that Keras saves.

    Args:
        path: The file to write.
        tensors: All tensors of the model, in its order.
    """
    layers: dict[str, list[TensorRef]] = {}
    for tensor in tensors:
        if not tensor.is_seed:
            name, slash, _ = tensor.path.partition("/")
            hdf5.check_path(tensor.path)
            layers.setdefault(name if slash else _TOP_LEVEL, []).append(tensor)
    top = layers.pop(_TOP_LEVEL, [])
    extents: dict[str, Extent] = {}
    locations: dict[str, str] = {}
    with hdf5.opened(path, str(path), "w") as file:
        declarations = hdf5.Declarations(file)
        file.attrs["backend"], file.attrs["keras_version"] = "numpy", "3.0.0"
        _write_names(file, "layer_names", list(layers))
        for name, owned in (layers | {_TOP_LEVEL: top}).items():
            group = declarations.group(name)
            ordered = sorted(owned, key=lambda tensor: not tensor.trainable)
            _write_names(group, "weight_names", [tensor.path for tensor in ordered])
            for tensor in ordered:
                extents[tensor.path] = declarations.dataset(group, tensor.path, tensor)
                locations[tensor.path] = f"{name}/{tensor.path}"
    return Layout(extents, locations)


def _facts(tree: Tree) -> dict[str, str]:
    facts = {"format": "Keras HDF5 model" if WEIGHTS in tree.groups else "Keras HDF5 weights"}
    for name, meaning in (("keras_version", "written by Keras"), ("backend", "Keras backend")):
        for group in ("", WEIGHTS):
            if value := tree.text(group, name):
                facts[meaning] = printable(value, 60)
    names = tree.texts(WEIGHTS if WEIGHTS in tree.groups else "", "layer_names")
    if names:
        facts["layer_names"] = first_of([printable(name, 60) for name in names], _SHOWN)
    if tree.ignored:
        facts["ignored"] = ", ".join(tree.ignored)
    return facts


def _find(tree: Tree, architecture: Architecture | None, where: str) -> list[StoredLayer]:
    base = WEIGHTS if WEIGHTS in tree.groups else ""
    names = tree.texts(base, "layer_names")
    if names is None:
        raise MalformedCheckpoint(f"{where} is an HDF5 file, but contains no weights of a Keras model")
    if len(names) != len(set(names)):
        raise MalformedCheckpoint(f"{where}: a name occurs twice in the list layer_names of the file")
    described = dict(architecture.walk()) if architecture else {}
    found: dict[str, list[tuple[str, Dataset]]] = {}
    top = [_TOP_LEVEL] if f"{base}/{_TOP_LEVEL}".lstrip("/") in tree.groups else []
    for name in [*names, *top]:
        group = f"{base}/{name}".lstrip("/")
        if group not in tree.groups:
            raise IncompleteCheckpoint(
                f"{where}: the file lists the layer {quoted(name)}, but has no group for it; download or save it again"
            )
        for weight in tree.texts(group, "weight_names") or []:
            dataset = tree.datasets.get(f"{group}/{weight}")
            if dataset is None:
                raise IncompleteCheckpoint(
                    f"{where}: the file lists {quoted(f'{group}/{weight}')}, but has no dataset for it; download or "
                    "save it again"
                )
            layer, role = _place(name, weight, described, architecture)
            found.setdefault(layer, []).append((role, dataset))
        if name != _TOP_LEVEL:
            found.setdefault(name, [])
    layers = [
        StoredLayer(
            path=path,
            datasets=tuple(data for _, data in pairs),
            roles=tuple(role for role, _ in pairs),
            kind=kind_by_name(path, [role for role, _ in pairs]),
        )
        for path, pairs in found.items()
    ]
    return layers if architecture else _ordered(layers, names)


def _ordered(layers: Sequence[StoredLayer], groups: Sequence[str]) -> list[StoredLayer]:
    """Sort the layers of each nested model by the numbers in their names: "dense_1" before "dense_2".

    Layers whose names do not prove their order get `is_ordered=False`.

    Args:
        layers: The layers found in the file, in its order.
        groups: The names of the groups of the file; the layers of a nested model are in one group.
    """
    inside: dict[str, list[str]] = {group: [] for group in groups}
    for layer in layers:
        above = layer.path if _is_in_model(layer) else ""
        while above := above.rpartition("/")[0]:
            if above in inside:
                inside[above].append(layer.path)
    ordered = list(layers)
    place = {layer.path: number for number, layer in enumerate(layers)}
    for paths in filter(None, inside.values()):
        places = sorted(place[path] for path in paths)
        inner = [ordered[number] for number in places]
        shapes = [(layer.path, (layer.roles, *(data.shape for data in layer.datasets))) for layer in inner]
        order, unproven = proven_order(shapes)
        moved = [ordered[place[path]]._replace(is_ordered=path not in unproven) for path in order]
        for number, layer in zip(places, moved, strict=True):
            ordered[number] = layer
            place[layer.path] = number
    return ordered


def _is_in_model(layer: StoredLayer) -> bool:
    """Return True if a layer with "/" in its path may be a layer of a nested model, such as "encoder/dense_1".

    Return False for a layer inside of an attention or recurrent layer, such as "lstm/lstm_cell".
    """
    name = layer.path.rpartition("/")[2]
    return bool(layer.datasets) and attribute_of(name) == name


def _place(
    name: str, weight: str, described: Mapping[str, LayerConfig], architecture: Architecture | None
) -> tuple[str, str]:
    """Return a weight's layer path and role: "bidirectional/forward_lstm/lstm_cell" and "kernel".

    The name of a weight starts with the names of the models that contain the layer, followed by the layer's name.

    Args:
        name: The name of the group that lists the weight: a layer of the model.
        weight: The name of the weight in the file.
        described: The layers of the architecture, by path.
        architecture: The architecture; None if the file has none.
    """
    pieces = weight.split("/")
    role = pieces.pop().partition(":")[0]
    if name == _TOP_LEVEL:
        model = architecture.root.name if architecture else ""
        if not model or pieces[:1] == [model]:
            pieces = pieces[1:]
        return "/".join(pieces), role
    inside = pieces[pieces.index(name) + 1 :] if name in pieces else pieces
    layer = described.get(name)
    if layer is not None and layer.is_model:
        return _inside_model(name, inside, described), role
    wrapped = layer.config.get("layer") if layer is not None and layer.class_name == "TimeDistributed" else None
    if isinstance(wrapped, dict) and not inside and isinstance(wrapped.get("config"), dict):
        inside = [str(wrapped["config"].get("name", ""))]  # Keras 2 omits the name of the wrapped layer
    return "/".join([name, *inside]), role


def _inside_model(name: str, inside: list[str], described: Mapping[str, LayerConfig]) -> str:
    """Return the path of the layer that owns a weight of a nested functional model, such as "encoder/block/dense".

    Args:
        name: The name of the nested model, such as "encoder".
        inside: The names in the weight's name after that of the model, without the role: ["dense"].
        described: The layers of the architecture, by path.
    """
    for length in range(len(inside)):
        first, rest = inside[length], inside[length + 1 :]
        ends = [path for path in described if path.startswith(f"{name}/") and path.endswith(f"/{first}")]
        if len(ends) == 1 and not described[ends[0]].is_model:
            return "/".join([ends[0], *rest])
    return "/".join([name, *inside])


def _write_names(node: Any, attribute: str, names: list[str]) -> None:
    array = np.array([name.encode() for name in names], dtype=None if names else "S1")
    if array.dtype.itemsize > _ATTRIBUTE_LIMIT:
        raise FileError(
            f"the name of a layer or weight has {array.dtype.itemsize:,} bytes, but an HDF5 attribute holds "
            f"{_ATTRIBUTE_LIMIT:,}; choose a shorter name"
        )
    parts = -(-array.nbytes // _ATTRIBUTE_LIMIT) or 1
    if parts == 1:
        node.attrs[attribute] = array
        return
    per_part = _ATTRIBUTE_LIMIT // array.dtype.itemsize
    for number, start in enumerate(range(0, len(array), per_part)):
        node.attrs[f"{attribute}{number}"] = array[start : start + per_part]
