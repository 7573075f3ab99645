"""Pooling. Torch pads symmetrically: a maximum with -inf, an average with zeros that count."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import ints, last, pads, require_value

_LAYERS = {"Max": "MaxPooling", "Avg": "AveragePooling"}
_FIELDS = {
    ("Max", 1): ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    ("Max", 2): ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    ("Max", 3): ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    ("Avg", 1): ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    ("Avg", 2): ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ("Avg", 3): ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
}


def _pool(name: str, rank: int, size: Any, strides: Any, padding: str = "valid") -> LayerSpec:
    config = {"pool_size": size, "strides": strides, "padding": padding}
    return LayerSpec(kind=f"keras.layers.{_LAYERS[name]}{rank}D", config=config)


def _refuse_what_keras_cannot_say(config: Config, kind: str, rank: int) -> None:
    require_value(kind, "ceil_mode", config["ceil_mode"], False)
    require_value(kind, "return_indices", config.get("return_indices", False), False)
    require_value(kind, "dilation", ints(config.get("dilation", 1), rank), (1,) * rank)
    require_value(kind, "divisor_override", config.get("divisor_override"), None)
    if any(ints(config["padding"], rank)):
        require_value(kind, "count_include_pad", config.get("count_include_pad", True), True)


def _max_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    """A padded maximum is one with stride 1, where Keras' "same" pads alike, of which every n-th value is taken."""
    _refuse_what_keras_cannot_say(config, f"torch.nn.MaxPool{rank}d", rank)
    size, strides, padding = (ints(config[name], rank) for name in ("kernel_size", "stride", "padding"))
    if not any(padding):
        return (_pool("Max", rank, size, strides),)
    if [2 * pad + 1 for pad in padding] != [*size]:
        raise RuleError(
            f"MaxPool{rank}d with padding={padding} and kernel_size={size}: Keras pads by half the kernel only"
        )
    ones = (1,) * rank
    if strides == ones:
        return (_pool("Max", rank, size, ones, "same"),)
    return (_pool("Max", rank, size, ones, "same"), _pool("Max", rank, ones, strides))


def _average_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    _refuse_what_keras_cannot_say(config, f"torch.nn.AvgPool{rank}d", rank)
    size, strides, padding = (ints(config[name], rank) for name in ("kernel_size", "stride", "padding"))
    pool = _pool("Avg", rank, size, strides)
    if not any(padding):
        return (pool,)
    axes = tuple((pad, pad) for pad in padding)
    before = LayerSpec(kind=f"keras.layers.ZeroPadding{rank}D", config={"padding": axes[0] if rank == 1 else axes})
    return before, pool


