"""Fill a quantized Keras model: a copy that is not quantized takes the weights, and Keras quantizes the copy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras3conv.errors import ModelError
from keras3conv.frameworks.keras.adapter import KerasModel
from keras3conv.frameworks.keras.tree import named_layers, variables_by_path
from keras3conv.frameworks.keras.values import error_message, raised_by_keras, to_numpy
from keras3conv.transforms import Array


@dataclass(frozen=True)
class Unquantized:
    """A quantized model, together with a copy of it that is not quantized: its kernels are floating-point numbers.

    Attributes:
        model: The quantized model.
        copy: The copy.
    """

    model: keras.Model
    copy: keras.Model

    @staticmethod
    def of(model: keras.Model) -> "Unquantized":
        """Return the copy of a model; its weights are random.

        Raises:
            ModelError: Keras cannot make the model from its configuration.
        """
        try:
            copy = type(model).from_config(_without_quantization(model.get_config()))
            if not copy.built:
                copy.build_from_config(model.get_build_config())
        except raised_by_keras() as error:
            fact = f"cannot make {model.name} without its quantization: {error_message(error)}"
            raise ModelError(
                f"{fact}\nFix:  model = make_model()  # not quantized; transfer the weights, then quantize the model"
            ) from error
        return Unquantized(model, copy)

    @property
    def adapter(self) -> KerasModel:
        """The adapter of the copy that is not quantized, through which a transfer writes its weights."""
        return KerasModel(self.copy)

    def values(self) -> Iterator[tuple[str, Array]]:
        """Quantize the layers of the copy that are quantized in the model; then yield all variables of the copy.

        Yields:
            The path and the value of each variable.
        """
        originals = dict(named_layers(self.model))
        for path, layer in list(named_layers(self.copy)):
            if mode := _mode_of(originals[path]):
                layer.quantize(mode, config=getattr(originals[path], "quantization_config", None))
        for path, variable in variables_by_path(self.copy).items():
            yield path, to_numpy(variable)


def _mode_of(layer: keras.layers.Layer) -> str:
    """Return the mode in which a layer itself is quantized; empty if it is not."""
    return str(getattr(layer, "quantization_mode", None) or "") if not isinstance(layer, keras.Model) else ""


def _without_quantization(config: Any) -> Any:
    """Return a configuration with the dtype policies that the layers had before they were quantized."""
    if isinstance(config, list | tuple):
        return type(config)(map(_without_quantization, config))
    if not isinstance(config, dict):
        return config
    inner = config.get("config")
    if isinstance(inner, dict) and "source_name" in inner and "DTypePolicy" in str(config.get("class_name")):
        return inner["source_name"]
    return {
        key: None if key == "quantization_config" else _without_quantization(value) for key, value in config.items()
    }
