"""Handlers of operators that are layers in Keras: convolutions, products with a weight, normalizations, poolings."""

from typing import Any

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, Held, LayerCall, Placed, Result, handles, ops
from keras3conv.builder.to_keras.operations_axes import reshaped, taken, unmerged
from keras3conv.builder.to_keras.operations_products import matmul
from keras3conv.errors import RuleError
from keras3conv.model.graph import Tensor
from keras3conv.rules.rule import Config
from keras3conv.transforms import Same


def spread(value: Any, rank: int) -> tuple[int, ...]:
    """Return one number for every axis."""
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * rank if len(items) == 1 else items


def _layer(call: Call, kind: str, keras: tuple[str, ...], config: Config, *, order: Order, given: str) -> Value:
    """Call the Keras layers for a torch layer; `keras` are the beginnings of their class names."""
    tensors = {role: call.held(role) for role in ("weight", "bias", "running_mean", "running_var")}
    held = {role: tensor for role, tensor in tensors.items() if tensor is not None}
    layer = LayerCall(kind=f"torch.nn.{kind}", keras=keras, config=config, tensors=held, order=order)
    return call.writer.by_rule(layer, call.value(given), call.node.outputs[0])


def _has_affine(call: Call) -> bool:
    """Return whether a normalization has a scale and a shift; raises `RuleError` if it has one of them."""
    weight, bias = call.get("weight"), call.get("bias")
    if (weight is None) != (bias is None):
        raise RuleError(f"{call.name} with only one of weight and bias")
    return weight is not None


@handles("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(call: Call) -> Result:
    weight, rank = call.held("weight"), len(call.shape) - 2
    assert weight is not None
    is_transposed, groups = "transpose" in call.name, call.get("groups", 1)
    if call.value("input").rank != rank + 2:
        raise RuleError("a convolution without an axis for the batch")
    channels = (
        (weight.shape[0], weight.shape[1] * groups) if is_transposed else (weight.shape[1] * groups, weight.shape[0])
    )
    padding = call.get("padding", 0)
    config = {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "kernel_size": weight.shape[2:],
        "stride": spread(call.get("stride", 1), rank),
        "padding": padding if isinstance(padding, str) else spread(padding, rank),
        "dilation": spread(call.get("dilation", 1), rank),
        "groups": groups,
        "bias": call.get("bias") is not None,
        "padding_mode": "zeros",
    }
    if is_transposed:
        config["output_padding"] = spread(call.get("output_padding", 0), rank)
    elif {*config["stride"]} != {1} and {*config["dilation"]} != {1}:
        raise RuleError("a convolution with a stride and a dilation: Keras has only one of them in a layer")
    keras = (f"Conv{rank}DTranspose",) if is_transposed else (f"DepthwiseConv{rank}D", f"Conv{rank}D")
    kind = f"ConvTranspose{rank}d" if is_transposed else f"Conv{rank}d"
    return _layer(call, kind, keras, config, order=call.writer.image_order(rank + 2), given="input")


@handles("linear")
def _linear(call: Call) -> Result:
    given = call.value("input")
    if not (call.is_held("weight") and call.is_held("bias")) or given.rank < 2:
        return _product(call, given)
    weight = call.held("weight")
    assert weight is not None
    config = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": call.get("bias") is not None,
        "flattened": given.flattened or None,
    }
    given = unmerged(call, given)
    tensors = {role: held for role in ("weight", "bias") if (held := call.held(role)) is not None}
    order = _last_axes_in_place(given, 1)
    layer = LayerCall(kind="torch.nn.Linear", keras=("Dense",), config=config, tensors=tensors, order=order)
    made_of = Tensor(name=call.node.outputs[0].name, shape=(*given.shape[:-1], weight.shape[0]))
    return reshaped(call, call.writer.by_rule(layer, given, made_of), call.shape)


def _product(call: Call, given: Value) -> Value:
    """Multiply with a weight that no layer may hold, because it is computed or tied."""
    weight = call.value("weight")
    turned = call.ordered(weight, (1, 0))
    kernel = Value(name=turned.name, shape=(weight.shape[1], weight.shape[0]), order=(0, 1), dtype=weight.dtype)
    made = matmul(call, given, kernel, call.shape)
    bias = call.get("bias")
    return (
        made if bias is None else elementwise(call, [made, bias], lambda first, second: sign(call, "+", first, second))
    )


@handles("addmm")
def _addmm(call: Call) -> Result:
    """Multiply with a weight of shape (in, out), as GPT-2 has it."""
    if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        raise RuleError("addmm with factors")
    given = call.value("mat1")
    weight, bias = call.arguments["mat2"], call.arguments["self"]
    is_layer = call.is_held("mat2") and call.is_held("self") and isinstance(weight, Held) and isinstance(bias, Held)
    if not is_layer or len(bias.shape) != 1:
        made = matmul(call, given, call.value("mat2"), call.shape)
        return elementwise(call, [made, bias], lambda first, second: sign(call, "+", first, second))
    config = {"nf": weight.shape[1], "nx": weight.shape[0]}
    tensors = {"weight": weight, "bias": bias}
    kind = "transformers.pytorch_utils.Conv1D"
    given = unmerged(call, given)
    made_of = Tensor(name=call.node.outputs[0].name, shape=(*given.shape[:-1], weight.shape[1]))
    order = _last_axes_in_place(given, 1)
    layer = LayerCall(kind=kind, keras=("Dense",), config=config, tensors=tensors, order=order)
    return reshaped(call, call.writer.by_rule(layer, given, made_of), call.shape)


