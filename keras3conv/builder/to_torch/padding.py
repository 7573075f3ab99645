"""Pad at run time: the widths of padding="same" with a stride depend on the input size, which may be dynamic."""

from dataclasses import dataclass
from typing import Any

from keras3conv.builder.operations.expressions import tuple_of
from keras3conv.builder.program.names import OWN_FUNCTIONS
from keras3conv.builder.program.operation import Function, Operation
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.views import LayerView

_CONVOLUTIONS = ("Conv", "DepthwiseConv", "SeparableConv")
_POOLING = ("MaxPooling",)


@dataclass(frozen=True, kw_only=True)
class RunTimePadding:
    """The settings of a padding that the generated module computes at run time from the size of its input.

    Attributes:
        window: The size of the kernel or of the pooling window.
        stride: The stride of the window.
        value: The value to pad with; None for zero.
        order: The axis order that the input must have for the padding: channels-first.
    """

    window: tuple[int, ...]
    stride: tuple[int, ...]
    value: float | None
    order: Order

    def of(self, tensor: Value) -> Operation:
        """Return the operation that pads the given value."""
        settings = {} if self.value is None else {"value": self.value}
        return Function(OWN_FUNCTIONS).pad_same(tensor, self.window, self.stride, **settings)


def padding_at_run_time(layer: LayerView, tensor: Value, *, differs: bool) -> RunTimePadding | None:
    """Return the padding of a layer that depends on the input size at run time; None if the padding is fixed.

    With such a padding, the layer itself is converted without padding. The result is None for average pooling, because
    Keras does not count padding in the average, and for a dilation, which Keras does not support together with a
    stride.

    Args:
        layer: The Keras layer.
        tensor: The input of the layer.
        differs: Whether the layer is called with several input sizes, so that a fixed padding would be wrong for some.
    """
    config, rank = layer.config or {}, tensor.rank - 2
    family = layer.kind.removeprefix("keras.layers.").removesuffix(f"{rank}D")
    if config.get("padding") != "same" or family not in (*_CONVOLUTIONS, *_POOLING):
        return None
    window, stride = _window(config, rank)
    order = identity(tensor.rank) if config.get("data_format") == "channels_first" else channels_first(tensor.rank)
    is_dynamic = differs or any(not isinstance(tensor.shape[axis], int) for axis in order[2:])
    if not is_dynamic or {*stride} == {1} or {*tuple_of(config.get("dilation_rate", 1), rank)} != {1}:
        return None
    value = float("-inf") if family in _POOLING else None
    return RunTimePadding(window=window, stride=stride, value=value, order=order)


def _window(config: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the window size and the stride of a layer, with a number for each of `rank` spatial axes."""
    window = _ints(config.get("kernel_size", config.get("pool_size")), rank)
    stride = config.get("strides")
    return window, window if stride is None else _ints(stride, rank)


def _ints(value: Any, rank: int) -> tuple[int, ...]:
    """Return an argument as a tuple of one number per axis: (2, 2) for 2, if `rank` is 2."""
    numbers = tuple_of(value, rank)
    return numbers * rank if len(numbers) == 1 < rank else numbers
