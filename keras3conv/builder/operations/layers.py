"""Convert global pooling, and the convolutions and poolings of `keras.ops`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    F,
    dims,
    dtype_of,
    fixed,
    one_or_all,
    tuple_of,
    without,
)
from keras3conv.builder.program.operation import Expression
from keras3conv.builder.program.program import Value, channels_first, identity
from keras3conv.rules.families.convolution.transpose import keras_crops
from keras3conv.rules.helpers.padding import Pads, reach, same_padding
from keras3conv.rules.rule import LayerSpec


def images(call: Call, tensor: Value) -> Value:
    """Return images in channels-first order: permuted, unless the call has `data_format="channels_first"`."""
    first = call.get("data_format") == "channels_first"
    return call.order(tensor, identity(tensor.rank) if first else channels_first(tensor.rank))


def same_pads(
    call: Call, tensor: Value, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """Return the padding that padding="same" adds at the start and the end of each spatial axis.

    Args:
        call: The call of a convolution or pooling.
        tensor: Its input, channels-first.
        kernel: The size of the kernel or window along each spatial axis.
        strides: The stride along each spatial axis.
        dilation: The dilation along each spatial axis.
    """
    axes = zip(tensor.target_shape[2:], kernel, strides, dilation, strict=True)
    return tuple(
        same_padding(None if stride == 1 else fixed(call, size, 'padding="same" with strides'), window, stride, gap)
        for size, window, stride, gap in axes
    )


def padded(call: Call, tensor: Value, pads: Sequence[tuple[int, int]], value: float | None = None) -> Value:
    """Return a value padded along its last axes by a new statement.

    Args:
        call: The call.
        tensor: The value to pad.
        pads: The padding at the start and the end of each of the last axes.
        value: The number to pad with; None for zero.
    """
    if not any(map(any, pads)):
        return tensor
    settings = {} if value is None else {"value": value}
    return call.step(F.pad(tensor, torch_pads(pads), **settings))


def torch_pads(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return (start, end) pairs of padding as the flat argument of `F.pad`, which has the last axis first."""
    return tuple(end for pair in reversed(pads) for end in pair)


