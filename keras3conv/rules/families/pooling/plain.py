"""Rules for max and average pooling by the layers of Keras.

Torch pads both ends equally: with -inf before a maximum, with zeros before an average, which may count as values.
Keras' padding="same" pads more at the end. Its backends differ for an average with strides, so no such Keras layer is
built; an existing one is read as JAX and TensorFlow compute it. Options that no Keras layer has stand in `windows.py`.
"""

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, require_value
from keras3conv.rules.helpers.padding import Pads, pads_before, same_padding, spatial_sizes, torch_pad, zero_padding
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

Options = tuple[dict[str, Any], ...]
"""Sets of constructor options."""

_LAYERS = {"Max": "MaxPooling", "Avg": "AveragePooling"}
_WINDOW = {"kernel_size": "pool_size", "stride": "strides"}
_MAX_FIELDS = {**_WINDOW, "padding": "padding", "ceil_mode": "", "dilation": "", "return_indices": ""}
_AVERAGE_FIELDS = {**_WINDOW, "padding": "", "ceil_mode": "", "count_include_pad": "padding", "divisor_override": ""}


def of_rank(fields: Mapping[str, str], rank: int) -> dict[str, str]:
    """Return the attributes of torch's average pooling over a number of axes; AvgPool1d has no divisor_override.

    Args:
        fields: The attributes of AvgPool2d and AvgPool3d, each with its Keras argument.
        rank: The number of spatial axes.
    """
    return {name: keras for name, keras in fields.items() if rank > 1 or name != "divisor_override"}


