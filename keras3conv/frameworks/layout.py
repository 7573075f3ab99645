"""Where the channel axis is: second in torch, last in Keras."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras3conv.rule import Rule
from keras3conv.transforms import Array, Shape


def channels_last(array: Array) -> Array:
    """Torch's layout becomes Keras': the second axis moves to the end. Arrays of two axes or fewer stay."""
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def channels_first(array: Array) -> Array:
    """Keras' layout becomes torch's: the last axis moves to the second place."""
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def like_keras(array: Array, rule: Rule, keras_config: Mapping[str, Any] | None) -> Array:
    """What a torch layer takes or gives, in the layout of its Keras counterpart, as the rule says."""
    data_format = (keras_config or {}).get("data_format")
    if rule.layout == "same" or data_format == "channels_first":
        return array
    return channels_last(array)


def moved(shape: Shape) -> Shape:
    """A shape with its second axis moved to the end."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else shape


def output_like_keras(array: Array, keras_shape: Shape) -> tuple[Array, str]:
    """A model's output in the layout of the other model's, and the layout in words.

    Four axes or more are feature maps, so their channels move where that fits; three are sequences, which have one
    layout on both sides, unless only the other one fits. Where neither fits the array is returned as it is.
    """
    same, other = array.shape == keras_shape, moved(array.shape) == keras_shape
    if other and (array.ndim >= 4 or not same) and array.ndim > 2:
        return channels_last(array), "channels moved last"
    return array, "same layout"
