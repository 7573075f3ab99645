"""Convert convolutions to a Keras layer if a layer can own the weight, else to `keras.ops.conv`."""

from dataclasses import replace
from typing import Any

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.broadcasting import sign
from keras3conv.builder.to_keras.call import Call, Constant, Held, LayerCall, Result, handles, ops
from keras3conv.builder.to_keras.operations_indexing import picked
from keras3conv.builder.to_keras.operations_pooling import spread
from keras3conv.builder.to_keras.sizes import plus
from keras3conv.errors import RuleError
from keras3conv.model.graph import Tensor
from keras3conv.rules.rule import Config


@handles("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(call: Call) -> Result:
    rank = len(call.shape) - 2
    weight = call.arguments["weight"]
    if call.value("input").rank != rank + 2:
        raise RuleError(
            "a convolution of an input without a batch axis is not supported: add the axis with unsqueeze(0)"
        )
    config = _config(call, weight.shape, rank)
    if not (call.is_held("weight") and call.is_held("bias")):
        return _of_computed_weight(call, config, rank)
    steps = config["stride"]
    is_transposed = "output_padding" in config
    if not is_transposed and {*steps} != {1} and {*config["dilation"]} != {1}:
        # A Keras layer cannot have both a stride and a dilation: convolve without stride, then take every n-th
        # position.
        made = _layer(call, {**config, "stride": (1,) * rank}, rank, _without_steps(call, config, rank))
        return _every(call, made, steps)
    return _layer(call, config, rank, call.node.outputs[0])


def _config(call: Call, shape: Any, rank: int) -> dict[str, Any]:
    """Return the configuration of a torch convolution layer that computes the same as a call of the function.

    Args:
        call: The call.
        shape: The shape of the weight.
        rank: The number of spatial axes.
    """
    is_transposed, groups, padding = "transpose" in call.name, call.get("groups", 1), call.get("padding", 0)
    channels = (shape[0], shape[1] * groups) if is_transposed else (shape[1] * groups, shape[0])
    config = {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "kernel_size": shape[2:],
        "stride": spread(call.get("stride", 1), rank),
        "padding": padding if isinstance(padding, str) else spread(padding, rank),
        "dilation": spread(call.get("dilation", 1), rank),
        "groups": groups,
        "bias": call.get("bias") is not None,
        "padding_mode": "zeros",
    }
    if is_transposed:
        config["output_padding"] = spread(call.get("output_padding", 0), rank)
    return config


def _layer(call: Call, config: Config, rank: int, result: Tensor) -> Value:
    """Add the calls of the Keras layers for a torch convolution layer, and return the output.

    Args:
        call: The call of the operator.
        config: The configuration of the torch layer.
        rank: The number of spatial axes.
        result: The output in the call graph, which has the shape and dtype.
    """
    is_transposed = "output_padding" in config
    tensors = {role: held for role in ("weight", "bias") if (held := call.held(role)) is not None}
    layer = LayerCall(
        kind=f"torch.nn.{'ConvTranspose' if is_transposed else 'Conv'}{rank}d",
        keras=(f"Conv{rank}DTranspose",) if is_transposed else (f"DepthwiseConv{rank}D", f"Conv{rank}D"),
        config=config,
        tensors=tensors,
        order=call.writer.image_order(rank + 2),
    )
    return call.writer.by_rule(layer, call.value("input"), result)


def _widths(config: Config) -> list[tuple[int, int]]:
    """Return the numbers of elements that a convolution adds at the start and the end of each spatial axis."""
    if isinstance(config["padding"], str):
        same = config["padding"] == "same"
        totals = [
            gap * (size - 1) if same else 0 for size, gap in zip(config["kernel_size"], config["dilation"], strict=True)
        ]
        return [(total // 2, total - total // 2) for total in totals]
    return [(width, width) for width in config["padding"]]


def _without_steps(call: Call, config: Config, rank: int) -> Tensor:
    """Return a tensor of the graph with the shape and dtype that the result of a convolution would have with stride 1.

    Args:
        call: The call.
        config: The configuration of the torch layer that computes the same.
        rank: The number of spatial axes.
    """
    given = call.value("input").shape[2:]
    sizes = [
        plus(size, sum(width) - gap * (window - 1))
        for size, width, gap, window in zip(
            given, _widths(config), config["dilation"], config["kernel_size"], strict=True
        )
    ]
    return replace(call.node.outputs[0], shape=(*call.shape[:2], *sizes))


def _every(call: Call, value: Value, steps: tuple[int, ...]) -> Value:
    """Return every n-th element of a value along each spatial axis.

    Args:
        call: The call.
        value: The value.
        steps: The n for each spatial axis.
    """
    for axis, step in enumerate(steps, 2):
        shape = tuple(call.shape[axis] if one == axis else size for one, size in enumerate(value.shape))
        value = picked(call, value, axis, slice(None, None, step), shape) if step > 1 else value
    return value


def _of_computed_weight(call: Call, config: Config, rank: int) -> Value:
    """Convert a convolution whose weight no layer can own, because it is computed or shared, to `ops.conv`.

    Args:
        call: The call.
        config: The configuration of the torch layer that computes the same.
        rank: The number of spatial axes.

    Returns:
        The output.
    """
    if "output_padding" in config:
        raise RuleError(
            f"the weight of {call.name} is computed or shared with another layer: for a transposed convolution this "
            "is not supported"
        )
    order = call.writer.image_order(rank + 2)
    given = call.ordered(call.arguments["input"], order)
    widths = dict(enumerate(_widths(config), 2))
    if any(map(any, widths.values())):
        sizes = (plus(size, sum(widths.get(axis, (0, 0)))) for axis, size in enumerate(given.shape))
        pads = tuple(widths.get(axis, (0, 0)) for axis in order)
        given = call.step(ops.pad(given, pads), tuple(sizes), order, given.dtype)
    kernel = call.ordered(call.arguments["weight"], (*range(2, rank + 2), 1, 0))
    steps, gaps = config["stride"], config["dilation"]
    both = {*steps} != {1} and {*gaps} != {1}
    options: dict[str, Any] = {}
    if {*steps} != {1} and not both:
        options["strides"] = _one(steps)
    if {*gaps} != {1}:
        options["dilation_rate"] = _one(gaps)
    if order[1] == 1:
        options["data_format"] = "channels_first"
    result = _without_steps(call, config, rank).shape if both else call.shape
    made = call.step(_grouped(call, given, kernel, config["groups"], options), result, order)
    made = _every(call, made, steps) if both else made
    bias = call.get("bias")
    return made if bias is None else _shifted(call, made, bias, rank)


def _grouped(call: Call, given: Value, kernel: Value, groups: int, options: dict[str, Any]) -> Any:
    """Return the expression that convolves each group of channels with its part of the kernel, and joins the results.

    Args:
        call: The call.
        given: The input.
        kernel: The kernel.
        groups: The number of groups.
        options: The other arguments of `ops.conv`.
    """
    if groups == 1:
        return ops.conv(given, kernel, **options)
    axis = 1 if given.order[1] == 1 else given.rank - 1

    def parts(value: Value, torch_axis: int, place: int) -> list[Value]:
        size = value.shape[torch_axis]
        assert isinstance(size, int)
        shape = tuple(size // groups if one == torch_axis else other for one, other in enumerate(value.shape))
        found = [call.writer.new(shape, value.order, value.dtype) for _ in range(groups)]
        call.writer.write(ops.split(value, groups, axis=place), found)
        return found

    pairs = zip(parts(given, 1, axis), parts(kernel, 0, kernel.rank - 1), strict=True)
    return ops.concatenate([ops.conv(one, part, **options) for one, part in pairs], axis=axis)


def _one(values: tuple[int, ...]) -> Any:
    return values[0] if len({*values}) == 1 else values


def _shifted(call: Call, made: Value, bias: Value | Constant | Held, rank: int) -> Value:
    """Add a bias to the channels of a convolution's result, and return the sum.

    Args:
        call: The call.
        made: The result without the bias.
        bias: The bias.
        rank: The number of spatial axes.
    """
    value = call.writer.value(bias)
    if made.order[1] == 1:
        size = value.shape[0]
        value = call.step(ops.reshape(value, (-1, *(1,) * rank)), (size, *(1,) * rank), dtype=value.dtype)
    return call.step(sign(call, "+", made, value), order=made.order)
