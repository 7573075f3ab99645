"""Rules for max and average pooling.

Torch pads both ends equally: with -inf before a maximum, with zeros before an average, which may count as values.
Keras' padding="same" pads more at the end. Its backends differ for an average with strides, so no such Keras layer is
built; an existing one is read as JAX and TensorFlow compute it. Options that no Keras layer has (dilated windows,
averages without the padding) become a layer of keras3conv that computes the windows with slices.
"""

from functools import partial
from math import prod
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, pads, require_value
from keras3conv.rules.helpers.padding import Pads, same_padding
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, Fields, LayerSpec, LayerSpecs, Rule

_LAYERS = {"Max": "MaxPooling", "Avg": "AveragePooling"}
_WINDOWS = {
    name: f"keras3conv.frameworks.keras.layers.Window{kind}" for name, kind in (("Max", "Maximum"), ("Avg", "Average"))
}
_WINDOW = {"kernel_size": "pool_size", "stride": "strides"}
_MAX_FIELDS = {**_WINDOW, "padding": "padding", "ceil_mode": "", "dilation": "", "return_indices": ""}
_WINDOW_MAXIMUM_FIELDS = {**_MAX_FIELDS, "ceil_mode": "ceil_mode", "dilation": "dilation_rate"}
_WINDOW_AVERAGE_FIELDS = {
    **_WINDOW,
    **{name: name for name in ("padding", "ceil_mode", "count_include_pad", "divisor_override")},
}
_AVERAGE_FIELDS = {**_WINDOW, "padding": "", "ceil_mode": "", "count_include_pad": "padding", "divisor_override": ""}


def _of_rank(fields: Fields, rank: int) -> Fields:
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
    before: LayerSpecs = ()
    if len(layers) > 1 and "ZeroPadding" in layers[0].kind:
        require_value(pool.kind, "padding", pool.config.get("padding", "valid"), "valid")
        before = (_torch_pad("ZeroPad", pads(layers[0].config.get("padding", 1), rank)),)
    else:
        axes = _infinite_pads(layers, kernel, strides, rank)
        arguments = _padding_arguments(axes, kernel, strides)
        config |= arguments or {}
        before = () if arguments else (_torch_pad("ConstantPad", axes, value=float("-inf")),)
    return (*before, LayerSpec(kind=f"torch.nn.MaxPool{rank}d", config=config))


def _infinite_pads(layers: LayerSpecs, kernel: tuple[int, ...], strides: tuple[int, ...], rank: int) -> Pads:
    """Return the numbers of elements (-inf) that a Keras max pooling adds at the start and the end of each axis.

    Args:
        layers: The max pooling, after a padding layer if there is one.
        kernel: The size of the windows.
        strides: The strides of the windows.
        rank: The number of spatial axes.
    """
    pool = last(layers)
    if len(layers) == 1:
        return _keras_pads(pool, kernel, strides)
    require_value(pool.kind, "padding", pool.config.get("padding", "valid"), "valid")
    config = layers[0].config
    require_value("keras.ops.pad", "constant_values", config.get("constant_values"), float("-inf"))
    return pads(config["pad_width"], rank + 2)[1:-1]