def _geometry(config: Config, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return kernel size, stride and padding of a torch pooling layer for every axis."""
    kernel, padding = ints(config["kernel_size"], rank), ints(config["padding"], rank)
    return kernel, ints(config["stride"] or kernel, rank), padding


def _pool(name: str, rank: int, size: Any, strides: Any, padding: str = "valid") -> LayerSpec:
    config = {"pool_size": size, "strides": strides, "padding": padding}
    return LayerSpec(kind=f"keras.layers.{_LAYERS[name]}{rank}D", config=config)


def _is_centred(kernel: tuple[int, ...], strides: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Return whether a torch pooling pads like Keras' padding="same": strides of 1, kernel sizes 2 * padding + 1."""
    return set(strides) == {1} and all(2 * pad + 1 == size for size, pad in zip(kernel, padding, strict=True))


# Max pooling
def _overhang(config: Config, rank: int) -> tuple[int, ...]:
    """Return how far ceil_mode lets a window reach beyond the end of each axis: stride - 1 elements, 0 without it."""
    return tuple(step - 1 if config["ceil_mode"] else 0 for step in _geometry(config, rank)[1])


def _max_is_stock(config: Config, *, rank: int) -> bool:
    """Return whether Keras' MaxPooling can compute the same as a torch MaxPool.

    This is possible if there is no dilation, no indices are returned, and no window starts in the padding at the end.
    """
    inside = all(
        not more or more < size - pad
        for size, pad, more in zip(*_geometry(config, rank)[::2], _overhang(config, rank), strict=True)
    )
    return set(ints(config["dilation"], rank)) == {1} and not config["return_indices"] and inside


def _max_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    if not _max_is_stock(config, rank=rank):
        raise RuleError(
            f"MaxPool{rank}d cannot become MaxPooling{rank}D if it is dilated, returns indices or has a window that "
            "starts in the padding at the end"
            ": use keras3conv's layer WindowMaximum"
        )
    kernel, strides, padding = _geometry(config, rank)
    axes = tuple((pad, pad + more) for pad, more in zip(padding, _overhang(config, rank), strict=True))
    if not any(map(any, axes)):
        return (_pool("Max", rank, kernel, strides),)
    if _is_centred(kernel, strides, padding):
        return (_pool("Max", rank, kernel, strides, "same"),)
    widths = {"pad_width": ((0, 0), *axes, (0, 0)), "mode": "constant", "constant_values": float("-inf")}
    return LayerSpec(kind="keras.ops.pad", config=widths), _pool("Max", rank, kernel, strides)


def _max_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    """Return the torch layers for a Keras max pooling: a MaxPool, and before it a padding layer if one is needed."""
    pool = last(layers)
    kernel, strides = _sizes(pool, rank)
    config = {"kernel_size": kernel, "stride": strides, "padding": (0,) * rank, "ceil_mode": False}
    config |= {"dilation": (1,) * rank, "return_indices": False}
    axes = pads_before(layers, rank) if len(layers) > 1 else _keras_pads(pool, rank)
    if "ZeroPadding" in layers[0].kind:
        before: LayerSpecs = (torch_pad("ZeroPad", axes),)
    else:
        if len(layers) > 1:
            require_value("keras.ops.pad", "constant_values", layers[0].config.get("constant_values"), float("-inf"))
        arguments = _padding_arguments(axes, kernel, strides)
        config |= arguments or {}
        before = () if arguments else (torch_pad("ConstantPad", axes, value=float("-inf")),)
    return (*before, LayerSpec(kind=f"torch.nn.MaxPool{rank}d", config=config))


def _sizes(pool: LayerSpec, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the window size and the strides of a Keras pooling layer."""
    size = ints(pool.config.get("pool_size", 2), rank)
    return size, ints(pool.config.get("strides") or size, rank)


def _keras_pads(pool: LayerSpec, rank: int) -> Pads:
    """Return the numbers of elements that a Keras pooling layer adds at the start and end of each axis.

    Raises:
        RuleError: The numbers depend on an input size that is unknown.
    """
    if pool.config.get("padding", "valid") == "valid":
        return ((0, 0),) * rank
    try:
        return tuple(same_padding(*axis) for axis in zip(spatial_sizes(pool, rank), *_sizes(pool, rank), strict=True))
    except RuleError as error:
        raise RuleError(f"{pool.kind.rpartition('.')[2]}: {error}") from None


def _padding_arguments(axes: Pads, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Config | None:
    """Return the arguments `padding` and `ceil_mode` with which a torch MaxPool pads like Keras; None if none do.

    With ceil_mode, MaxPool pads up to stride - 1 more elements at the end of every axis. So it is used only if the
    padding of every axis is larger at the end by exactly stride - 1.

    Args:
        axes: The padding at the start and the end of each axis.
        kernel: The size of the windows.
        strides: The strides of the windows.
    """
    if any(2 * start > size for (start, _), size in zip(axes, kernel, strict=True)):
        return None
    padding = tuple(start for start, _ in axes)
    extra = tuple(end - start for start, end in axes)
    if not any(extra):
        return {"padding": padding}
    if extra == tuple(stride - 1 for stride in strides):
        return {"padding": padding, "ceil_mode": True}
    return None


# Average pooling
def _average_is_stock(config: Config, *, rank: int) -> bool:
    """Return whether Keras' AveragePooling can compute the same as a torch AvgPool.

    This is possible if the output size is not rounded up, and if the padding is absent, is averaged too, or is that of
    padding="same".
    """
    kernel, strides, padding = _geometry(config, rank)
    if config["ceil_mode"] and set(strides) != {1}:
        return False
    if any(padding) and not config["count_include_pad"]:
        return _is_centred(kernel, strides, padding) and config.get("divisor_override") is None
    return True


def _average_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    if not _average_is_stock(config, rank=rank):
        options = "count_include_pad=False or ceil_mode=True"
        raise RuleError(
            f"AvgPool{rank}d with {options} cannot become AveragePooling{rank}D: use keras3conv's layer WindowAverage"
        )
    kernel, strides, padding = _geometry(config, rank)
    if any(padding) and not config["count_include_pad"]:
        return (_pool("Avg", rank, kernel, strides, "same"),)
    before = (zero_padding(tuple((pad, pad) for pad in padding)),) if any(padding) else ()
    divisor = config.get("divisor_override")
    after = (LayerSpec(kind="keras.ops.multiply", config={"x2": prod(kernel) / divisor}),) if divisor else ()
    return (*before, _pool("Avg", rank, kernel, strides), *after)


def _average_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    place = next(place for place, layer in enumerate(layers) if "AveragePooling" in layer.kind)
    pool = layers[place]
    kernel, strides = _sizes(pool, rank)
    config = {"kernel_size": kernel, "stride": strides, "padding": (0,) * rank, "ceil_mode": False}
    config |= {"count_include_pad": True} if rank == 1 else {"count_include_pad": True, "divisor_override": None}
    before: LayerSpecs = ()
    after: LayerSpecs = ()
    if place:
        require_value(pool.kind, "before", layers[0].kind, f"keras.layers.ZeroPadding{rank}D")
        axes = pads_before(layers[: place + 1], rank)
        even = all(start == end and 2 * start <= size for (start, end), size in zip(axes, kernel, strict=True))
        config |= {"padding": tuple(start for start, _ in axes)} if even else {}
        before = () if even else (torch_pad("ZeroPad", axes),)
    elif pool.config.get("padding", "valid") == "same":
        arguments, after = _same_padding(pool, rank)
        config |= arguments
    if layers[place + 1 :]:
        config["divisor_override"] = _divisor(last(layers), kernel)
    return (*before, LayerSpec(kind=f"torch.nn.AvgPool{rank}d", config=config), *after)


def _same_padding(pool: LayerSpec, rank: int) -> tuple[Config, LayerSpecs]:
    """Return the arguments of a torch AvgPool that computes a Keras average with padding="same", and a layer after it.

    The padding is not averaged. If Keras pads more at the end of an axis, ceil_mode does so too, with a stride above 1.
    With a stride of 1, both ends are padded as much as the end in Keras; the layer after the pooling crops the averages
    that are too many, if there are any.
    """
    axes, (_, strides) = _keras_pads(pool, rank), _sizes(pool, rank)
    padding = tuple(end if stride == 1 else start for (start, end), stride in zip(axes, strides, strict=True))
    rounded_up = any(end > pad for (_, end), pad in zip(axes, padding, strict=True))
    surplus = tuple((start - pad, 0) for (start, _), pad in zip(axes, padding, strict=True))
    after = (torch_pad("ZeroPad", surplus),) if any(map(any, surplus)) else ()
    return {"padding": padding, "count_include_pad": False, "ceil_mode": rounded_up}, after


def _divisor(scaling: LayerSpec, kernel: tuple[int, ...]) -> int:
    require_value(scaling.kind, "layer after an average", scaling.kind, "keras.ops.multiply")
    divisor = round(float(prod(kernel) / scaling.config["x2"]))
    if scaling.config["x2"] != prod(kernel) / divisor:
        factor = scaling.config["x2"]
        raise RuleError(f"an average over {kernel} times {factor} cannot become AvgPool, whose divisor is an integer")
    return divisor


def examples(rank: int, options: Options) -> tuple[Example, ...]:
    """Return one example per set of constructor options; an option with a value per axis is cut to `rank` values.

    The input sizes are alternately even and odd. AvgPool1d has no divisor_override, so its options are left out.

    Args:
        rank: The number of spatial axes.
        options: The sets of constructor options for three axes.
    """
    sizes = (3, 8, 11, 9), (5, 7, 8, 10)
    return tuple(
        Example(
            config={name: value[:rank] if isinstance(value, tuple) else value for name, value in config.items()},
            inputs=((2, *sizes[place % 2][: rank + 1]),),
        )
        for place, config in enumerate(entry for entry in options if rank > 1 or "divisor_override" not in entry)
    )


PLAIN: Options = (
    {"kernel_size": (3, 2, 2), "stride": (2, 3, 1), "padding": (0, 0, 0)},
    {"kernel_size": (3, 5, 3), "stride": (1, 1, 1), "padding": (1, 2, 1)},
    {"kernel_size": (3, 4, 5), "stride": (2, 3, 1), "padding": (1, 1, 2)},
)
"""Constructor options of poolings over three axes: without padding, with that of padding="same", with another."""

ONES = {"dilation": (1, 1, 1)}
_MAX_STOCK = (
    PLAIN[0] | ONES,
    {"kernel_size": (2, 3, 2), "stride": (2, 3, 1), "padding": (1, 1, 1)} | ONES,
    PLAIN[1] | ONES,
    {"kernel_size": (3, 4, 2), "stride": (2, 3, 2), "padding": (1, 0, 0), "ceil_mode": True} | ONES,
)
_AVERAGE_STOCK = (*PLAIN, PLAIN[1] | {"count_include_pad": False}, PLAIN[2] | {"divisor_override": 7})
for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.MaxPool{_rank}d",
            keras=f"keras.layers.MaxPooling{_rank}D",
            fields=_MAX_FIELDS,
            applies=partial(_max_is_stock, rank=_rank),
            to_keras=partial(_max_to_keras, rank=_rank),
            to_torch=partial(_max_to_torch, rank=_rank),
            layout="channels",
            examples=examples(_rank, _MAX_STOCK),
            train=True,
        )
    )
    register(
        Rule(
            torch=f"torch.nn.AvgPool{_rank}d",
            keras=f"keras.layers.AveragePooling{_rank}D",
            fields=of_rank(_AVERAGE_FIELDS, _rank),
            applies=partial(_average_is_stock, rank=_rank),
            to_keras=partial(_average_to_keras, rank=_rank),
            to_torch=partial(_average_to_torch, rank=_rank),
            layout="channels",
            examples=examples(_rank, _AVERAGE_STOCK),
            train=True,
            note='Average pooling with strides and padding="same" is read as JAX and TensorFlow compute it.',
        )
    )
