"""What padding="same" pads where a stride makes that depend on a size that is free: it is computed at run time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras3conv.builder.operations.expressions import tuple_of
from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.views import LayerView

_CONVOLUTIONS = ("Conv", "DepthwiseConv", "SeparableConv")
_POOLING = ("MaxPooling",)


@dataclass(frozen=True, kw_only=True)
class Padding:
    """A statement that pads.

    Attributes:
        template: Its right side.
        order: In which order it wants the axes: the channels second.
    """

    template: str
    order: Order


def padding_at_run_time(layer: LayerView, given: Value, *, differs: bool) -> Padding | None:
    """The statement that pads for a layer, and after which the layer pads nothing; None where none is needed.

    An average does not count what is padded, and a kernel with gaps and a stride at once is none of Keras': for these
    there is no such statement.

    Args:
        layer: The Keras layer.
        given: What it is called with.
        differs: Whether it is called with several sizes, so that no number is right for all of its calls.
    """
    config, rank = layer.config or {}, given.rank - 2
    family = layer.kind.removeprefix("keras.layers.").removesuffix(f"{rank}D")
    if config.get("padding") != "same" or family not in (*_CONVOLUTIONS, *_POOLING):
        return None
    width, stride = _window(config, rank)
    order = identity(given.rank) if config.get("data_format") == "channels_first" else channels_first(given.rank)
    free = differs or any(not isinstance(given.shape[axis], int) for axis in order[2:])
    if not free or {*stride} == {1} or {*tuple_of(config.get("dilation_rate", 1), rank)} != {1}:
        return None
    value = ', value=float("-inf")' if family in _POOLING else ""
    return Padding(template=f"pad_same({{0}}, {_shown(width)}, {_shown(stride)}{value})", order=order)


def _window(config: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How wide the windows are, and how far apart."""
    width = _ints(config.get("kernel_size", config.get("pool_size")), rank)
    stride = config.get("strides")
    return width, width if stride is None else _ints(stride, rank)


def _ints(value: Any, rank: int) -> tuple[int, ...]:
    """A number or a list; a list of one number counts for every axis."""
    numbers = tuple_of(value, rank)
    return numbers * rank if len(numbers) == 1 < rank else numbers


def _shown(values: Sequence[int]) -> str:
    return f"({', '.join(map(str, values))}{',' * (len(values) == 1)})"


__all__ = ["Padding", "padding_at_run_time"]