def _sizes(pool: LayerSpec, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the window size and the strides of a Keras pooling layer."""
    size = ints(pool.config.get("pool_size", 2), rank)
    return size, ints(pool.config.get("strides") or size, rank)


def _keras_pads(pool: LayerSpec, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Pads:
    """Return the numbers of elements that a Keras pooling layer adds at the start and end of each axis.

    Raises:
        RuleError: The numbers depend on an input size that is unknown.
    """
    if pool.config.get("padding", "valid") == "valid":
        return ((0, 0),) * len(kernel)
    first = 2 if pool.config.get("data_format") == "channels_first" else 1
    sizes = pool.inputs[0][first : first + len(kernel)] if pool.inputs else (None,) * len(kernel)
    try:
        return tuple(same_padding(*axis) for axis in zip(sizes, kernel, strides, strict=True))
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


def _torch_pad(name: str, axes: Pads, **config: Any) -> LayerSpec:
    numbers = tuple(number for axis in reversed(axes) for number in axis)
    return LayerSpec(kind=f"torch.nn.{name}{len(axes)}d", config={"padding": numbers, **config})


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
    axes = tuple((pad, pad) for pad in padding)
    zeros = LayerSpec(kind=f"keras.layers.ZeroPadding{rank}D", config={"padding": axes[0] if rank == 1 else axes})
    before = (zeros,) if any(padding) else ()
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
        require_value(pool.kind, "padding", pool.config.get("padding", "valid"), "valid")
        require_value(pool.kind, "before", layers[0].kind, f"keras.layers.ZeroPadding{rank}D")
        axes = pads(layers[0].config.get("padding", 1), rank)
        even = all(start == end and 2 * start <= size for (start, end), size in zip(axes, kernel, strict=True))
        config |= {"padding": tuple(start for start, _ in axes)} if even else {}
        before = () if even else (_torch_pad("ZeroPad", axes),)
    elif pool.config.get("padding", "valid") == "same":
        config |= _same_padding_arguments(pool, kernel, strides)
        after = _without_surplus(pool, kernel, strides)
    if layers[place + 1 :]:
        config["divisor_override"] = _divisor(last(layers), kernel)
    return (*before, LayerSpec(kind=f"torch.nn.AvgPool{rank}d", config=config), *after)


def _same_padding_arguments(pool: LayerSpec, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Config:
    """Return the arguments with which a torch AvgPool computes what a Keras average with padding="same" does.

    The padding is not averaged. If Keras pads more at the end of an axis, ceil_mode does so too, with a stride above 1.
    With a stride of 1, both ends are padded as much as the end in Keras; the averages that are too many are removed.
    """
    axes = _keras_pads(pool, kernel, strides)
    padding = tuple(end if stride == 1 else start for (start, end), stride in zip(axes, strides, strict=True))
    rounded_up = any(end > pad for (_, end), pad in zip(axes, padding, strict=True))
    return {"padding": padding, "count_include_pad": False, "ceil_mode": rounded_up}


def _without_surplus(pool: LayerSpec, kernel: tuple[int, ...], strides: tuple[int, ...]) -> LayerSpecs:
    """Return, in a tuple, the torch layer that crops surplus averages at the start of each axis; empty if none."""
    axes = zip(_keras_pads(pool, kernel, strides), strides, strict=True)
    numbers = tuple((start - end if stride == 1 else 0, 0) for (start, end), stride in axes)
    return (_torch_pad("ZeroPad", numbers),) if any(map(any, numbers)) else ()


def _divisor(scaling: LayerSpec, kernel: tuple[int, ...]) -> int:
    require_value(scaling.kind, "layer after an average", scaling.kind, "keras.ops.multiply")
    divisor = round(float(prod(kernel) / scaling.config["x2"]))
    if scaling.config["x2"] != prod(kernel) / divisor:
        factor = scaling.config["x2"]
        raise RuleError(f"an average over {kernel} times {factor} cannot become AvgPool, whose divisor is an integer")
    return divisor


# Pooling options that only the keras3conv layers with slices support
def _windows_to_keras(config: Config, *, rank: int, name: str) -> LayerSpecs:
    require_value(f"torch.nn.{name}Pool{rank}d", "return_indices", config.get("return_indices", False), False)
    kernel, strides, padding = _geometry(config, rank)
    keras = {"pool_size": kernel, "strides": strides, "padding": padding, "ceil_mode": config["ceil_mode"]}
    if name == "Max":
        keras["dilation_rate"] = ints(config["dilation"], rank)
    else:
        keras |= {"count_include_pad": config["count_include_pad"], "divisor_override": config.get("divisor_override")}
    return (LayerSpec(kind=_WINDOWS[name], config=keras),)


def _windows_to_torch(layers: LayerSpecs, *, rank: int, name: str) -> LayerSpecs:
    keras = last(layers).config
    kernel = ints(keras["pool_size"], len(keras["pool_size"]))
    if len(kernel) != rank:
        raise RuleError(f"a pooling over {len(kernel)} axes cannot become {name}Pool{rank}d: change the number of axes")
    config = {"kernel_size": kernel, "ceil_mode": keras["ceil_mode"]}
    config |= {"stride": ints(keras["strides"], rank), "padding": ints(keras["padding"], rank)}
    if name == "Max":
        config |= {"dilation": ints(keras["dilation_rate"], rank), "return_indices": False}
    else:
        config |= {field: keras[field] for field in [*_of_rank(_AVERAGE_FIELDS, rank)][4:]}
    return (LayerSpec(kind=f"torch.nn.{name}Pool{rank}d", config=config),)


def _examples(rank: int, options: tuple[dict[str, Any], ...]) -> tuple[Example, ...]:
    """Return one example per set of constructor options; an option with a value per axis is cut to `rank` values.

    The input sizes are alternately even and odd.
    """
    sizes = (3, 8, 11, 9), (5, 7, 8, 10)
    return tuple(
        Example(
            config={name: value[:rank] if isinstance(value, tuple) else value for name, value in config.items()},
            inputs=((2, *sizes[place % 2][: rank + 1]),),
        )
        for place, config in enumerate(options)
    )


_PLAIN: tuple[dict[str, Any], ...] = (
    {"kernel_size": (3, 2, 2), "stride": (2, 3, 1), "padding": (0, 0, 0)},
    {"kernel_size": (3, 5, 3), "stride": (1, 1, 1), "padding": (1, 2, 1)},
    {"kernel_size": (3, 4, 5), "stride": (2, 3, 1), "padding": (1, 1, 2)},
)
_ONES = {"dilation": (1, 1, 1)}
_MAX_STOCK = (
    _PLAIN[0] | _ONES,
    {"kernel_size": (2, 3, 2), "stride": (2, 3, 1), "padding": (1, 1, 1)} | _ONES,
    _PLAIN[1] | _ONES,
    {"kernel_size": (3, 4, 2), "stride": (2, 3, 2), "padding": (1, 0, 0), "ceil_mode": True} | _ONES,
)
_MAX_WINDOWS = (
    {"kernel_size": (3, 2, 2), "stride": (2, 1, 3), "padding": (1, 0, 1), "dilation": (2, 3, 1)},
    {"kernel_size": (2, 3, 2), "stride": (2, 4, 3), "padding": (1, 1, 1), "ceil_mode": True} | _ONES,
)
_AVERAGE_STOCK = (*_PLAIN, _PLAIN[1] | {"count_include_pad": False}, _PLAIN[2] | {"divisor_override": 7})
_AVERAGE_WINDOWS: tuple[dict[str, Any], ...] = (
    _PLAIN[2] | {"count_include_pad": False},
    {"kernel_size": (3, 2, 2), "stride": (2, 3, 2), "padding": (1, 1, 0), "ceil_mode": True},
    _PLAIN[2] | {"ceil_mode": True, "count_include_pad": False, "divisor_override": 3},
)


def _without_divisor(options: tuple[dict[str, Any], ...], rank: int) -> tuple[dict[str, Any], ...]:
    """Return the sets of constructor options for `rank` axes: AvgPool1d has no divisor_override."""
    return tuple(entry for entry in options if rank > 1 or "divisor_override" not in entry)


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
            examples=_examples(_rank, _MAX_STOCK),
            train=True,
        )
    )
    register(
        Rule(
            torch=f"torch.nn.AvgPool{_rank}d",
            keras=f"keras.layers.AveragePooling{_rank}D",
            fields=_of_rank(_AVERAGE_FIELDS, _rank),
            applies=partial(_average_is_stock, rank=_rank),
            to_keras=partial(_average_to_keras, rank=_rank),
            to_torch=partial(_average_to_torch, rank=_rank),
            layout="channels",
            examples=_examples(_rank, _without_divisor(_AVERAGE_STOCK, _rank)),
            train=True,
            note='Average pooling with strides and padding="same" is read as JAX and TensorFlow compute it.',
        )
    )
    for _name, _fields, _options in (
        ("Max", _WINDOW_MAXIMUM_FIELDS, _MAX_WINDOWS),
        ("Avg", _of_rank(_WINDOW_AVERAGE_FIELDS, _rank), _without_divisor(_AVERAGE_WINDOWS, _rank)),
    ):
        register(
            Rule(
                torch=f"torch.nn.{_name}Pool{_rank}d",
                keras=_WINDOWS[_name],
                fields=_fields,
                to_keras=partial(_windows_to_keras, rank=_rank, name=_name),
                to_torch=partial(_windows_to_torch, rank=_rank, name=_name),
                layout="channels",
                examples=_examples(_rank, _options),
                train=True,
            )
        )
