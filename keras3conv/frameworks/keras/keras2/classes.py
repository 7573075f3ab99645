"""Find the Keras 3 class of a layer in a Keras 2 file, and the arguments of its constructor."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras

from keras3conv.formats.keras2.layers import is_entry
from keras3conv.frameworks.keras.internals import LayerScale

Config = Mapping[str, Any]

_EVERY_LAYER = frozenset({"name", "dtype", "trainable"})
"""The arguments that a class accepts if its constructor passes unknown arguments on to `keras.layers.Layer`."""


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """Return the hard sigmoid of Keras 2, clip(0.2 x + 0.5, 0, 1); Keras 3 has a slope of 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# A Bidirectional creates its layers again from their configurations.
keras.saving.register_keras_serializable("keras3conv")(hard_sigmoid_of_keras_2)


_OF_TRAINING = {
    **{name: getattr(keras.regularizers, name) for name in ("L1", "L2", "L1L2")},
    **{name: getattr(keras.constraints, name) for name in ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")},
}
"""The regularizers and constraints that Keras 2 and Keras 3 have under the same name, with the same arguments."""


def settings_of_training(config: Config, accepted: Collection[str]) -> dict[str, Any]:
    """Return the regularizers and constraints of a layer, which act in training only, by argument name.

    A class that is not Keras' own, or an argument that is not a number, is left out: the model computes the same
    without it.

    Args:
        config: The constructor arguments of the layer in the file.
        accepted: The names of the arguments that the class in Keras 3 accepts.
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if not name.endswith(("_regularizer", "_constraint")) or name not in accepted or not is_entry(value):
            continue
        made = _OF_TRAINING.get(str(value["class_name"]))
        arguments = value["config"] if isinstance(value["config"], Mapping) else {"": None}
        if made is not None and all(isinstance(one, int | float) for one in arguments.values()):
            known = inspect.signature(made).parameters
            found[name] = made(**{key: one for key, one in arguments.items() if key in known})
    return found


class NamedLayerScale(LayerScale):  # type: ignore[misc]  # mypy sees Any, because Keras is untyped
    """The LayerScale of `keras.applications.ConvNeXt`, whose variable has a name, as in Keras 2."""

    def build(self, _: Any) -> None:
        """Create the variable."""
        initial = keras.initializers.Constant(self.init_values)
        self.gamma = self.add_weight(shape=(self.projection_dim,), initializer=initial, name="gamma")


def is_activation(value: Any) -> bool:
    """Return whether the value of an argument is an activation that Keras 3 has."""
    return value is None or is_entry(value) or (isinstance(value, str) and hasattr(keras.activations, value))


def class_named(class_name: str) -> Any:
    """Return the class with a name: one of Keras 3, else one that the user registered; None if neither exists."""
    known = getattr(keras.layers, class_name, None) or keras.saving.get_registered_object(class_name)
    return known or (NamedLayerScale if class_name == "LayerScale" else None)


def is_of_keras(layer_class: type) -> bool:
    """Return whether Keras itself defines a class; False for the classes of users."""
    return layer_class.__module__.startswith("keras.")


def accepted_settings(layer_class: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that the constructor of a class accepts.

    If the constructor passes unknown arguments on to a base class, the arguments of the base class count as well.
    """
    names: set[str] = set()
    for base in inspect.getmro(layer_class):  # type: ignore[arg-type]
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values() if "__init__" in vars(base) else ()
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if parameters and not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return frozenset(names - {"self"})
    return frozenset(names - {"self"} | _EVERY_LAYER)


def layers_setting(config: Any) -> Config:
    """Return the configuration of a model as a mapping; a list of layers, as in old files, becomes {"layers": list}."""
    return config if isinstance(config, Mapping) else {"layers": config}
