"""Pooling. Padding is a layer of its own: with -inf for a maximum, with counted zeros for an average."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import ints, last


def _pool_to_keras(config: Config, *, rank: int, name: str) -> LayerSpecs:
    if any(ints(config["padding"], rank)) or config["ceil_mode"]:
        raise RuleError(f"{name}Pool{rank}d with padding or ceil_mode has no counterpart in one Keras layer")
    keras = {
        "pool_size": ints(config["kernel_size"], rank),
        "strides": ints(config["stride"], rank),
        "padding": "valid",
    }
    layer = {"Max": "MaxPooling", "Avg": "AveragePooling"}[name]
    return (LayerSpec(kind=f"keras.layers.{layer}{rank}D", config=keras),)


def _pool_to_torch(layers: LayerSpecs, *, rank: int, name: str) -> LayerSpecs:
    keras = last(layers).config
    size = ints(keras["pool_size"], rank)
    config = {
        "kernel_size": size,
        "stride": ints(keras.get("strides") or size, rank),
        "padding": (0,) * rank,
        "ceil_mode": False,
    }
    return (LayerSpec(kind=f"torch.nn.{name}Pool{rank}d", config=config),)


for _name, _layer in (("Max", "MaxPooling"), ("Avg", "AveragePooling")):
    for _rank in (1, 2, 3):
        _extent = (8, 11, 9)[:_rank]
        _zeros = (0,) * _rank
        register(
            Rule(
                torch=f"torch.nn.{_name}Pool{_rank}d",
                keras=f"keras.layers.{_layer}{_rank}D",
                fields=("kernel_size", "stride", "padding", "ceil_mode"),
                to_keras=partial(_pool_to_keras, rank=_rank, name=_name),
                to_torch=partial(_pool_to_torch, rank=_rank, name=_name),
                layout="channels",
                examples=(
                    Example(
                        config={"kernel_size": (3, 2, 2)[:_rank], "stride": (2, 3, 1)[:_rank], "padding": _zeros},
                        inputs=((2, 3, *_extent),),
                    ),
                    Example(
                        config={"kernel_size": (2, 3, 2)[:_rank], "stride": (2, 3, 2)[:_rank], "padding": _zeros},
                        inputs=((2, 5, *_extent),),
                    ),
                ),
                train=True,
            )
        )
