"""Define the base classes of the Keras layers for torch functions: their configuration, and sliding windows."""

from typing import Any

import keras


class Configured(keras.layers.Layer):  # type: ignore[misc]
    """The base class of all these layers: without variables, with each argument as an attribute and in `settings`."""

    def __init__(self, settings: dict[str, Any], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.settings = settings
        for name, value in settings.items():
            setattr(self, name, value)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, which Keras stores with a saved model."""
        return {**super().get_config(), **self.settings}


class Windows(Configured):
    """The base class of poolings: sliding windows along all axes but the first and the last, as many as in torch."""

    def __init__(self, settings: dict[str, Any], **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        names = ("pool_size", "strides", "padding", "dilation_rate")
        given = (settings["pool_size"], *(settings.get(name, 1) for name in names[1:]))
        rank = max(len(value) for value in given if not isinstance(value, int))
        self.axes = list(
            zip(*(value if not isinstance(value, int) else (value,) * rank for value in given), strict=True)
        )

    def count(self, size: int, axis: int) -> int:
        """Return the number of pooling windows along an axis, given the size of the axis."""
        window, stride, padding, dilation = self.axes[axis - 1]
        room = size + 2 * padding - dilation * (window - 1) - 1
        number = (room + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        begins_outside = self.ceil_mode and (number - 1) * stride >= size + padding
        return int(number - 1 if begins_outside else number)

    def windows(self, inputs: Any, axis: int, fill: float) -> list[Any]:
        """Return a list of tensors: the first value of each window along an axis, the second value of each, etc."""
        window, stride, padding, dilation = self.axes[axis - 1]
        size = known_size(inputs, axis)
        reach = (self.count(size, axis) - 1) * stride + 1
        end = max(reach + dilation * (window - 1) - size - padding, 0)
        widths = [(padding, end) if place == axis else (0, 0) for place in range(len(inputs.shape))]
        padded = keras.ops.pad(inputs, widths, constant_values=fill)
        starts = range(0, window * dilation, dilation)
        return [padded[(slice(None),) * axis + (slice(start, start + reach, stride),)] for start in starts]


def known_size(inputs: Any, axis: int) -> int:
    """Return the size of an axis of a tensor; raise `ValueError` if it is dynamic."""
    size = inputs.shape[axis]
    if size is None:
        raise ValueError(
            f"axis {axis} of the input must have a known size, but the input shape is {tuple(inputs.shape)}"
            ": give it in the input specification"
        )
    return int(size)
