"""Convert pooling operators."""

from typing import Any

import numpy as np

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.broadcasting import elementwise
from keras3conv.builder.to_keras.call import Call, LayerCall, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.errors import RuleError
from keras3conv.rules.rule import Config


def spread(value: Any, rank: int) -> tuple[int, ...]:
    """Return an argument as a tuple of one number per axis; a single number is repeated for all `rank` axes."""
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * rank if len(items) == 1 else items


@handles("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d")
def pooling(call: Call) -> Value:
    """Convert a pooling to a Keras layer, and return its output."""
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
        if _needs_counts(config):
            return _counted_average(call, given, config)
    names = ("MaxPool", "MaxPooling") if is_maximum else ("AvgPool", "AveragePooling")
    layer = LayerCall(
        kind=f"torch.nn.{names[0]}{rank}d",
        keras=(f"{names[1]}{rank}D",),
        config=config,
        tensors={},
        order=call.writer.image_order(rank + 2),
    )
    return call.writer.by_rule(layer, given, call.node.outputs[0])


def _needs_counts(config: Config) -> bool:
    """Return True if some windows of an average pooling average fewer elements than others, because of padding."""
    return config["ceil_mode"] or (any(config["padding"]) and not config["count_include_pad"])


def _counted_average(call: Call, tensor: Value, config: Config) -> Value:
    """Convert an average pooling whose windows at the border average fewer elements than the others.

    The input is padded with zeros and averaged; then each result is multiplied by a constant that corrects its divisor.

    Args:
        call: The call.
        tensor: The image.
        config: The configuration of the torch layer that computes the same.

    Returns:
        The output.
    """
    windows, steps, pads = config["kernel_size"], config["stride"], config["padding"]
    pairs = [
        (size, made)
        for size, made in zip(tensor.shape[2:], call.shape[2:], strict=True)
        if isinstance(size, int) and isinstance(made, int)
    ]
    if len(pairs) < len(windows) or config.get("divisor_override"):
        raise RuleError(
            f"the windows of {call.name} at the border have fewer elements than the others: this is supported only "
            "for images of fixed size, without divisor_override"
        )
    order, rank = call.writer.image_order(tensor.rank), len(windows)
    tensor, widths, factors = call.ordered(tensor, order), {}, np.ones((1,) * tensor.rank)
    for axis, ((size, made), window, step, pad) in enumerate(zip(pairs, windows, steps, pads, strict=True), 2):
        starts = np.arange(made) * step - pad
        low, high = (-pad, size + pad) if config["count_include_pad"] else (0, size)
        counts = np.minimum(starts + window, high) - np.maximum(starts, low)
        widths[axis] = (pad, max(int(starts[-1]) + window - size, 0))
        factors = factors * (window / counts).reshape([-1 if one == axis else 1 for one in range(tensor.rank)])
    shape = tuple(size + sum(widths[axis]) for axis, (size, _) in enumerate(pairs, 2))
    pads_of = tuple(widths.get(axis, (0, 0)) for axis in order)
    if any(map(any, pads_of)):
        tensor = call.step(ops.pad(tensor, pads_of), (*tensor.shape[:2], *shape), order, tensor.dtype)
    options: dict[str, Any] = {"pool_size": tuple(windows), "strides": tuple(steps)}
    options |= {"data_format": "channels_first"} if order[1] == 1 else {}
    pooled = call.writer.new(call.shape, order, call.dtype)
    call.writer.layer(f"keras.layers.AveragePooling{rank}D", options, tensor, (), f"{call.node.path}.average", pooled)
    constant = Constant(name=f"{call.node.outputs[0].name} {rank}", array=factors, shape=factors.shape)
    return elementwise(call, [pooled, constant], lambda first, second: first * second)


def _windows_fit(sizes: Any, config: Config) -> bool:
    """Return whether the last window of each axis ends at the border, so that ceil_mode changes nothing."""
    settings = zip(sizes, config["kernel_size"], config["stride"], config["padding"], strict=True)
    return all(isinstance(size, int) and (size + 2 * pad - window) % step == 0 for size, window, step, pad in settings)


def _padded_for_ceil(call: Call, tensor: Value, config: dict[str, Any]) -> tuple[Value, dict[str, Any]]:
    """Pad an image with minus infinity, so that its max pooling is the same without ceil_mode.

    Returns:
        The padded image, and the configuration without padding and ceil_mode; both unchanged without ceil_mode.
    """
    sizes = tensor.shape[2:]
    if not config["ceil_mode"] or any(not isinstance(size, int) for size in sizes):
        return tensor, config
    settings = zip(call.shape[2:], sizes, config["kernel_size"], config["stride"], config["padding"], strict=True)
    widths = {
        axis: (pad, max((made - 1) * step + window - pad - size, 0))
        for axis, (made, size, window, step, pad) in enumerate(settings, 2)
    }
    order = call.writer.image_order(tensor.rank)
    tensor = call.ordered(tensor, order)
    pads = tuple(widths.get(axis, (0, 0)) for axis in order)
    padded_sizes = (size + sum(widths[axis]) for axis, size in enumerate(sizes, 2))
    shape = (*tensor.shape[:2], *padded_sizes)
    padded = call.step(ops.pad(tensor, pads, constant_values=float("-inf")), shape, order)
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
        raise RuleError(f"the model uses the indices that {call.name} returns, but Keras computes only the maxima")
    keras = (f"GlobalMaxPooling{rank}D", f"AdaptiveMaxPooling{rank}D")
    return [_adaptive(call, given, f"AdaptiveMaxPool{rank}d", keras, {"return_indices": False}), None]


def _adaptive(call: Call, tensor: Value, kind: str, keras: tuple[str, ...], config: dict[str, Any]) -> Value:
    made, sizes = call.shape[2:], tensor.shape[2:]
    pairs = list(zip(sizes, made, strict=True))
    divides = all(isinstance(size, int) and isinstance(out, int) and size % out == 0 for size, out in pairs)
    order = call.writer.image_order(tensor.rank)
    if divides and any(out != 1 for out in made):  # the windows are equal
        window = tuple(size // out for size, out in pairs)
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
        return call.writer.by_rule(call_of, tensor, call.node.outputs[0])
    layer = LayerCall(
        kind=f"torch.nn.{kind}", keras=keras, config={**config, "output_size": made}, tensors={}, order=order
    )
    return call.writer.by_rule(layer, tensor, call.node.outputs[0])