def _max_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    first, second = layers[0].config, last(layers).config
    size, padding = ints(first["pool_size"], rank), (0,) * rank
    strides = ints(second.get("strides") or second["pool_size"], rank)
    if first.get("padding", "valid") == "same":
        if len(layers) == 1:
            _require_even_padding(layers[0], size, strides)
        padding = tuple(axis // 2 for axis in size)
    config: dict[str, Any] = {"kernel_size": size, "stride": strides, "padding": padding, "dilation": (1,) * rank}
    config |= {"return_indices": False, "ceil_mode": False}
    return (LayerSpec(kind=f"torch.nn.MaxPool{rank}d", config=config),)


def _average_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    keras = last(layers).config
    size, padding = ints(keras["pool_size"], rank), (0,) * rank
    kind = f"keras.layers.AveragePooling{rank}D"
    require_value(kind, "padding", keras.get("padding", "valid"), "valid")
    if len(layers) > 1:
        axes = pads(layers[0].config["padding"], rank)
        if any(start != end for start, end in axes):
            raise RuleError(f"AveragePooling{rank}D after padding={axes}: torch pads both ends alike")
        padding = tuple(start for start, _ in axes)
    config: dict[str, Any] = {"kernel_size": size, "stride": ints(keras.get("strides") or size, rank)}
    config |= {"padding": padding, "ceil_mode": False, "count_include_pad": True}
    if rank > 1:
        config["divisor_override"] = None
    return (LayerSpec(kind=f"torch.nn.AvgPool{rank}d", config=config),)


def _require_even_padding(spec: LayerSpec, size: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Keras' "same" is torch's padding for odd kernels without a stride; else it depends on the size of the input."""
    if set(strides) != {1} or not all(axis % 2 for axis in size):
        kind = spec.kind.rpartition(".")[2]
        raise RuleError(f'{kind} with padding="same", pool_size={size} and strides={strides} has no counterpart')


def _examples(name: str, rank: int) -> tuple[Example, ...]:
    even, odd = (8, 11, 9)[:rank], (7, 8, 10)[:rank]
    ones, sizes, strides = (1,) * rank, (3, 5, 3)[:rank], (2, 3, 1)[:rank]
    configs: list[dict[str, Any]] = [
        {"kernel_size": (3, 2, 2)[:rank], "stride": strides, "padding": (0,) * rank},
        {"kernel_size": (2, 3, 2)[:rank], "stride": (2, 3, 2)[:rank], "padding": (0,) * rank},
        {"kernel_size": sizes, "stride": ones, "padding": tuple(size // 2 for size in sizes)},
        {"kernel_size": sizes, "stride": strides, "padding": tuple(size // 2 for size in sizes)},
    ]
    if name == "Max":
        configs = [{"dilation": ones} | config for config in configs]
    return tuple(
        Example(config=config, inputs=((2, channels, *extent),))
        for config, (channels, extent) in zip(configs, ((3, even), (5, odd), (3, odd), (5, even)), strict=True)
    )


for _rank in (1, 2, 3):
    for _name, _there, _back in (("Max", _max_to_keras, _max_to_torch), ("Avg", _average_to_keras, _average_to_torch)):
        register(
            Rule(
                torch=f"torch.nn.{_name}Pool{_rank}d",
                keras=f"keras.layers.{_LAYERS[_name]}{_rank}D",
                fields=_FIELDS[_name, _rank],
                to_keras=partial(_there, rank=_rank),
                to_torch=partial(_back, rank=_rank),
                layout="channels",
                examples=_examples(_name, _rank),
                train=True,
            )
        )


def _global_applies(config: Config, *, rank: int) -> bool:
    size = config["output_size"]
    return size is not None and ints(size, rank) == (1,) * rank


def _global_to_keras(config: Config, *, kind: str, rank: int) -> LayerSpecs:
    if not _global_applies(config, rank=rank):
        raise RuleError(
            f"adaptive pooling to {config['output_size']} has no counterpart: Keras pools to one value only"
        )
    return (LayerSpec(kind=kind, config={"keepdims": True}),)


def _global_to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    """Torch keeps the axes of size one; where Keras does not, they are flattened away."""
    pool = LayerSpec(kind=kind, config={"output_size": 1})
    if last(layers).config.get("keepdims", False):
        return (pool,)
    return pool, LayerSpec(kind="torch.nn.Flatten", config={"start_dim": 1, "end_dim": -1})


for _torch, _keras in (("AdaptiveAvgPool", "GlobalAveragePooling"), ("AdaptiveMaxPool", "GlobalMaxPooling")):
    for _rank in (1, 2, 3):
        register(
            Rule(
                torch=f"torch.nn.{_torch}{_rank}d",
                keras=f"keras.layers.{_keras}{_rank}D",
                fields=("output_size",),
                applies=partial(_global_applies, rank=_rank),
                to_keras=partial(_global_to_keras, kind=f"keras.layers.{_keras}{_rank}D", rank=_rank),
                to_torch=partial(_global_to_torch, kind=f"torch.nn.{_torch}{_rank}d"),
                layout="channels",
                examples=(
                    Example(config={"output_size": 1}, inputs=((2, 3, *(6, 5, 7)[:_rank]),)),
                    Example(
                        config={"output_size": (1,) * _rank}, inputs=((2, 5, *(7, 4, 3)[:_rank]),), canonical=False
                    ),
                ),
                train=True,
            )
        )
