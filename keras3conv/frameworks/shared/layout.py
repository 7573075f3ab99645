"""Where the channel axis is: second in torch, last in Keras."""

import numpy as np

from keras3conv.rules.rule import Config, Rule
from keras3conv.transforms import Array, Arrays, Shape


def channels_last(array: Array) -> Array:
    """Torch's layout becomes Keras': the second axis moves to the end. Arrays of two axes or fewer stay."""
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def channels_first(array: Array) -> Array:
    """Keras' layout becomes torch's: the last axis moves to the second place."""
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def like_keras(array: Array, rule: Rule, torch_config: Config | None, keras_config: Config | None) -> Array:
    """What a torch layer takes or gives, in the layout of its Keras counterpart, as the rule says."""
    layout = rule.layout_for(torch_config or {})
    if layout == "time":
        return np.swapaxes(array, 0, 1) if array.ndim > 2 else array
    if layout == "same" or (keras_config or {}).get("data_format") == "channels_first":
        return array
    return channels_last(array)


def output_of(
    outputs: Arrays, rule: Rule, torch_config: Config | None, keras_config: Config | None, keras_shape: Shape
) -> Array:
    """What a torch layer returned, as its Keras counterpart returns it."""
    if rule.output is not None:
        return rule.output(outputs, torch_config or {}, keras_config or {}, keras_shape)
    return like_keras(outputs[0], rule, torch_config, keras_config)


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
