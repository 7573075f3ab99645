"""Move the channel axis between the layouts of PyTorch (second) and Keras (last)."""

from itertools import accumulate
from math import prod
from operator import mul

import numpy as np

from keras3conv.rules.rule import Config, Rule
from keras3conv.transforms import Array, Arrays, Shape

_WITH_AXIS = ("keras.layers.BatchNormalization", "keras.layers.GroupNormalization")
"""The Keras layers whose argument `axis` is the axis of the channels."""


def channels_last(array: Array) -> Array:
    """Return an array with its second axis moved to the end; arrays of two or fewer axes are returned unchanged."""
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def channels_first(array: Array) -> Array:
    """Return an array with its last axis moved to the second position; the inverse of `channels_last`."""
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def like_keras(array: Array, rule: Rule, torch_config: Config | None, keras_config: Config | None) -> Array:
    """Return an input or output of a torch layer in the layout of its Keras counterpart, according to the rule.

    Args:
        array: The input or output of the torch layer.
        rule: The rule that pairs the two layers.
        torch_config: The configuration of the torch layer; None if unknown.
        keras_config: The configuration of the Keras layer; None if unknown.
    """
    layout = rule.layout_for(torch_config or {})
    if layout == "time":
        return np.swapaxes(array, 0, 1) if array.ndim > 2 else array
    if layout == "same" or array.ndim <= 2:
        return array
    return np.moveaxis(array, 1, _channels(array, rule, keras_config))


def like_torch(array: Array, rule: Rule, torch_config: Config | None, keras_config: Config | None) -> Array:
    """Return an input of a Keras layer in the layout of its torch counterpart; the inverse of `like_keras`.

    Args:
        array: The input of the Keras layer.
        rule: The rule that pairs the two layers.
        torch_config: The configuration of the torch layer; None if unknown.
        keras_config: The configuration of the Keras layer; None if unknown.
    """
    layout = rule.layout_for(torch_config or {})
    if layout != "channels" or array.ndim <= 2:
        return like_keras(array, rule, torch_config, keras_config)
    return np.moveaxis(array, _channels(array, rule, keras_config), 1)


def _channels(array: Array, rule: Rule, keras_config: Config | None) -> int:
    """Return the index of the channel axis in Keras; in torch the channels are axis 1.

    Args:
        array: An input or output of the layer, of three axes or more.
        rule: The rule that pairs the two layers.
        keras_config: The configuration of the Keras layer; None if unknown.
    """
    config = keras_config or {}
    if config.get("data_format") == "channels_first":
        return 1
    axis = config.get("axis", -1) if rule.keras in _WITH_AXIS else -1
    return axis % array.ndim if isinstance(axis, int) else array.ndim - 1


def output_of(
    outputs: Arrays, rule: Rule, torch_config: Config | None, keras_config: Config | None, keras_shape: Shape
) -> Array:
    """Return the expected output of a Keras layer, computed from the outputs of its torch counterpart.

    Args:
        outputs: The outputs of the torch layer.
        rule: The rule that pairs the two layers.
        torch_config: The configuration of the torch layer; None if unknown.
        keras_config: The configuration of the Keras layer; None if unknown.
        keras_shape: The shape of the Keras layer's output.
    """
    if rule.output is not None:
        return rule.output(outputs, torch_config or {}, keras_config or {}, keras_shape)
    return like_keras(outputs[0], rule, torch_config, keras_config)


def moved(shape: Shape) -> Shape:
    """Return a shape with its second size moved to the end: (2, 3, 8, 8) gives (2, 8, 8, 3)."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else shape


def has_merged_axes(first: Shape, second: Shape) -> bool:
    """Return whether two shapes differ only in adjacent axes that one of them has merged: (2, 7, 24), (2, 7, 6, 4)."""
    ends = [set(accumulate(shape, mul)) for shape in (first, second)]
    return prod(first) == prod(second) and (ends[0] <= ends[1] or ends[1] <= ends[0])


def output_like_keras(array: Array, keras_shape: Shape) -> tuple[Array, str]:
    """Return an output of the torch model in the layout of the Keras model's output, and a description of the change.

    For a feature map (four axes or more) the channels are moved last if the shapes then fit. A sequence (three axes) is
    assumed to have the same layout on both sides, unless only the other layout fits. If neither layout fits, axes of
    size 1 are ignored, because a pooled feature map may keep its spatial axes on one side only. If no layout fits then,
    the array is returned unchanged.
    """
    same, other = array.shape == keras_shape, moved(array.shape) == keras_shape
    if other and (array.ndim >= 4 or not same) and array.ndim > 2:
        return channels_last(array), "channels moved last"
    if same:
        return array, "same layout"
    ways = (channels_last(array), "channels moved last"), (array, "same layout")
    for candidate, layout in ways if array.ndim >= 4 else ways[::-1]:
        if _without_ones(candidate.shape) == _without_ones(keras_shape):
            return candidate.reshape(keras_shape), f"{layout}, other axes of size one"
    return array, "same layout"


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)
