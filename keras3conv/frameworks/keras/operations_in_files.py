"""Name the operations in an HDF5 file of a whole model that Keras 3 wrote, so that Keras 3 finds them.

Keras 3 lists operations between the layers: `NotEqual` for a mask, `Add` for `x + 1`. The file has no module for them,
and Keras then looks for a layer with this name only: it cannot load such a file itself.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras3conv.formats.keras2.file import architecture, is_legacy
from keras3conv.frameworks.keras.internals import ACTIVATION_MODULES, OPERATION_MODULES


def operations_in(path: Path) -> dict[str, type]:
    """Return a class for each operation that a file lists without its module, by the name in the file.

    It is empty for a file of another format, which has the modules.

    Raises:
        FileError: The file cannot be read.
    """
    if not path.is_file() or not is_legacy(path):
        return {}
    _, config = architecture(path)
    classes = _classes()
    return {name: _reader(classes[name]) for name in dict.fromkeys(_operations(config)) if name in classes}


def _operations(config: Any) -> Iterator[str]:
    """Yield the class names of the operations among the layers of an architecture, also in models inside it."""
    inner = config.get("config") if isinstance(config, Mapping) else None
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, Mapping) and isinstance(layer.get("config"), Mapping):
            if "layers" not in layer["config"] and not _is_layer(layer["config"]):
                yield str(layer.get("class_name"))
            yield from _operations(layer)


def _is_layer(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is that of a layer: an operation has no dtype, and nothing to train."""
    return "dtype" in config or "trainable" in config


def _classes() -> dict[str, type[keras.Operation]]:
    """Return the classes of Keras' operations by name."""
    activations = [module for name, module in sorted(sys.modules.items()) if name.startswith(ACTIVATION_MODULES)]
    values = [value for module in (*activations, *OPERATION_MODULES) for value in vars(module).values()]
    found = [value for value in values if isinstance(value, type) and issubclass(value, keras.Operation)]
    return {value.__name__: value for value in found if not issubclass(value, keras.layers.Layer)}


def _reader(operation: type[keras.Operation]) -> type:
    """Return a class whose `from_config` makes an operation, or a layer of the same name if the file has one too."""

    def from_config(config: Mapping[str, Any]) -> Any:
        layer = getattr(keras.layers, operation.__name__, None)
        return layer.from_config(config) if layer is not None and _is_layer(config) else operation.from_config(config)

    return type(operation.__name__, (), {"from_config": staticmethod(from_config)})
