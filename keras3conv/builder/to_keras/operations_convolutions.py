"""Convert convolutions to a Keras layer if a layer can own the weight, else to `keras.ops.conv`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.broadcasting import sign
from keras3conv.builder.to_keras.call import PLAIN, Call, LayerCall, Result, handles, ops, own
from keras3conv.builder.to_keras.forms import Constant, Held, Unmerged
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.builder.to_keras.operations_axes import reshaped
from keras3conv.builder.to_keras.operations_indexing import picked
from keras3conv.builder.to_keras.operations_pooling import spread
from keras3conv.builder.to_keras.sizes import divided, plus
from keras3conv.builder.to_keras.unmerged import split_further
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size, Tensor
from keras3conv.rules.helpers.padding import same_padding
from keras3conv.rules.rule import Config


@handles("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(call: Call) -> Result:
    if isinstance(call.get("groups", 1), Size):
        return convolved_each(call)
    rank = len(call.shape) - 2
    weight = call.arguments["weight"]
    if call.value("input").rank != rank + 2:
        raise RuleError(
            "a convolution of an input without a batch axis is not supported: add the axis with unsqueeze(0)"
        )
    config = _config(call, weight.shape, rank)
    steps, result = config["stride"], call.node.outputs[0]
    skips = "output_padding" not in config and {*steps} != {1} and {*config["dilation"]} != {1}
    if skips:
        # Keras cannot have both a stride and a dilation: convolve without stride, then take every n-th position.
        config, result = {**config, "stride": (1,) * rank}, _without_steps(call, config)
    is_layer = call.is_held("weight") and call.is_held("bias")
    made = _layer(call, config, rank, result) if is_layer else _of_computed_weight(call, config, result.shape)
    made = _every(call, made, steps) if skips else made
    return made if is_layer or call.get("bias") is None else _shifted(call, made, call.arguments["bias"], rank)


def convolved_each(call: Call) -> Value | Unmerged | None:
    """Convert a convolution that has a group for each sample, whose channels torch has merged with the batch.

    Each sample is convolved with its own kernel. The channels of the result are not merged with the batch, so that the
    reshape of torch that separates them costs nothing.

    Returns:
        The output; None if the number of groups is fixed.
    """
    groups, rank = call.get("groups", 1), len(call.shape) - 2
    if not isinstance(groups, Size):
        return None
    apart = {
        name: _with_groups(call, name, groups) for name in ("input", "weight", "bias") if call.get(name) is not None
    }
    given = call.writer.ordered(apart["input"], channels_last(rank + 2))
    weight = apart["weight"]
    config = _config(call, weight.shape[1:], rank)
    if any(isinstance(size, Size) for size in given.shape[2:]):
        raise RuleError(f"{call.name} with a group for each sample needs images of a fixed size")
    given, kernel, steps = _prepared(call, given, weight, config)
    made = own.convolve_each(given, kernel, steps, config["dilation"])
    shape = (groups, weight.shape[2 if "output_padding" in config else 1], *call.shape[2:])
    result = call.step(made, shape, given.order)
    if "bias" in apart:
        bias = apart["bias"]
        added = ops.reshape(call.writer.ordered(bias, (0, 1)), (-1, *(1,) * rank, bias.shape[1]))
        result = call.step(result + added, shape, result.order)
    whole = split_further(call, result, call.shape)
    return reshaped(call, result, call.shape) if whole is None else whole


def _with_groups(call: Call, name: str, groups: Size) -> Value:
    """Return an argument of a convolution with the groups as its first axis, apart from the channels."""
    tensor = call.arguments[name]
    tensor = tensor if isinstance(tensor, Value | Unmerged) else call.writer.value(tensor)
    axis = 1 if name == "input" else 0
    channels = divided(tensor.shape[axis], groups)
    if channels is None or tensor.shape[:axis] not in ((), (1,)):
        raise RuleError(f"{call.name} with {groups} groups is supported only for an input with a batch of one")
    shape = (groups, channels, *tensor.shape[axis + 1 :])
    made = split_further(call, tensor, shape)
    return reshaped(call, call.writer.value(tensor), shape) if made is None else call.writer.value(made)


def _config(call: Call, shape: Any, rank: int) -> dict[str, Any]:
    """Return the configuration of a torch convolution layer that computes the same as a call of the function."""
    is_transposed, groups, padding = "transpose" in call.name, call.get("groups", 1), call.get("padding", 0)
    groups = 1 if isinstance(groups, Size) else groups
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
    padding, sizes = config["padding"], config["kernel_size"]
    if padding == "same":
        return [same_padding(None, size, 1, gap) for size, gap in zip(sizes, config["dilation"], strict=True)]
    return [(0, 0)] * len(sizes) if padding == "valid" else [(width, width) for width in padding]


def _without_steps(call: Call, config: Config) -> Tensor:
    """Return a tensor of the graph with the shape and dtype that the result of a convolution would have with stride 1.

    Args:
        call: The call.
        config: The configuration of the torch layer that computes the same.
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
        steps: The number n for each spatial axis: (2, 2) for every second row and column.
    """
    for axis, step in enumerate(steps, 2):
        shape = tuple(call.shape[axis] if one == axis else size for one, size in enumerate(value.shape))
        value = picked(call, value, axis, slice(None, None, step), shape) if step > 1 else value
    return value


def _of_computed_weight(call: Call, config: Config, shape: Shape) -> Value:
    """Return the result of `ops.conv`, without bias, for a weight that no layer can own: it is computed or shared.

    Args:
        call: The call.
        config: The configuration of the torch layer that computes the same.
        shape: The shape of the result.
    """
    order = call.writer.image_order(len(shape))
    given = call.ordered(call.arguments["input"], order)
    given, kernel, steps = _prepared(call, given, call.arguments["weight"], config)
    options: dict[str, Any] = {}
    for name, numbers in (("strides", steps), ("dilation_rate", config["dilation"])):
        if {*numbers} != {1}:
            options[name] = numbers[0] if len({*numbers}) == 1 else numbers
    if order[1] == 1:
        options["data_format"] = "channels_first"
    return call.step(_grouped(call, given, kernel, config, options), shape, order)


def _prepared(call: Call, tensor: Value, weight: Any, config: Config) -> tuple[Value, Value, tuple[int, ...]]:
    """Return the padded input, the kernel and the strides with which a plain convolution computes the result of torch.

    Args:
        call: The call.
        tensor: The input.
        weight: The weight of torch; it may have an axis of samples before its other axes.
        config: The configuration of the torch layer that computes the same.
    """
    steps, widths = config["stride"], _widths(config)
    first = len(weight.shape) - len(steps) - 2
    spatial, channels = range(first + 2, len(weight.shape)), (first + 1, first)
    if "output_padding" in config:
        tensor, widths = _with_zeros_between(call, tensor, config)
        steps, channels = (1,) * len(steps), (first, first + 1)
    kernel = call.ordered(weight, (*range(first), *spatial, *channels))
    if "output_padding" in config:
        flipped = ops.flip(kernel, axis=tuple(range(first, first + len(steps))))
        kernel = call.step(flipped, kernel.shape, kernel.order, kernel.dtype)
    return _padded(call, tensor, widths), kernel, steps


def _padded(call: Call, tensor: Value, widths: Sequence[tuple[int, int]]) -> Value:
    """Return a value with zeros before and after each spatial axis; a negative number removes elements.

    Args:
        call: The call.
        tensor: The value.
        widths: The numbers of zeros before and after each spatial axis.
    """
    for axis, width in enumerate(widths, 2):
        start, end = (max(-one, 0) for one in width)
        if start or end:
            shape = tuple(plus(size, -start - end) if one == axis else size for one, size in enumerate(tensor.shape))
            tensor = picked(call, tensor, axis, slice(start or None, -end or None), shape)
    added = {axis: (max(start, 0), max(end, 0)) for axis, (start, end) in enumerate(widths, 2)}
    if not any(map(any, added.values())):
        return tensor
    sizes = tuple(plus(size, sum(added.get(axis, (0, 0)))) for axis, size in enumerate(tensor.shape))
    pads = tuple(added.get(axis, (0, 0)) for axis in tensor.order)
    return call.step(ops.pad(tensor, pads), sizes, tensor.order, tensor.dtype)


def _with_zeros_between(call: Call, tensor: Value, config: Config) -> tuple[Value, list[tuple[int, int]]]:
    """Return the input with which a plain convolution computes a transposed one, and the zeros to add at its ends.

    The kernel is then flipped. Zeros are put after each element, one fewer than the stride.
    `ops.conv_transpose` cannot be used: in a functional model, Keras 3.15 mistakes its padding for its output_padding.
    """
    names = ("kernel_size", "dilation", "padding", "output_padding", "stride")
    widths = []
    for size, gap, pad, more, step in zip(*(config[name] for name in names), strict=True):
        end = gap * (size - 1) - pad
        widths.append((end, end + more - (step - 1)))
    steps = dict(enumerate(config["stride"], 2))
    if {*steps.values()} == {1}:
        return tensor, widths
    if any(isinstance(size, Size) for size in tensor.shape[2:]):
        raise RuleError(
            f"the weight of {call.name} is computed or shared with another layer: this is supported only for an input "
            f"of a fixed size{PLAIN}"
        )
    shape = tuple(size * steps[axis] if axis in steps else size for axis, size in enumerate(tensor.shape))
    apart: list[Any] = []
    added = [(0, 0)]
    for axis in tensor.order[1:]:
        apart += [tensor.shape[axis], 1] if axis in steps else [tensor.shape[axis]]
        added += [(0, 0), (0, steps[axis] - 1)] if axis in steps else [(0, 0)]
    spread_out = ops.pad(ops.reshape(tensor, (-1, *apart)), tuple(added))
    together = (-1, *(shape[axis] for axis in tensor.order[1:]))
    return call.step(ops.reshape(spread_out, together), shape, tensor.order, tensor.dtype), widths


def _grouped(call: Call, tensor: Value, kernel: Value, config: Config, options: dict[str, Any]) -> Any:
    """Return the expression that convolves each group of channels with its part of the kernel, and joins the results.

    Args:
        call: The call.
        tensor: The input.
        kernel: The kernel.
        config: The configuration of the torch convolution.
        options: The other arguments of `ops.conv`.
    """
    groups = config["groups"]
    if groups == 1:
        return ops.conv(tensor, kernel, **options)
    axis = 1 if tensor.order[1] == 1 else tensor.rank - 1

    def parts(value: Value, torch_axis: int, place: int) -> list[Value]:
        size = value.shape[torch_axis]
        assert isinstance(size, int)
        shape = tuple(size // groups if one == torch_axis else other for one, other in enumerate(value.shape))
        found = [call.writer.new(shape, value.order, value.dtype) for _ in range(groups)]
        call.writer.write(ops.split(value, groups, axis=place), found)
        return found

    pairs = zip(parts(tensor, 1, axis), parts(kernel, 0, kernel.order.index(0)), strict=True)
    return ops.concatenate([ops.conv(one, part, **options) for one, part in pairs], axis=axis)


def _shifted(call: Call, result: Value, bias: Value | Constant | Held, rank: int) -> Value:
    """Add a bias to the channels of a convolution's result, and return the sum."""
    value = call.writer.value(bias)
    if result.order[1] == 1:
        size = value.shape[0]
        value = call.step(ops.reshape(value, (-1, *(1,) * rank)), (size, *(1,) * rank), dtype=value.dtype)
    return call.step(sign(call, "+", result, value), order=result.order)
