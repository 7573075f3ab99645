"""Rules for adaptive pooling (a given output size), global pooling, and LPPool (the root of summed powers)."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, paired, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

_EVEN, _ODD = (6, 5, 7), (7, 4, 3)


def _is_global(config: Config, *, rank: int) -> bool:
    size = config["output_size"]
    return size is not None and None not in _sizes(size, rank) and ints(size, rank) == (1,) * rank


def _sizes(size: Any, rank: int) -> tuple[int | None, ...]:
    return tuple(size) if isinstance(size, tuple | list) else (size,) * rank


def _torch_name(kind: str, rank: int) -> str:
    return f"Adaptive{'Avg' if 'Average' in kind else 'Max'}Pool{rank}d"


def _global_to_keras(config: Config, *, kind: str, rank: int) -> LayerSpecs:
    if not _is_global(config, rank=rank):
        raise RuleError(
            f"{_torch_name(kind, rank)}({config['output_size']}) cannot become {kind.rpartition('.')[2]}, which always "
            "pools to size 1"
            ": give the output size 1"
        )
    return (LayerSpec(kind=kind, config={"keepdims": True}),)


def _global_to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    """Return the torch layers for a Keras global pooling: a pooling, and a Flatten unless Keras has keepdims=True.

    Args:
        layers: The Keras layers; the last one is the global pooling.
        kind: The torch class, such as "torch.nn.AdaptiveAvgPool2d".
    """
    pool = LayerSpec(kind=kind, config={"output_size": 1})
    if last(layers).config.get("keepdims", False):
        return (pool,)
    return pool, LayerSpec(kind="torch.nn.Flatten", config={"start_dim": 1, "end_dim": -1})


def _adaptive_to_keras(config: Config, *, kind: str, rank: int) -> LayerSpecs:
    size = _sizes(config["output_size"], rank)
    require_value(kind, "return_indices", config.get("return_indices", False), False)
    if None in size:
        name = kind.rpartition(".")[2]
        raise RuleError(
            f"{_torch_name(kind, rank)} has the output size {size}, but {name} has no None (which keeps the input size)"
            ": give the size as a number"
        )
    return (LayerSpec(kind=kind, config={"output_size": ints(size, rank)}),)


def _adaptive_to_torch(layers: LayerSpecs, *, kind: str, rank: int) -> LayerSpecs:
    size = ints(last(layers).config["output_size"], rank)
    config = {"output_size": size, "return_indices": False} if "Max" in kind else {"output_size": size}
    return (LayerSpec(kind=kind, config=config),)


def _adaptive_examples(rank: int) -> tuple[Example, ...]:
    """Return examples to test the rules for a number of spatial axes: two for one axis, else one.

    More would be slow, because JAX takes seconds to compile each.
    """
    different = Example(config={"output_size": (4, 3, 2)[-rank:]}, inputs=((2, 6, *(3, 4, 5)[-rank:]),))
    alike = Example(config={"output_size": 3}, inputs=((2, 1, 4),), canonical=False)
    return (different, alike) if rank == 1 else (different,)


_PAIRS = (
    ("AdaptiveAvgPool", "GlobalAveragePooling", "AdaptiveAveragePooling"),
    ("AdaptiveMaxPool", "GlobalMaxPooling", "AdaptiveMaxPooling"),
)

for _torch, _global, _adaptive in _PAIRS:
    for _rank in (1, 2, 3):
        _kind = f"torch.nn.{_torch}{_rank}d"
        _inputs = ((2, 3, *_EVEN[:_rank]),), ((2, 5, *_ODD[:_rank]),)
        _examples = (
            Example(config={"output_size": 1}, inputs=_inputs[0]),
            Example(config={"output_size": (1,) * _rank}, inputs=_inputs[1], canonical=False),
        )
        register(
            Rule(
                torch=_kind,
                keras=f"keras.layers.{_global}{_rank}D",
                fields=paired("output_size"),
                applies=partial(_is_global, rank=_rank),
                to_keras=partial(_global_to_keras, kind=f"keras.layers.{_global}{_rank}D", rank=_rank),
                to_torch=partial(_global_to_torch, kind=_kind),
                layout="channels",
                examples=_examples,
                train=True,
            )
        )
        register(
            Rule(
                torch=_kind,
                keras=f"keras.layers.{_adaptive}{_rank}D",
                fields=paired(*["return_indices"] * ("Max" in _torch), output_size="output_size"),
                to_keras=partial(_adaptive_to_keras, kind=f"keras.layers.{_adaptive}{_rank}D", rank=_rank),
                to_torch=partial(_adaptive_to_torch, kind=_kind, rank=_rank),
                layout="channels",
                examples=_adaptive_examples(_rank),
                train=True,
            )
        )


def _power_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    """Return the Keras layers for torch's `LPPool`, which computes the root of the sum of powers in each window.

    The layers compute the power, the average, its product with the window size (which is the sum), and the root.
    """
    require_value(f"torch.nn.LPPool{rank}d", "ceil_mode", config["ceil_mode"], False)
    size, power = ints(config["kernel_size"], rank), float(config["norm_type"])
    number = 1
    for axis in size:
        number *= axis
    pool = {"pool_size": size, "strides": ints(config["stride"] or size, rank), "padding": "valid"}
    return (
        LayerSpec(kind="keras.ops.power", config={"x2": power}),
        LayerSpec(kind=f"keras.layers.AveragePooling{rank}D", config=pool),
        LayerSpec(kind="keras.layers.Rescaling", config={"scale": float(number)}),
        LayerSpec(kind="keras.ops.power", config={"x2": 1 / power}),
    )


def _power_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    if [layer.kind.rpartition(".")[2] for layer in layers] != ["power", f"AveragePooling{rank}D", "Rescaling", "power"]:
        needed = f"power, AveragePooling{rank}D, Rescaling, power"
        raise RuleError(
            f"{layers[-1].kind} can become LPPool{rank}d only as the last of the layers {needed}, in this order"
            ": add the missing layers"
        )
    power, pool = layers[0].config["x2"], layers[1].config
    require_value(layers[1].kind, "padding", pool["padding"], "valid")
    size, strides = ints(pool["pool_size"], rank), ints(pool["strides"], rank)
    config = {"norm_type": power, "kernel_size": size, "stride": strides, "ceil_mode": False}
    if rank == 1:  # LPPool1d multiplies by kernel_size, so it must be a number, not a tuple
        config |= {"kernel_size": size[0], "stride": strides[0]}
    return (LayerSpec(kind=f"torch.nn.LPPool{rank}d", config=config),)


def _power_example(power: float, size: tuple[int, ...], strides: tuple[int, ...], inputs: tuple[int, ...]) -> Example:
    one = len(inputs) == 3
    config = {"norm_type": power, "kernel_size": size[0] if one else size, "stride": strides[0] if one else strides}
    return Example(config=config, inputs=(inputs,))


for _rank in (1, 2, 3):
    _examples = (
        _power_example(2.0, (3, 2, 4)[:_rank], (2, 1, 3)[:_rank], (2, 3, *_EVEN[:_rank])),
        _power_example(4.0, (2, 4, 3)[:_rank], (2, 4, 1)[:_rank], (2, 5, *_ODD[:_rank])),
    )
    register(
        Rule(
            torch=f"torch.nn.LPPool{_rank}d",
            keras=f"keras.layers.AveragePooling{_rank}D",
            fields=paired("norm_type", "ceil_mode", kernel_size="pool_size", stride="strides"),
            to_keras=partial(_power_to_keras, rank=_rank),
            to_torch=partial(_power_to_torch, rank=_rank),
            layout="channels",
            examples=_examples,
            train=True,
            fallback=True,
        )
    )
