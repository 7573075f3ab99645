"""Find the Keras 3 class of a layer in a Keras 2 file, and what its constructor takes."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

Config = Mapping[str, Any]

_EVERY_LAYER = frozenset({"name", "dtype", "trainable"})
"""What a class takes that hands unknown settings on to `keras.layers.Layer`."""


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """The hard sigmoid of Keras 2, clip(0.2 x + 0.5, 0, 1); that of Keras 3 rises by 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# A Bidirectional makes its layers anew from their settings.
keras.saving.register_keras_serializable("keras3conv")(hard_sigmoid_of_keras_2)


def is_entry(value: Any) -> bool:
    """Whether a setting is a layer or a model."""
    return isinstance(value, Mapping) and {"class_name", "config"} <= value.keys()


def is_activation(value: Any) -> bool:
    """Whether a setting is an activation that Keras 3 has."""
    return value is None or is_entry(value) or (isinstance(value, str) and hasattr(keras.activations, value))


def class_named(class_name: str) -> Any:
    """Return the class of Keras 3, or the one that the user registered under this name; None if there is none."""
    return getattr(keras.layers, class_name, None) or keras.saving.get_registered_object(class_name)


def is_of_keras(found: type) -> bool:
    """Whether a class is one of Keras itself."""
    return found.__module__.startswith("keras.")


def accepted_settings(found: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that a class of Keras takes, as far up as it hands the others on."""
    names: set[str] = set()
    for base in inspect.getmro(found):  # type: ignore[arg-type]
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values() if "__init__" in vars(base) else ()
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if parameters and not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return frozenset(names - {"self"})
    return frozenset(names - {"self"} | _EVERY_LAYER)


def layers_setting(config: Any) -> Config:
    """Return the settings of a model as a mapping: a Sequential was a bare list of layers once."""
    return config if isinstance(config, Mapping) else {"layers": config}


__all__ = [
    "accepted_settings",
    "class_named",
    "hard_sigmoid_of_keras_2",
    "is_activation",
    "is_entry",
    "is_of_keras",
    "layers_setting",
]