@handles("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(call: Call) -> Result:
    if call.get("training", False):
        raise RuleError("a batch normalization with the statistics of the batch in evaluation mode")
    given, mean = call.value("input"), call.held("running_mean")
    assert mean is not None
    config = {
        "num_features": mean.shape[0],
        "eps": call.arguments["eps"],
        "momentum": call.arguments["momentum"],
        "affine": _has_affine(call),
        "track_running_stats": True,
    }
    kind = f"BatchNorm{max(given.rank - 2, 1)}d"
    order = call.writer.image_order(given.rank)
    made = _layer(call, kind, ("BatchNormalization",), config, order=order, given="input")
    return made if call.name == "batch_norm" else [made, None, None]


@handles("instance_norm")
def _instance_norm(call: Call) -> Result:
    if not call.get("use_input_stats", True):
        raise RuleError("an instance normalization with running statistics")
    given = call.value("input")
    config = {
        "num_features": given.shape[1],
        "eps": call.arguments["eps"],
        "affine": _has_affine(call),
        "track_running_stats": False,
    }
    order = call.writer.image_order(given.rank)
    kind = f"InstanceNorm{given.rank - 2}d"
    return _layer(call, kind, ("GroupNormalization",), config, order=order, given="input")


@handles("group_norm")
def _group_norm(call: Call) -> Result:
    given = call.value("input")
    config = {
        "num_groups": call.arguments["num_groups"],
        "num_channels": given.shape[1],
        "eps": call.get("eps", 1e-5),
        "affine": _has_affine(call),
    }
    order = call.writer.image_order(given.rank)
    return _layer(call, "GroupNorm", ("GroupNormalization",), config, order=order, given="input")


def _last_axes_in_place(given: Value, count: int) -> Order:
    """Return the order of a value if the last axes of torch are the last ones of Keras; else torch's order."""
    last = tuple(range(given.rank - count, given.rank))
    return given.order if given.order[-count:] == last else identity(given.rank)


@handles("layer_norm")
def _layer_norm(call: Call) -> Result:
    given, shape = call.value("input"), tuple(call.arguments["normalized_shape"])
    weight, bias = call.get("weight"), call.get("bias")
    if weight is None and bias is not None:
        raise RuleError("layer_norm with a bias and no weight")
    config = {
        "normalized_shape": shape,
        "eps": call.get("eps", 1e-5),
        "elementwise_affine": weight is not None,
        "bias": bias is not None,
    }
    order = _last_axes_in_place(given, len(shape))
    return _layer(call, "LayerNorm", ("LayerNormalization",), config, order=order, given="input")


@handles("rms_norm")
def _rms_norm(call: Call) -> Result:
    given, shape = call.value("input"), tuple(call.arguments["normalized_shape"])
    config = {
        "normalized_shape": shape,
        "eps": call.get("eps", None),
        "elementwise_affine": call.get("weight") is not None,
    }
    order = _last_axes_in_place(given, len(shape))
    return _layer(call, "RMSNorm", ("RMSNormalization",), config, order=order, given="input")


_EMBEDDING = "torch.nn.Embedding <-> keras.layers.Embedding"


@handles("embedding")
def _embedding(call: Call) -> Result:
    indices = call.arguments["indices"]
    if call.is_held("weight") and isinstance(indices, Value):
        weight = call.held("weight")
        assert weight is not None
        config = {"input_dim": weight.shape[0], "output_dim": weight.shape[1]}
        made = call.writer.new(call.shape, (*indices.order, indices.rank), "float32")
        placed = [Placed(role="embeddings", held=weight, transform=Same(), rule=_EMBEDDING)]
        call.writer.layer("keras.layers.Embedding", config, indices, placed, weight.owner or weight.path, made)
        return made
    width = call.arguments["weight"].shape[1]
    return taken(call, call.arguments["weight"], 0, indices, (*indices.shape, width))


@handles("prelu")
def _prelu(call: Call) -> Result:
    given, weight = call.value("self"), call.held("weight")
    assert weight is not None
    order = call.writer.image_order(given.rank)
    layer = LayerCall(
        kind="torch.nn.PReLU",
        keras=("PReLU",),
        config={"num_parameters": weight.shape[0]},
        tensors={"weight": weight},
        order=order,
    )
    if order == identity(given.rank) and given.rank > 2:
        raise RuleError("prelu in a model with channels first")
    return call.writer.by_rule(layer, given, call.node.outputs[0])


@handles("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d")
def _pooling(call: Call) -> Result:
    rank, is_maximum = len(call.shape) - 2, call.name.startswith("max")
    size = spread(call.arguments["kernel_size"], rank)
    config: dict[str, Any] = {
        "kernel_size": size,
        "stride": spread(call.get("stride") or size, rank),
        "padding": spread(call.get("padding", 0), rank),
        "ceil_mode": call.get("ceil_mode", False),
    }
    given = call.value("self")
    config["ceil_mode"] = config["ceil_mode"] and not _windows_fit(given.shape[2:], config)
    if is_maximum:
        config |= {"dilation": spread(call.get("dilation", 1), rank), "return_indices": False}
        given, config = _padded_for_ceil(call, given, config)
    else:
        config["count_include_pad"] = call.get("count_include_pad", True)
        if rank > 1:
            config["divisor_override"] = call.get("divisor_override")
    names = ("MaxPool", "MaxPooling") if is_maximum else ("AvgPool", "AveragePooling")
    layer = LayerCall(
        kind=f"torch.nn.{names[0]}{rank}d",
        keras=(f"{names[1]}{rank}D",),
        config=config,
        tensors={},
        order=call.writer.image_order(rank + 2),
    )
    return call.writer.by_rule(layer, given, call.node.outputs[0])


def _windows_fit(sizes: Any, config: Config) -> bool:
    """Return whether the last window ends at the border, so that ceil_mode changes nothing."""
    settings = zip(sizes, config["kernel_size"], config["stride"], config["padding"], strict=True)
    return all(isinstance(size, int) and (size + 2 * pad - window) % step == 0 for size, window, step, pad in settings)


def _padded_for_ceil(call: Call, given: Value, config: dict[str, Any]) -> tuple[Value, dict[str, Any]]:
    """Return an image that is padded up to the end of the last window, where ceil_mode adds a window."""
    sizes = given.shape[2:]
    if not config["ceil_mode"] or any(not isinstance(size, int) for size in sizes):
        return given, config
    settings = zip(call.shape[2:], sizes, config["kernel_size"], config["stride"], config["padding"], strict=True)
    widths = {
        axis: (pad, max((made - 1) * step + window - pad - size, 0))  # type: ignore[operator]
        for axis, (made, size, window, step, pad) in enumerate(settings, 2)
    }
    order = call.writer.image_order(given.rank)
    given = call.ordered(given, order)
    pads = tuple(widths.get(axis, (0, 0)) for axis in order)
    padded_sizes = (size + sum(widths[axis]) for axis, size in enumerate(sizes, 2))
    shape = (*given.shape[:2], *padded_sizes)
    padded = call.step(ops.pad(given, pads, constant_values=float("-inf")), shape, order)
    return padded, {**config, "ceil_mode": False, "padding": (0,) * len(sizes)}


@handles("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_average(call: Call) -> Result:
    rank, given = len(call.shape) - 2, call.value("self")
    if given.shape[2:] == call.shape[2:]:
        return given
    keras = (f"GlobalAveragePooling{rank}D", f"AdaptiveAveragePooling{rank}D")
    return _adaptive(call, given, f"AdaptiveAvgPool{rank}d", keras, {})


@handles("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_maximum(call: Call) -> Result:
    rank, given = len(call.shape) - 2, call.value("self")
    if 1 in call.node.config["used"]:
        raise RuleError(f"the indices of {call.name}")
    keras = (f"GlobalMaxPooling{rank}D", f"AdaptiveMaxPooling{rank}D")
    return [_adaptive(call, given, f"AdaptiveMaxPool{rank}d", keras, {"return_indices": False}), None]


def _adaptive(call: Call, given: Value, kind: str, keras: tuple[str, ...], config: dict[str, Any]) -> Value:
    made, sizes = call.shape[2:], given.shape[2:]
    pairs = list(zip(sizes, made, strict=True))
    divides = all(isinstance(size, int) and isinstance(out, int) and size % out == 0 for size, out in pairs)
    order = call.writer.image_order(given.rank)
    if divides and any(out != 1 for out in made):  # the windows are equal
        window = tuple(size // out for size, out in pairs)  # type: ignore[operator]
        plain = {"kernel_size": window, "stride": window, "padding": (0,) * len(window), "ceil_mode": False}
        more = {"dilation": (1,) * len(window), "return_indices": False} if "Max" in kind else {}
        more = more or {"count_include_pad": True, **({"divisor_override": None} if len(window) > 1 else {})}
        name = keras[0].removeprefix("Global")
        call_of = LayerCall(
            kind=f"torch.nn.{kind.removeprefix('Adaptive')}",
            keras=(name,),
            config={**plain, **more},
            tensors={},
            order=order,
        )
        return call.writer.by_rule(call_of, given, call.node.outputs[0])
    layer = LayerCall(
        kind=f"torch.nn.{kind}", keras=keras, config={**config, "output_size": made}, tensors={}, order=order
    )
    return call.writer.by_rule(layer, given, call.node.outputs[0])


@handles("one_hot")
def _one_hot(call: Call) -> Result:
    given = call.value("self")
    classes = call.get("num_classes", -1)
    if classes < 1:
        raise RuleError("one_hot without a number of classes")
    made = ops.one_hot(call.ordered(given, identity(given.rank)), classes, dtype=Dtype(call.dtype))
    return call.step(made)


__all__ = ["spread"]