def _settings(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides and the dilation of a convolution, one number for each spatial axis."""
    places = rank - 2
    return tuple_of(call["strides"], places), tuple_of(call.get("dilation_rate", 1), places)


def _around(call: Call, tensor: Value, kernel: Sequence[int]) -> tuple[Value, Mapping[str, Any]]:
    """Return the input of a convolution, padded if needed, and the padding arguments of the torch function.

    A torch convolution pads both ends of an axis equally. If Keras does so in this call, the result has the argument
    `padding`. Otherwise a new statement pads the input, and there are no padding arguments.

    Args:
        call: The call of the convolution.
        tensor: The input, channels-first.
        kernel: The size of the kernel along each spatial axis.
    """
    strides, dilation = _settings(call, tensor.rank)
    padding = str(call["padding"])
    if padding == "valid":
        return tensor, {}
    if padding != "same":
        raise call.refuse(f'a convolution is supported only with padding="valid" or padding="same", not {padding!r}')
    pads = same_pads(call, tensor, kernel, strides, dilation)
    if all(start == end for start, end in pads):
        return tensor, {"padding": one_or_all([start for start, _ in pads])} if any(map(any, pads)) else {}
    return padded(call, tensor, pads), {}


def _options(call: Call, rank: int, groups: int) -> dict[str, Any]:
    """Return the arguments `stride`, `dilation` and `groups` of a convolution that differ from torch's defaults."""
    strides, dilation = _settings(call, rank)
    options: dict[str, Any] = {}
    if {*strides} != {1}:
        options["stride"] = one_or_all(strides)
    if {*dilation} != {1}:
        options["dilation"] = one_or_all(dilation)
    if groups != 1:
        options["groups"] = groups
    return options


def _kernel_sizes(call: Call, kernel: Value) -> tuple[int, ...]:
    return tuple(fixed(call, size, "the size of the kernel") for size in kernel.shape)


def _convolve(tensor: Value, kernel: Any, **settings: Any) -> Expression:
    return F.named(f"conv{tensor.rank - 2}d")(tensor, kernel, **settings)


@handles("keras.ops.conv")
def _conv(call: Call) -> None:
    given, kernel = images(call, call["inputs"]), call["kernel"]
    *width, _, _ = _kernel_sizes(call, kernel)
    kernel = call.order(kernel, (kernel.rank - 1, kernel.rank - 2, *range(kernel.rank - 2)))
    given, padding = _around(call, given, width)
    call.returns(_convolve(given, kernel, **padding, **_options(call, given.rank, 1)), given.order)


@handles("keras.ops.conv_transpose")
def _conv_transpose(call: Call) -> None:
    """Convert `conv_transpose`: torch computes the whole output, of which Keras leaves out elements at the ends."""
    given, kernel = images(call, call["inputs"]), call["kernel"]
    *width, _, _ = _kernel_sizes(call, kernel)
    places = given.rank - 2
    settings = {name: call[name] for name in ("strides", "padding", "output_padding")}
    layer = LayerSpec(kind=f"keras.layers.Conv{places}DTranspose", config=settings)
    crops = keras_crops((layer,), reach(tuple(width), _settings(call, given.rank)[1]), places)
    kernel = call.order(kernel, (kernel.rank - 1, kernel.rank - 2, *range(kernel.rank - 2)))
    whole = F.named(f"conv_transpose{places}d")(given, kernel, **_options(call, given.rank, 1))
    if not any(map(any, crops)):
        call.returns(whole, given.order)
        return
    call.returns(F.pad(whole, torch_pads([(-start, -end) for start, end in crops])), given.order)


@handles("keras.ops.depthwise_conv")
def _depthwise_conv(call: Call) -> None:
    given = images(call, call["inputs"])
    call.returns(_depthwise(call, given, call["kernel"]), given.order)


def _depthwise(call: Call, tensor: Value, kernel: Value) -> Expression:
    *width, channels, multiplier = _kernel_sizes(call, kernel)
    kernel = call.order(kernel, (kernel.rank - 2, kernel.rank - 1, *range(kernel.rank - 2)))
    tensor, padding = _around(call, tensor, width)
    reshaped = kernel.method("reshape", channels * multiplier, 1, *width)
    return _convolve(tensor, reshaped, **padding, **_options(call, tensor.rank, channels))


@handles("keras.ops.separable_conv")
def _separable_conv(call: Call) -> None:
    given, point = images(call, call["inputs"]), call["pointwise_kernel"]
    depthwise = _depthwise(call, given, call["depthwise_kernel"])
    middle = call.step(depthwise, shape=given.shape, order=given.order)
    point = call.order(point, (point.rank - 1, point.rank - 2, *range(point.rank - 2)))
    call.returns(_convolve(middle, point), given.order)


@handles("keras.ops.max_pool")
def _max_pool(call: Call) -> None:
    given, size, strides = _pooled(call)
    if call["padding"] == "same":
        given = padded(call, given, same_pads(call, given, size, strides, (1,) * len(size)), float("-inf"))
    call.returns(_pool("max_pool", given, size, strides), given.order)


@handles("keras.ops.average_pool")
def _average_pool(call: Call) -> None:
    """Convert `average_pool`; as in JAX and TensorFlow, the average does not count the padding."""
    given, size, strides = _pooled(call)
    pads = same_pads(call, given, size, strides, (1,) * len(size)) if call["padding"] == "same" else ()
    settings: dict[str, Any] = {}
    if any(map(any, pads)):
        if any(start != end for start, end in pads):
            raise call.refuse(
                'padding="same" that is asymmetric is not supported for average pooling: the result depends on the '
                "backend"
            )
        settings = {"padding": one_or_all([start for start, _ in pads]), "count_include_pad": False}
    call.returns(_pool("avg_pool", given, size, strides, **settings), given.order)


def _pooled(call: Call) -> tuple[Value, tuple[int, ...], tuple[int, ...]]:
    """Return the input of a pooling in channels-first order, the size of its window, and its strides."""
    given = images(call, call["inputs"])
    size = tuple_of(call["pool_size"], given.rank - 2)
    return given, size, size if call["strides"] is None else tuple_of(call["strides"], given.rank - 2)


def _pool(name: str, tensor: Value, size: tuple[int, ...], strides: tuple[int, ...], **settings: Any) -> Expression:
    if strides != size:
        settings = {"stride": one_or_all(strides), **settings}
    return F.named(f"{name}{tensor.rank - 2}d")(tensor, one_or_all(size), **settings)


@handles("keras.ops.adaptive_average_pool", "keras.ops.adaptive_max_pool")
def _adaptive_pool(call: Call) -> None:
    if len(call.shape) != call["inputs"].rank:
        raise call.refuse(
            f"the output shape that Keras infers for this adaptive pooling has {len(call.shape)} axes, its input "
            f"{call['inputs'].rank}: Keras infers a wrong shape for this call, so it is not supported"
        )
    given = images(call, call["inputs"])
    kind = "avg" if "average" in call.node.kind else "max"
    size = one_or_all(tuple_of(call["output_size"], given.rank - 2))
    call.returns(F.named(f"adaptive_{kind}_pool{given.rank - 2}d")(given, size), given.order)


def _global(call: Call, *, method: str) -> None:
    given = call.tensor
    if call.get("mask") is not None:
        _masked_mean(call, given)
        return
    first = 2 if call.get("data_format") == "channels_first" else 1
    axes = range(first, first + given.rank - 2)
    if call.get("keepdims"):
        call.returns(given.method(method, dim=dims(given, axes), keepdim=True), given.order)
    else:
        call.returns(given.method(method, dim=dims(given, axes)), without(given.order, axes))


def _masked_mean(call: Call, tensor: Value) -> None:
    """Convert GlobalAveragePooling1D with a mask: the average over the time steps that are not masked."""
    if call.get("keepdims") or "GlobalAveragePooling1D" not in call.node.kind:
        raise call.refuse(
            "a mask is supported only for GlobalAveragePooling1D with keepdims=False, not for this pooling layer"
        )
    tensor = call.keras_order(tensor)
    mask = call["mask"][:, :, None].method("to", dtype_of(tensor))
    weights = call.step(mask, like=tensor)
    call.returns((tensor * weights).method("sum", dim=1) / weights.method("sum", dim=1))


for _rank in (1, 2, 3):
    handles(f"keras.layers.GlobalAveragePooling{_rank}D")(partial(_global, method="mean"))
    handles(f"keras.layers.GlobalMaxPooling{_rank}D")(partial(_global, method="amax"))
