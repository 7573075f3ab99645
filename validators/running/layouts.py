"""Bring the outputs of a torch layer and of its Keras layer into one memory layout."""

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.frameworks.shared.layout import channels_last, output_of
from keras3conv.frameworks.shared.recording import Call
from keras3conv.rules.library import find
from keras3conv.transforms import Array, Shape
from keras3conv.validators.running.subject import Subject

_CLEARLY = 4
"""The factor by which another layout must be closer: if the values differ, each may be the closer one by chance."""


def in_one_layout(subject: Subject, pair: Pair, torch_call: Call, keras_call: Call) -> tuple[Array, Array, bool]:
    """Return the outputs of both layers in Keras' layout, and whether the channels of torch's were moved by the values.

    For a Keras layer with a built-in activation, its output is the input of the activation. The shapes of the outputs
    still differ if no layout fits.

    Args:
        subject: The two models.
        pair: The torch layer and the Keras layer.
        torch_call: The call of the torch layer.
        keras_call: The call of the Keras layer.
    """
    keras_output = keras_call.outputs[0] if keras_call.before_activation is None else keras_call.before_activation
    keras_output = _without_cropped_part(subject, pair, keras_output)
    torch_output = in_keras_layout(subject, pair, torch_call, keras_output.shape)
    is_moved = _is_closer_with_channels_last(torch_output, keras_output)
    if is_moved:
        torch_output = channels_last(torch_output)
    return torch_output, _broadcast_over_batch(keras_output, torch_output.shape), is_moved


def in_keras_layout(subject: Subject, pair: Pair, torch_call: Call, keras_shape: Shape) -> Array:
    """Return the output of a torch call in the layout of the paired Keras layer: channels last, if that is Keras'.

    Args:
        subject: The two models.
        pair: The torch layer and the Keras layer.
        torch_call: The call of the torch layer.
        keras_shape: The shape of the Keras layer's output, which decides between layouts.
    """
    torch_config, keras_config = subject.torch_layers[pair.torch].config, subject.keras_layers[pair.keras].config
    output = output_of(torch_call.outputs, find(pair.rule), torch_config, keras_config, keras_shape)
    # A subclass of a torch layer may move the channels itself, before and after it calls its base class.
    if output.shape != keras_shape and channels_last(output).shape == keras_shape:
        output = channels_last(output)
    return _broadcast_over_batch(_with_inner_axes(output, keras_shape), keras_shape)


def _with_inner_axes(output: Array, shape: Shape) -> Array:
    """Reshape the axes between batch and channels of an output to match `shape`: (n, 7, 7, c) to (n, 49, c)."""
    if output.ndim < 2 or len(shape) < 2 or output.size != np.prod(shape):
        return output
    same_ends = (output.shape[0], output.shape[-1]) == (shape[0], shape[-1])
    return output.reshape(shape) if same_ends else output


def _broadcast_over_batch(array: Array, shape: Shape) -> Array:
    """Repeat an array without a batch axis, or with a batch of one (a position table), for every sample of `shape`."""
    without_batch = array.shape[1:] if array.shape[:1] == (1,) else array.shape
    if len(shape) > 1 and array.shape != shape and without_batch == shape[1:]:
        return np.broadcast_to(array, shape)
    return array


def _is_closer_with_channels_last(torch_output: Array, keras_output: Array) -> bool:
    """Return whether torch's output is clearly closer to Keras' after its channels are moved last.

    The result is False if moving the channels changes the shape: then the shape decides between the layouts.
    """
    moved = channels_last(torch_output)
    if torch_output.ndim < 3 or not torch_output.shape == moved.shape == keras_output.shape:
        return False
    unmoved_distance, moved_distance = (
        float(np.nanmax(np.abs(array.astype(np.float64) - keras_output))) for array in (torch_output, moved)
    )
    return moved_distance * _CLEARLY < unmoved_distance


def _without_cropped_part(subject: Subject, pair: Pair, keras_output: Array) -> Array:
    """Return the Keras output without the border that a later layer crops; unchanged if the rule has no cropping."""
    part = find(pair.rule).part
    if part is None:
        return keras_output
    torch_config, keras_config = subject.torch_layers[pair.torch].config, subject.keras_layers[pair.keras].config
    return part(keras_output, torch_config or {}, keras_config or {})
