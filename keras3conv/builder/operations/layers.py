"""What layers do, as functions of tensors: convolutions, pooling, normalisation, attention."""

from collections.abc import Sequence
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import axes_of, converted, fixed, tuple_of
from keras3conv.builder.program.program import Order, Value, channels_first, identity


def images(call: Call, given: Value) -> Value:
    """The value with its channels second."""
    first = call.get("data_format") == "channels_first"
    return call.order(given, identity(given.rank) if first else channels_first(given.rank))


def same_pads(
    call: Call, given: Value, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """What padding="same" puts around each place: TensorFlow's rule, the larger part behind.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    pads = []
    for size, width, stride, gap in zip(given.torch_shape[2:], kernel, strides, dilation, strict=True):
        reach = (width - 1) * gap + 1
        if stride == 1:
            total = reach - 1
        else:
            whole = fixed(call, size, 'padding="same" with strides')
            total = max((-(-whole // stride) - 1) * stride + reach - whole, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def padded(call: Call, given: Value, pads: Sequence[tuple[int, int]], value: str = "") -> Value:
    """The value with its last axes padded."""
    if not any(map(any, pads)):
        return given
    numbers = ", ".join(f"{start}, {end}" for start, end in reversed(pads))
    shown = f", value={value}" if value else ""
    return call.step(f"F.pad({{0}}, ({numbers}){shown})", [given])


def _settings(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    places = rank - 2
    return tuple_of(call["strides"], places), tuple_of(call.get("dilation_rate", 1), places)


def _around(call: Call, given: Value, kernel: Sequence[int]) -> tuple[Value, str]:
    """What is convolved and the argument `padding`: symmetric padding is the convolution's own."""
    strides, dilation = _settings(call, given.rank)
    padding = str(call["padding"])
    if padding == "valid":
        return given, ""
    if padding != "same":
        raise call.refuse(f"padding={padding!r} is not supported")
    pads = same_pads(call, given, kernel, strides, dilation)
    if all(start == end for start, end in pads):
        return given, f", padding={_numbers([start for start, _ in pads])}" if any(map(any, pads)) else ""
    return padded(call, given, pads), ""


def _numbers(values: Sequence[int]) -> str:
    return str(values[0]) if len({*values}) == 1 else f"({', '.join(map(str, values))})"


def _options(call: Call, rank: int, groups: int) -> str:
    strides, dilation = _settings(call, rank)
    shown = f", stride={_numbers(strides)}" if {*strides} != {1} else ""
    shown += f", dilation={_numbers(dilation)}" if {*dilation} != {1} else ""
    return shown + (f", groups={groups}" if groups != 1 else "")


def _kernel_sizes(call: Call, kernel: Value) -> tuple[int, ...]:
    return tuple(fixed(call, size, "the size of the kernel") for size in kernel.shape)


@handles("keras.ops.conv")
def _conv(call: Call) -> None:
    given, kernel = images(call, call["inputs"]), call["kernel"]
    *width, _, _ = _kernel_sizes(call, kernel)
    kernel = call.order(kernel, (kernel.rank - 1, kernel.rank - 2, *range(kernel.rank - 2)))
    given, padding = _around(call, given, width)
    options = _options(call, given.rank, 1)
    name = f"F.conv{given.rank - 2}d"
    call.returns(f"{name}({{0}}, {{1}}{padding}{options})", [given, kernel], given.order)


@handles("keras.ops.depthwise_conv")
def _depthwise_conv(call: Call) -> None:
    given = images(call, call["inputs"])
    call.returns(*_depthwise(call, given, call["kernel"]), given.order)


def _depthwise(call: Call, given: Value, kernel: Value) -> tuple[str, list[Value]]:
    *width, channels, multiplier = _kernel_sizes(call, kernel)
    kernel = call.order(kernel, (kernel.rank - 2, kernel.rank - 1, *range(kernel.rank - 2)))
    given, padding = _around(call, given, width)
    sizes = ", ".join(map(str, (channels * multiplier, 1, *width)))
    options = _options(call, given.rank, channels)
    return f"F.conv{given.rank - 2}d({{0}}, {{1}}.reshape({sizes}){padding}{options})", [given, kernel]


@handles("keras.ops.separable_conv")
def _separable_conv(call: Call) -> None:
    given, point = images(call, call["inputs"]), call["pointwise_kernel"]
    template, inputs = _depthwise(call, given, call["depthwise_kernel"])
    middle = call.step(template, inputs, shape=given.shape, order=given.order)
    point = call.order(point, (point.rank - 1, point.rank - 2, *range(point.rank - 2)))
    call.returns(f"F.conv{given.rank - 2}d({{0}}, {{1}})", [middle, point], given.order)


@handles("keras.ops.max_pool")
def _max_pool(call: Call) -> None:
    given, size, stride = _pooled(call)
    if call["padding"] == "same":
        given = padded(call, given, _pool_pads(call, given), 'float("-inf")')
    call.returns(f"F.max_pool{given.rank - 2}d({{0}}, {size}{stride})", [given], given.order)


@handles("keras.ops.average_pool")
def _average_pool(call: Call) -> None:
    """What is padded does not count: JAX and TensorFlow divide by the number of real values in each window."""
    given, size, stride = _pooled(call)
    name = f"F.avg_pool{given.rank - 2}d"
    pads = _pool_pads(call, given) if call["padding"] == "same" else []
    if not any(map(any, pads)):
        call.returns(f"{name}({{0}}, {size}{stride})", [given], given.order)
    elif all(start == end for start, end in pads):
        around = f", padding={_numbers([start for start, _ in pads])}, count_include_pad=False"
        call.returns(f"{name}({{0}}, {size}{stride}{around})", [given], given.order)
    else:
        raise call.refuse('with padding="same" and more of it behind, Keras\' torch backend and the others differ')


def _pooled(call: Call) -> tuple[Value, str, str]:
    given = images(call, call["inputs"])
    size = tuple_of(call["pool_size"], given.rank - 2)
    strides = size if call["strides"] is None else tuple_of(call["strides"], given.rank - 2)
    return given, _numbers(size), "" if strides == size else f", stride={_numbers(strides)}"


def _pool_pads(call: Call, given: Value) -> list[tuple[int, int]]:
    places = given.rank - 2
    size = tuple_of(call["pool_size"], places)
    strides = size if call["strides"] is None else tuple_of(call["strides"], places)
    return same_pads(call, given, size, strides, (1,) * places)


@handles("keras.ops.adaptive_average_pool", "keras.ops.adaptive_max_pool")
def _adaptive_pool(call: Call) -> None:
    if len(call.node.outputs[0].shape) != call["inputs"].rank:
        raise call.refuse("with its channels last Keras tells another shape than it returns")
    given = images(call, call["inputs"])
    kind = "avg" if "average" in call.node.kind else "max"
    size = tuple_of(call["output_size"], given.rank - 2)
    shown = str(size[0]) if len({*size}) == 1 else str(size)
    call.returns(f"F.adaptive_{kind}_pool{given.rank - 2}d({{0}}, {shown})", [given], given.order)


@handles("keras.ops.batch_normalization")
def _batch_normalization(call: Call) -> None:
    given, axis = call["x"], call["axis"]
    if not isinstance(axis, int) or given.rank < 2 or any(call[name].rank != 1 for name in ("mean", "variance")):
        raise call.refuse(f"axis={axis} is not supported: one axis, and a mean and a variance for each of its places")
    axis %= given.rank
    if axis == 0:
        raise call.refuse("axis=0 is not supported")
    if given.place(axis) != 1 or given.place(0) != 0:
        given = call.order(given, (0, axis, *(one for one in range(1, given.rank) if one != axis)))
    inputs = [given, call["mean"], call["variance"]]
    shown = _optional(call, inputs, weight="scale", bias="offset")
    call.returns(f"F.batch_norm({{0}}, {{1}}, {{2}}{shown}, eps={call['epsilon']!r})", inputs, given.order)


def _optional(call: Call, inputs: list[Value], **names: str) -> str:
    """The arguments that may be left out; those that are given are added to the inputs."""
    shown = ""
    for torch_name, name in names.items():
        if call.get(name) is not None:
            shown += f", {torch_name}={{{len(inputs)}}}"
            inputs.append(call[name])
    return shown


@handles("keras.ops.layer_normalization", "keras.ops.rms_normalization")
def _layer_normalization(call: Call) -> None:
    given, rank = call["x"], call["x"].rank
    axes = sorted(axes_of(call["axis"], rank))
    layer = call.node.kind.endswith("layer_normalization")
    names = {"weight": "gamma", "bias": "beta"} if layer else {"weight": "scale"}
    epsilon = 1e-7 if call["epsilon"] is None else call["epsilon"]
    if call.get("rms_scaling"):
        raise call.refuse("rms_scaling=True is not supported: Keras has it no more")
    if axes != list(range(rank - len(axes), rank)):
        raise call.refuse(f"axis={call['axis']} is not supported: only the last axes")
    weights = [call[name] for name in names.values() if call.get(name) is not None]
    if any(weight.rank != len(axes) for weight in weights):
        raise call.refuse("weights must have the axes that are normalised")
    given = call.order(given, (*(axis for axis in given.order if axis not in axes), *axes))
    sizes = ", ".join(str(fixed(call, given.shape[axis], "the size of a normalised axis")) for axis in axes)
    inputs = [given]
    shown = _optional(call, inputs, **names)
    name = "F.layer_norm" if layer else "F.rms_norm"
    call.returns(f"{name}({{0}}, ({sizes}{',' * (len(axes) == 1)}){shown}, eps={epsilon!r})", inputs, given.order)


_HEADS_SECOND: Order = (0, 2, 1, 3)


@handles("keras.ops.dot_product_attention")
def _dot_product_attention(call: Call) -> None:
    """Torch has the heads before the places, Keras behind; a mask that is a number is added in both."""
    if call["attn_logits_soft_cap"] is not None:
        raise call.refuse("attn_logits_soft_cap is not supported")
    query, key, value = (call.order(call[name], _HEADS_SECOND) for name in ("query", "key", "value"))
    inputs, options = [query, key, value], ""
    if call["mask"] is not None or call["bias"] is not None:
        options += f", attn_mask={_attention_mask(call, inputs)}"
    elif call["is_causal"]:
        options += ", is_causal=True"
    if call["scale"] is not None:
        options += f", scale={_number(call, call['scale'])}"
    heads = [fixed(call, one.shape[2], "the number of heads") for one in (query, key)]
    options += ", enable_gqa=True" if heads[0] != heads[1] else ""
    template = f"F.scaled_dot_product_attention({{0}}, {{1}}, {{2}}{options})"
    call.returns(template, inputs, _HEADS_SECOND)


def _number(call: Call, value: Any) -> str:
    if not isinstance(value, int | float):
        raise call.refuse("a scale that is a tensor is not supported")
    return repr(value)


def _attention_mask(call: Call, inputs: list[Value]) -> str:
    """The mask in torch's order; Keras takes a very negative number for what is hidden, so that no row is empty."""
    mask, bias = call["mask"], call["bias"]
    if mask is not None and bias is not None:
        raise call.refuse("a mask and a bias at once are not supported")
    given = mask if mask is not None else bias
    if call["is_causal"]:
        raise call.refuse("is_causal=True beside a mask or a bias is read differently by Keras' backends")
    given = call.keras_order(given)
    if mask is not None and given.dtype != "bool":
        given = converted(call, given, "bool")
    inputs.append(given)
    place = len(inputs) - 1
    if mask is None:
        return f"{{{place}}}"
    return f"(~{{{place}}}).to({{0}}.dtype) * (torch.finfo({{0}}.dtype).min / 2)"
