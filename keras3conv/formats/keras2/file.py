"""Read the architecture and the weights in a file of Keras 2, with the names and the order of the file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras3conv.errors import IncompleteCheckpoint, MalformedCheckpoint, quoted
from keras3conv.formats.keras import archive, json
from keras3conv.formats.keras.legacy_h5 import WEIGHTS
from keras3conv.formats.safe.hdf5_reader import SIGNATURE, Hdf5File
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source, parse_json
from keras3conv.transforms import Array


@dataclass(frozen=True)
class Group:
    """The variables of one layer in a file of Keras 2.

    Attributes:
        name: The layer's name.
        weights: The names of the variables with their values, in the order of the file.
    """

    name: str
    weights: tuple[tuple[str, Array], ...]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A model that Keras 2 saved, without its weights.

    Attributes:
        path: The file.
        version: The version of Keras that saved it; empty if the file does not name it.
        config: The architecture as plain JSON values.
        is_archive: Whether the file is a `.keras` archive of Keras 2.12 to 2.15 instead of HDF5.
        has_weights: Whether the file contains the weights, too; a JSON file contains the architecture alone.
    """

    path: Path
    version: str
    config: Mapping[str, Any]
    is_archive: bool = False
    has_weights: bool = True

    @property
    def writer(self) -> str:
        """The name and version of the software that saved the file, for reports."""
        return f"Keras {self.version}" if self.version else "Keras 2"


def saved_model(path: Path) -> Saved | None:
    """Return the architecture in a file that Keras 2 saved; None for any other file.

    The suffix is ignored, because a `.keras` file of TensorFlow 2.11 and earlier is HDF5.

    Raises:
        FileError: The file cannot be read.
    """
    is_json = path.suffix.lower() == ".json"
    if is_json:
        config = json.parsed(path)
        version, is_archive = str(config.get("keras_version", "")), False
    else:
        with Source.pin(path).open() as file:
            is_archive = file.read(4) == b"PK\3\4"
        version, config = archive.architecture(path) if is_archive else architecture(path)
    if not isinstance(config, Mapping) or not is_of_keras_2(version, config):
        return None
    plain = plain_values(config)
    return Saved(path=path, version=version, config=plain, is_archive=is_archive, has_weights=not is_json)


def is_of_keras_2(version: str, config: Any) -> bool:
    """Return True if Keras 2 wrote an architecture, False if Keras 3 wrote it.

    Args:
        version: The version in the file, such as "2.4.0" or "2.3.0-tf"; empty if the file has none.
        config: The architecture.
    """
    if version:
        return version.startswith(("1.", "2."))
    layers = config.get("config", {}) if isinstance(config, Mapping) else {}
    layers = layers.get("layers", []) if isinstance(layers, Mapping) else layers
    return isinstance(layers, list) and not any(isinstance(layer, Mapping) and layer.get("module") for layer in layers)


def is_legacy(path: Path) -> bool:
    """Return True if a file is HDF5 with the lists of layers and weights that Keras 2 writes.

    Keras 3 can also write such files.

    Raises:
        FileError: The file cannot be read.
    """
    source = Source.pin(path)
    with source.open() as file:
        if file.read(8) != SIGNATURE:
            return False
    tree = Hdf5File(source).survey()
    at_top = ("", *tree.groups[""])
    return any(tree.texts(group, "layer_names") is not None for group in at_top)


def architecture(path: Path) -> tuple[str, Any]:
    """Return the Keras version that wrote a legacy `.h5` ("" if missing), and the architecture (None if missing).

    Raises:
        FileError: The file cannot be read.
    """
    tree = Hdf5File(Source.pin(path)).survey()
    held = [group for group in ("", WEIGHTS) if not group or group in tree.groups[""]]
    versions = [tree.text(group, "keras_version") for group in held]
    text = tree.text("", "model_config")
    config = None if text is None else parse_json(text, f"{path}: model_config", infinite=True)
    return next((version for version in versions if version), ""), config


def groups(path: Path) -> tuple[Group, ...]:
    """Return the weights in a legacy `.h5`, grouped by layer.

    Raises:
        FileError: The file cannot be read, or lacks a group or dataset that it lists.
    """
    file = Hdf5File(Source.pin(path))
    tree = file.survey()
    base = WEIGHTS if WEIGHTS in tree.groups else ""
    names = tree.texts(base, "layer_names")
    if names is None:
        raise MalformedCheckpoint(f"{path} is an HDF5 file, but contains no weights of a Keras model")
    return tuple(_group(file, tree, layer, f"{base}/{layer}".lstrip("/")) for layer in names)


def _group(file: Hdf5File, tree: Tree, layer: str, group: str) -> Group:
    if group not in tree.groups:
        raise IncompleteCheckpoint(
            f"{tree.where}: the file lists the layer {quoted(layer)}, but has no group for it; download it again"
        )
    names = tree.texts(group, "weight_names") or []
    missing = [name for name in names if f"{group}/{name}" not in tree.datasets]
    if missing:
        place = quoted(f"{group}/{missing[0]}")
        raise IncompleteCheckpoint(
            f"{tree.where}: the file lists the weight {place}, but has no dataset for it; download or save it again"
        )
    return Group(layer, tuple((name, file.read(tree.datasets[f"{group}/{name}"])) for name in names))


def role_of(name: str) -> str:
    """Return the last name in the path of a variable, without suffixes: "kernel" for "dense/kernel:0"."""
    return (
        re.sub(r"(:\d+)?('?_\d+)?$", "", name.rpartition("/")[2], count=1) if ":" in name else name.rpartition("/")[2]
    )


_WITH_ITEMS = frozenset({"__tuple__", "TensorShape"})
_WITH_VALUE = frozenset({"__numpy__", "__tensor__"})


def plain_values(value: Any) -> Any:
    """Return nested values with serialised NumPy scalars, arrays, tensors, tuples and functions as plain values.

    Keras 2 wrote `numpy.float32(0.3)` as {"type": "float32", "value": 0.3} or, in `.keras` archives, as
    {"class_name": "__numpy__", "config": {"value": 0.3, "dtype": "float32"}}.
    """
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"type", "value"}:
        return plain_values(value["value"])
    class_name, config = value.get("class_name"), value.get("config")
    if class_name in _WITH_ITEMS and "items" in value:
        return plain_values(value["items"])
    if class_name in _WITH_VALUE and isinstance(config, Mapping) and "value" in config:
        return plain_values(config["value"])
    if class_name == "function" and isinstance(config, str):
        return config
    return {name: plain_values(item) for name, item in value.items()}
