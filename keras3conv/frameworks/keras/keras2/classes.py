"""Find the Keras 3 class of a layer in a Keras 2 file, and the arguments of its constructor."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras3conv.formats.keras2.layers import MERGES as MERGING
from keras3conv.formats.keras2.layers import is_entry
from keras3conv.frameworks.keras.tree import STANDS_FOR_ITS_BASE

Config = Mapping[str, Any]

_EVERY_LAYER = frozenset({"name", "dtype", "trainable"})
"""The arguments that a class accepts if its constructor passes unknown arguments on to `keras.layers.Layer`."""


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """Return the hard sigmoid of Keras 2, clip(0.2 x + 0.5, 0, 1); Keras 3 has a slope of 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# A Bidirectional creates its layers again from their configurations.
keras.saving.register_keras_serializable("keras3conv")(hard_sigmoid_of_keras_2)


class _MasksOfKeras2:
    """Merges masks as Keras 2 does: a step is kept if every mask keeps it; inputs without a mask do not matter.

    In Keras 3 a step is kept if it is True in one mask, and an input without a mask removes the masks of the others.
    """

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the merged inputs; None if no input has a mask."""
        masks = [one for one in mask or () if one is not None]
        merged = masks[0] if masks else None
        for other in masks[1:]:
            merged = keras.ops.logical_and(merged, other)
        return merged


class _ConcatenatedMasksOfKeras2:
    """Concatenates masks as Keras 2 does: a step is kept if all masks keep it. In Keras 3 one mask is enough."""

    axis: int

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the concatenated tensors; None if no input has one."""
        if mask is None or all(one is None for one in mask):
            return None
        found = []
        for tensor, one in zip(inputs, mask, strict=True):
            counted = keras.ops.ones_like(tensor, dtype="bool")
            if one is not None:
                fitting = keras.ops.expand_dims(one, -1) if len(one.shape) < len(tensor.shape) else one
                counted = keras.ops.logical_and(counted, fitting)
            found.append(counted)
        return keras.ops.all(keras.ops.concatenate(found, axis=self.axis), axis=-1)


def _merging_masks(base: Any) -> Any:
    masks = _ConcatenatedMasksOfKeras2 if base is keras.layers.Concatenate else _MasksOfKeras2
    made = type(f"{base.__name__}OfKeras2", (masks, base), {"__module__": __name__, STANDS_FOR_ITS_BASE: True})
    return keras.saving.register_keras_serializable("keras3conv")(made)


MERGES = {name: _merging_masks(getattr(keras.layers, name)) for name in MERGING}
"""The merge layers with the masks of Keras 2, by the name of the Keras class that each one replaces."""


def is_activation(value: Any) -> bool:
    """Return whether the value of an argument is an activation that Keras 3 has."""
    return value is None or is_entry(value) or (isinstance(value, str) and hasattr(keras.activations, value))


def class_named(class_name: str) -> Any:
    """Return the class with a name: one of Keras 3, or else one that the user registered with Keras; None if none."""
    return getattr(keras.layers, class_name, None) or keras.saving.get_registered_object(class_name)


def is_of_keras(found: type) -> bool:
    """Return whether Keras itself defines a class; False for the classes of users."""
    return found.__module__.startswith("keras.")


def accepted_settings(found: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that the constructor of a class accepts.

    If the constructor passes unknown arguments on to a base class, the arguments of the base class count as well.
    """
    names: set[str] = set()
    for base in inspect.getmro(found):  # type: ignore[arg-type]
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values() if "__init__" in vars(base) else ()
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if parameters and not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return frozenset(names - {"self"})
    return frozenset(names - {"self"} | _EVERY_LAYER)


def layers_setting(config: Any) -> Config:
    """Return the configuration of a model as a mapping; a list of layers, as in old files, becomes {"layers": list}."""
    return config if isinstance(config, Mapping) else {"layers": config}


__all__ = [
    "MERGES",
    "accepted_settings",
    "class_named",
    "hard_sigmoid_of_keras_2",
    "is_activation",
    "is_of_keras",
    "layers_setting",
]
