"""Read the architecture and the weights in a file of Keras 2, as its own lists have them: nothing is renamed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras3conv.errors import IncompleteCheckpoint, MalformedCheckpoint
from keras3conv.formats.keras import archive, json
from keras3conv.formats.keras.legacy_h5 import IGNORED, WEIGHTS
from keras3conv.formats.keras2.values import plain_values
from keras3conv.formats.safe import hdf5
from keras3conv.formats.safe.source import Source, parse_json
from keras3conv.transforms import Array


@dataclass(frozen=True)
class Group:
    """The variables of a layer.

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
        version: The version of Keras that saved it; empty where the file does not say.
        config: The architecture, in plain values.
        is_archive: Whether the file is a `.keras` archive of Keras 2.12 to 2.15, and no HDF5.
    """

    path: Path
    version: str
    config: Mapping[str, Any]
    is_archive: bool = False

    @property
    def writer(self) -> str:
        """The software that saved it, for a report."""
        return f"Keras {self.version}" if self.version else "Keras 2"


def saved_model(path: Path) -> Saved | None:
    """Return the architecture in a file that Keras 2 saved; None for any other file.

    The content of the file decides, not its suffix: a `.keras` file of TensorFlow 2.11 and earlier is HDF5.

    Raises:
        FileError: The file cannot be read.
    """
    if path.suffix.lower() == ".json":
        config = json.parsed(path)
        version, is_archive = str(config.get("keras_version", "")), False
    else:
        with Source.pin(path).open() as file:
            is_archive = file.read(4) == b"PK\3\4"
        version, config = archive.architecture(path) if is_archive else architecture(path)
    if not isinstance(config, Mapping) or not is_of_keras_2(version, config):
        return None
    return Saved(path=path, version=version, config=plain_values(config), is_archive=is_archive)


def is_of_keras_2(version: str, config: Any) -> bool:
    """Whether Keras 2 wrote an architecture.

    Args:
        version: The version that the file names: "2.4.0", "2.3.0-tf"; empty where it names none.
        config: The architecture.
    """
    if version:
        return version.startswith(("1.", "2."))
    layers = config.get("config", {}) if isinstance(config, Mapping) else {}
    layers = layers.get("layers", []) if isinstance(layers, Mapping) else layers
    return isinstance(layers, list) and not any(isinstance(layer, Mapping) and layer.get("module") for layer in layers)


def is_legacy(path: Path) -> bool:
    """Whether a file is HDF5 in the form of Keras 2, whoever wrote it.

    Raises:
        FileError: The file cannot be read.
    """
    import h5py

    source = Source.pin(path)
    with source.unchanged() as name:
        if not h5py.is_hdf5(name):
            return False
        with hdf5.opened(name, str(path)) as file:
            return any("layer_names" in node.attrs or "layer_names0" in node.attrs for node in (file, *file.values()))


def architecture(path: Path) -> tuple[str, Any]:
    """The version that wrote a legacy `.h5`, and the architecture in it; "" and None where there is none.

    Raises:
        FileError: The file cannot be read.
    """
    source = Source.pin(path)
    with source.unchanged() as name, hdf5.opened(name, str(path)) as file:
        nodes = [node for node in (file, file.get(WEIGHTS)) if node is not None]
        versions = [hdf5.text_attribute(node, "keras_version", str(path)) for node in nodes]
        text = hdf5.text_attribute(file, "model_config", str(path))
    config = None if text is None else parse_json(text, f"{path}: model_config")
    return next((version for version in versions if version), ""), config


def groups(path: Path) -> tuple[Group, ...]:
    """The weights in a legacy `.h5`, layer by layer.

    Raises:
        FileError: The file cannot be read, or lacks what it promises.
    """
    source, where = Source.pin(path), str(path)
    with source.unchanged() as name, hdf5.opened(name, where) as file:
        tree = hdf5.survey(file, where, source.size, skip=IGNORED)
        base = WEIGHTS if WEIGHTS in tree.groups else ""
        names = hdf5.list_attribute(file[base] if base else file, "layer_names", where)
        if names is None:
            raise MalformedCheckpoint(f"{where} is HDF5, but holds no weights of a Keras model")
        return tuple(_group(file, tree, layer, f"{base}/{layer}".lstrip("/"), where) for layer in names)


def _group(file: Any, tree: hdf5.Tree, layer: str, group: str, where: str) -> Group:
    if group not in tree.groups:
        raise IncompleteCheckpoint(f"{where}: the file lists the layer {layer!r}, but has no group for it")
    names = hdf5.list_attribute(file[group], "weight_names", where) or []
    missing = [name for name in names if f"{group}/{name}" not in tree.datasets]
    if missing:
        raise IncompleteCheckpoint(f"{where}: the file lists {group}/{missing[0]}, but has no dataset for it")
    weights = ((name, hdf5.read_dataset(file, tree.datasets[f"{group}/{name}"])) for name in names)
    return Group(layer, tuple(weights))


def role_of(name: str) -> str:
    """What a variable is called: "kernel" of "dense/kernel:0", and of what h5py made of a name that was there twice."""
    return (
        re.sub(r"(:\d+)?('?_\d+)?$", "", name.rpartition("/")[2], count=1) if ":" in name else name.rpartition("/")[2]
    )


__all__ = ["Group", "Saved", "architecture", "groups", "is_legacy", "is_of_keras_2", "role_of", "saved_model"]
